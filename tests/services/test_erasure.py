"""Erasure leaves nothing of a tenant in any tier or file, nothing comes back, and other tenants
lose nothing."""

from __future__ import annotations

from contextlib import nullcontext
from io import StringIO
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from redis import Redis

from tests import baker_recipes
from tests.storage.away import archive_away
from tests.storage.hosts import QUICK, TENANT, WebProcess, draft
from trajectories import persistence, relay
from trajectories.domain.clock import SECOND_US
from trajectories.exceptions import Deleted
from trajectories.models import ApiKey, Erasure, Quarantined, Tenant, Tombstone, Trajectory
from trajectories.services import erasure, erasure_audit
from trajectories.services.erasure import Erased, ErasureIncomplete
from trajectories.storage.archive_writes import quarantine
from trajectories.storage.redis_tier import REBUILDING
from trajectories.storage.store import get_store, using

pytestmark = pytest.mark.usefixtures("celery_broker")

BOB = "bob"
MARKER = "a sentence that no other record has"


def erase(process: WebProcess, tenant: str = TENANT, timeout_s: float = 5.0) -> Erased:
    return erasure.erase(process.store, tenant, timeout_s=timeout_s)


def follow(process: WebProcess) -> None:
    """Do what the relay of its host does every few seconds."""
    relay.follow_erasures(process.store)


def run(*arguments: str, at: WebProcess | None = None) -> str:
    """Run the command, on the host ``at`` if it is given."""
    out = StringIO()
    with using(at.store) if at else nullcontext():
        call_command("erase_tenant", *arguments, "--no-input", stdout=out)
    return out.getvalue()


def left_in_archive() -> int:
    models = Trajectory, Quarantined, Tombstone, ApiKey, Tenant
    return sum(model.objects.filter(pk__isnull=False).count() for model in models)


# Deleted data.


def test_an_erased_tenant_leaves_every_tier_and_others_keep_their_data(
    archive_db: str, redis_tier: Redis, own: WebProcess, beside: WebProcess, other_host: WebProcess
) -> None:
    persistence.rebuild(get_store())
    kept = own.record(tenant=BOB)
    own.record(), own.record()
    own.persist()
    poison = other_host.record()
    quarantine(poison, "refused")
    deleted = own.record()
    own.persist(own.waiting()[-1:])
    own.delete(deleted.id)
    baker_recipes.api_key.make(tenant=Tenant.objects.get(pk=TENANT))
    everybody = own, beside, other_host
    assert [len(process.ids()) for process in everybody] == [2, 2, 3]
    assert [process.ids(tenant=BOB) for process in everybody] == [[kept.id]] * 3

    erased = erase(own)
    follow(other_host)

    assert (erased.archive, erased.quarantine, erased.api_keys) == (2, 1, 1)
    assert erased.outbox >= 3
    assert [process.ids() for process in everybody] == [[]] * 3
    assert [process.ids(tenant=BOB) for process in everybody] == [[kept.id]] * 3
    assert set(Tenant.objects.values_list("pk", flat=True)) == {BOB}
    assert left_in_archive() == 2
    assert redis_tier.keys(f"*{{{TENANT}}}*") == []
    assert [process.outbox.count_of(TENANT) for process in everybody] == [0] * 3


def test_processes_drop_it_before_the_next_read(
    archive_db: str, redis_tier: Redis, own: WebProcess, beside: WebProcess
) -> None:
    persistence.rebuild(get_store())
    own.record(), own.record(tenant=BOB)
    own.persist()
    assert [len(beside.ids()), len(beside.ids(tenant=BOB))] == [1, 1]
    assert beside.hot.size[0] == 2
    erase(own)
    beside.ids(tenant=BOB)
    assert beside.hot.size[0] == 1


def test_keys_that_a_host_remembers_for_when_the_database_is_away_are_forgotten(
    archive_db: str, redis_tier: Redis, own: WebProcess
) -> None:
    own.record(), own.record(tenant=BOB)
    own.persist()
    own.outbox.remember_key("of-acme", f'["digest","{TENANT}",["read"],null]')
    own.outbox.remember_key("of-bob", f'["digest","{BOB}",["read"],null]')
    erase(own)
    assert own.outbox.remembered_key("of-acme", 0) is None
    assert own.outbox.remembered_key("of-bob", 0)


def test_its_rows_in_the_admin_are_erased(archive_db: str, redis_tier: Redis) -> None:
    key = baker_recipes.api_key.make(tenant__slug=TENANT)
    user = baker_recipes.staff.make()
    for row in (key.tenant, key):
        LogEntry.objects.log_actions(user.pk, [row], CHANGE, single_object=True)
    for slug in (TENANT, BOB):
        Group.objects.create(name=f"tenant:{slug}")
    out = run(TENANT)
    assert "1 API keys" in out
    assert "3 rows of the admin" in out
    assert not LogEntry.objects.exists()
    assert [group.name for group in Group.objects.all()] == [f"tenant:{BOB}"]


def test_log_entries_of_its_keys_are_erased_after_an_interruption(archive_db: str, redis_tier: Redis) -> None:
    key = baker_recipes.api_key.make(tenant__slug=TENANT)
    LogEntry.objects.log_actions(baker_recipes.staff.make().pk, [key], CHANGE, single_object=True)
    batch = get_store().redis_tier.open_batch([(TENANT, uuid4())])
    with pytest.raises(CommandError, match="a worker has records of it in hand"):
        run(TENANT, "--timeout", "0")
    get_store().redis_tier.close_batch(batch)
    run(TENANT)
    assert not LogEntry.objects.exists()


def test_a_tenant_known_only_to_the_outbox_is_erased(archive_db: str, redis_tier: Redis, own: WebProcess) -> None:
    rows = [own.record(), own.record()]
    erased = erase(own)
    assert erased.outbox == 2
    persistence.persist(get_store(), rows)
    assert left_in_archive() == 0
    assert own.ids() == []


def test_ids_that_prove_nothing_are_not_searched_for(archive_db: str, redis_tier: Redis, own: WebProcess) -> None:
    everywhere, shared, of_its_own = (str(UUID(int=0)), str(uuid4()), str(uuid4()))
    for id_ in (everywhere, shared, of_its_own):
        own.record(id=id_)
    own.record(tenant=BOB, id=shared)
    own.persist()
    assert "Nothing is left." in run(TENANT, at=own)


def test_another_host_is_not_searched_for_nothing(
    archive_db: str, redis_tier: Redis, own: WebProcess, other_host: WebProcess
) -> None:
    record = own.record()
    own.persist()
    said = run(TENANT, at=own)
    assert f"{TENANT} --only-search --marker {record.id}" in said
    follow(other_host)
    with pytest.raises(CommandError, match="searched for nothing"):
        run(TENANT, "--only-search", at=other_host)
    assert "Nothing is left." in run(TENANT, "--only-search", "--marker", str(record.id), at=other_host)
    Path(other_host.conf.outbox_path + "-journal").write_bytes(record.id.bytes)
    with pytest.raises(CommandError, match="Something is left"):
        run(TENANT, "--only-search", "--marker", str(record.id), at=other_host)


def test_an_existing_redis_dump_is_rewritten(archive_db: str, redis_tier: Redis, own: WebProcess) -> None:
    own.record()
    own.persist()
    configured = redis_tier.config_get("save")
    redis_tier.config_set("save", "")
    try:
        redis_tier.save()
        assert "Nothing is left." in run(TENANT, at=own)
    finally:
        redis_tier.config_set("save", configured["save"] or "")


@pytest.mark.parametrize("text", ["Grüße an Ömer", 'so "it" is'])
def test_a_text_that_json_or_ascii_writes_otherwise_is_found_where_it_is_quoted(
    archive_db: str, redis_tier: Redis, own: WebProcess, text: str
) -> None:
    own.record()
    own.record(tenant=BOB, request_summary=text)
    own.persist()
    markers = erasure_audit.forms_of(text)
    found = {trace.place: trace.found for trace in erasure_audit.find_traces(own.store, TENANT, markers)}
    assert found["archive, records of other tenants"] == 1


# Late copies.


def test_late_copies_from_anywhere_are_dropped_and_do_not_recreate_the_tenant(
    archive_db: str, redis_tier: Redis, own: WebProcess, other_host: WebProcess
) -> None:
    persistence.rebuild(get_store())
    own.record()
    own.persist()
    late = other_host.record()
    rows = other_host.waiting()
    erase(own)
    persistence.persist(get_store(), [late])  # a worker that had it already
    assert get_store().redis_tier.find(TENANT, late.id) is None
    assert redis_tier.keys(f"*{{{TENANT}}}*") == []
    other_host.settle(rows)
    assert other_host.waiting() == []
    with pytest.raises(Deleted):
        own.record()
    with pytest.raises(Deleted):
        other_host.record()
    quarantine(late, "refused")
    persistence.delete(get_store(), [late])
    assert left_in_archive() == 0
    assert own.outbox.counts().waiting == other_host.outbox.counts().waiting == 0


def test_redis_keys_of_a_killed_worker_are_removed_by_the_next_one(
    archive_db: str, redis_tier: Redis, own: WebProcess
) -> None:
    persistence.rebuild(get_store())
    own.record()
    own.persist()
    erase(own)
    late = WebProcess(Path(own.conf.outbox_path).with_name("third"), feed_poll_s=0.0).record()
    note = get_store().redis_tier.open_batch([(TENANT, late.id)])
    get_store().redis_tier.merge([late], from_authority=False)
    (notes,) = redis_tier.keys("*:open")
    redis_tier.zadd(notes, {note: 1})  # long ago
    assert persistence.settle(get_store()) == 1
    assert redis_tier.keys(f"*{{{TENANT}}}*") == []


def test_it_waits_for_workers_and_a_rebuild_with_earlier_reads(
    archive_db: str, redis_tier: Redis, own: WebProcess
) -> None:
    own.record()
    own.persist()
    batch = get_store().redis_tier.open_batch([(TENANT, uuid4())])
    with pytest.raises(ErasureIncomplete, match="a worker has records of it in hand"):
        erase(own, timeout_s=0.0)
    get_store().redis_tier.close_batch(batch)
    assert get_store().redis_tier.claim(REBUILDING, 60)
    with pytest.raises(ErasureIncomplete, match="Redis is being rebuilt"):
        erase(own, timeout_s=0.0)
    get_store().redis_tier.release(REBUILDING)
    assert own.ids() == []
    erase(own, timeout_s=0.0)
    assert left_in_archive() == 0
    assert get_store().redis_tier.claim(REBUILDING, 60)


def test_its_name_is_refused_until_late_copies_can_no_longer_come(
    archive_db: str, redis_tier: Redis, own: WebProcess
) -> None:
    own.record()
    own.persist()
    erase(own)
    with pytest.raises(ValidationError, match="late copies"):
        Tenant(slug=TENANT).full_clean()
    with pytest.raises(CommandError, match="late copies"):
        call_command("create_api_key", TENANT, scopes=["read"])
    Erasure.objects.update(stamp=0)
    persistence.forget_tombstones(get_store())
    own.outbox.forget_tombstones(2**62)
    Tenant(slug=TENANT).full_clean()
    own.record()
    own.persist()
    assert len(own.ids()) == 1


def test_with_the_archive_away_nothing_is_erased_and_the_same_call_does_it_later(
    archive_db: str, redis_tier: Redis, own: WebProcess
) -> None:
    own.record()
    own.persist()
    with using(own.store), archive_away(), pytest.raises(CommandError, match="the same command goes on"):
        call_command("erase_tenant", TENANT, no_input=True)
    assert len(own.ids()) == 1
    erase(own)
    assert own.ids() == []


def test_more_records_than_a_batch_holds_are_sent(
    archive_db: str, redis_tier: Redis, own: WebProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "BATCH", 3)
    monkeypatch.setattr("trajectories.storage.outbox_rows.CHUNK", 2)
    own.outbox.append([draft(uuid4()) for _ in range(10)])
    own.persist()
    erased = erase(own)
    assert (erased.archive, erased.outbox) == (10, 10)
    assert (left_in_archive(), own.outbox.count_of(TENANT)) == (0, 0)


def test_records_that_both_have_are_not_erased_repeatedly(archive_db: str, redis_tier: Redis, own: WebProcess) -> None:
    own.record()
    own.persist()
    erase(own)
    Erasure.objects.update(stamp=1)
    own.outbox.forget_tombstones(2**62)
    last_n = own.outbox.last_n()
    follow(own)
    assert own.outbox.last_n() == last_n


def test_a_host_that_was_killed_during_an_erasure_resumes_it(
    archive_db: str, redis_tier: Redis, own: WebProcess, other_host: WebProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    for process in (own, other_host):
        process.record()
        process.persist()
    erase(own)

    def killed(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr("trajectories.storage.outbox_rows.erase_some", killed)
        with pytest.raises(SystemExit):
            follow(other_host)
    assert other_host.outbox.count_of(TENANT) == 1
    with pytest.raises(Deleted):
        other_host.record()
    other_host.restart()
    follow(other_host)
    assert other_host.outbox.count_of(TENANT) == 0


def test_hosts_check_once_more_even_if_the_commands_clock_is_slow(
    archive_db: str, redis_tier: Redis, own: WebProcess
) -> None:
    own.record()
    own.persist()
    erase(own)
    (first,) = own.outbox.erasures().values()
    erase(WebProcess(Path(own.conf.outbox_path), now_us=lambda: first - 3_600 * SECOND_US, **QUICK))
    (second,) = own.outbox.erasures().values()
    assert second == first + 2
