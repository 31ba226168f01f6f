"""The command that erases a tenant, and its search for what is left."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from redis import Redis

from tests.services.test_erasure import BOB, MARKER, run
from tests.storage.hosts import TENANT, WebProcess
from trajectories.exceptions import NotFound
from trajectories.models import Tenant
from trajectories.services import erasure, erasure_audit
from trajectories.storage.store import get_store, using

pytestmark = pytest.mark.usefixtures("celery_broker")


def test_a_tenant_that_there_never_was_is_an_error_and_does_not_take_the_name(
    archive_db: str, redis_tier: Redis
) -> None:
    with pytest.raises(CommandError, match="There is no tenant 'missing'"):
        run("missing")
    Tenant(slug="missing").full_clean()
    with pytest.raises(NotFound):
        erasure.erase(get_store(), "missing", timeout_s=0)


def test_it_asks_for_the_name_before_it_erases(
    archive_db: str, redis_tier: Redis, own: WebProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.record()
    own.persist()
    monkeypatch.setattr("builtins.input", lambda question: "acme?")
    with using(own.store), pytest.raises(CommandError, match=r"Nothing was erased\."):
        call_command("erase_tenant", TENANT)
    assert len(own.ids()) == 1


def test_the_search_finds_a_tenant_that_is_still_there_in_every_place(
    archive_db: str, redis_tier: Redis, own: WebProcess
) -> None:
    own.record(request_summary=MARKER, phases=[{"phase_name": "spec"}])
    own.record()
    own.persist(own.waiting()[:1])
    with using(own.store):
        markers = [
            form
            for text in [*erasure_audit.markers_of(get_store(), TENANT), MARKER]
            for form in erasure_audit.forms_of(text)
        ]
        found = {trace.place: trace.found for trace in erasure_audit.find_traces(get_store(), TENANT, markers)}
    assert found["archive, trajectories"] == found["archive, phases"] == found["archive, tenants"] == 1
    assert found["outbox"] == 2
    assert found["Redis"] > 0
    assert found[own.conf.outbox_path] + found.get(own.conf.outbox_path + "-wal", 0) > 0
    with using(own.store), pytest.raises(CommandError, match="Something is left"):
        run(TENANT, "--only-search")
    assert len(own.ids()) == 2


def test_quotes_in_records_of_another_tenant_are_reported(archive_db: str, redis_tier: Redis, own: WebProcess) -> None:
    own.record()
    own.record(tenant=BOB, request_summary=f"as acme says: {MARKER}")
    own.persist()
    with using(own.store), pytest.raises(CommandError, match="Something is left"):
        run(TENANT, "--marker", MARKER)


def test_a_redis_that_refuses_to_rewrite_its_files_is_reported_and_can_be_skipped(
    archive_db: str, redis_tier: Redis, own: WebProcess
) -> None:
    own.record()
    own.persist()
    commands = ("bgsave", "bgrewriteaof", "config")
    redis_tier.acl_setuser("default", enabled=True, commands=[f"-{name}" for name in commands])
    try:
        with using(own.store):
            with pytest.raises(CommandError, match=r"Nothing is left elsewhere\. Redis does not write its files anew"):
                run(TENANT, "--marker", MARKER)
            assert run(TENANT, "--marker", MARKER, "--keep-redis-files").endswith("Nothing is left.\n")
    finally:
        redis_tier.acl_setuser("default", enabled=True, commands=[f"+{name}" for name in commands])


@pytest.mark.parametrize("offset", [0, 1024**2 - 3, 1024**2 - 1, 1024**2, 2 * 1024**2 - 2])
def test_a_marker_across_the_pieces_in_which_a_file_is_read_is_found_once(tmp_path: Path, offset: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"-" * offset + b"marker" + b"-" * 1024**2)
    assert erasure_audit.in_file(path, [b"marker", b"longer than the other one"]) == 1
