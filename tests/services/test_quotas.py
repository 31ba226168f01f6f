"""Quotas of a tenant: enforced on ingest without asking the archive, and counted by it exactly."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import orjson
import pytest
from django.apps import apps
from django.db import connections
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.examples import body
from tests.storage.away import archive_away
from tests.storage.hosts import WebProcess, made, new_id
from trajectories.domain.record import Record, tombstone
from trajectories.exceptions import ArchiveUnavailable, InvalidInput, OutboxUnavailable, QuotaExceeded
from trajectories.models import Tenant, Trajectory
from trajectories.services import ingest, outcomes, quotas, reads
from trajectories.services.quotas import Quotas, Room
from trajectories.storage import archive_reads, archive_writes
from trajectories.storage.archive_reads import Usage
from trajectories.storage.outbox_rows import Draft
from trajectories.storage.store import Store


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """The looks at the archive that were started; the test takes them."""
    started: list[Callable[[], None]] = []
    monkeypatch.setattr(quotas, "_in_thread", started.append)
    return started


@pytest.fixture
def limited(db: None, tmp_path: Path, looks: list[Callable[[], None]]) -> Callable[..., WebProcess]:
    return lambda **limits: WebProcess(tmp_path / "outbox", **limits)


def test_a_tenant_records_up_to_its_quota(limited: Callable[..., WebProcess]) -> None:
    host = limited(quota_records={"*": 2})
    for _ in range(2):
        host.record()
    with pytest.raises(QuotaExceeded) as refused:
        host.record()
    assert (refused.value.status, refused.value.code) == (403, "quota_exceeded")
    assert refused.value.message.startswith("This tenant may have 2 records, and has 2.")
    with pytest.raises(QuotaExceeded):
        ingest.record_many(host.store, "alice", [orjson.dumps(body())])
    assert len(host.waiting()) == 2


@pytest.mark.parametrize(("tenant", "count"), [("alice", 1), ("bob", 3), ("charlie", 2)])
def test_a_tenant_may_have_a_quota_of_its_own(limited: Callable[..., WebProcess], tenant: str, count: int) -> None:
    host = limited(quota_records={"*": 2, "alice": 1, "bob": 3})
    for _ in range(count):
        host.record(tenant)
    with pytest.raises(QuotaExceeded):
        host.record(tenant)


def test_bytes_have_a_quota_too(limited: Callable[..., WebProcess]) -> None:
    host = limited(quota_bytes={"alice": 1_000})
    host.record(request_summary="a" * 1_000)
    with pytest.raises(QuotaExceeded, match="1000 bytes of records"):
        host.record()
    host.record("bob")


def test_a_new_version_of_a_record_is_not_one_record_more(limited: Callable[..., WebProcess]) -> None:
    host = limited(quota_records={"*": 2})
    for number in range(5):
        host.record(id=str(UUID(int=1)), error=str(number))


def test_a_change_may_add_as_many_bytes_as_the_tenant_has_room_for(limited: Callable[..., WebProcess]) -> None:
    host = limited(quota_bytes={"*": 2_000})
    run = host.record(request_summary="a" * 500)
    before = len(run.body)
    host.update(run.id, error="e" * 500)
    with pytest.raises(QuotaExceeded, match=r"may have 2000 bytes of records, has \d+, and this change adds 1\d{3}\."):
        host.update(run.id, metadata={"log": "x" * 1_000})
    assert before < len(host.retrieve(run.id).body) < 2_000


def test_a_change_of_a_full_tenant_is_accepted_if_it_adds_nothing(limited: Callable[..., WebProcess]) -> None:
    host = limited(quota_bytes={"*": 1_000})
    run = host.record(request_summary="a" * 1_000, outcome="unknown")
    with pytest.raises(QuotaExceeded):
        host.record()
    with pytest.raises(QuotaExceeded):
        host.update(run.id, metadata={"log": "x" * 1_000_000})
    assert orjson.loads(host.update(run.id, outcome="success").body)["outcome"] == "success"
    assert orjson.loads(host.update(run.id, request_summary="a").body)["request_summary"] == "a"
    host.record()  # the shorter version has made room


def test_a_full_tenant_may_post_a_version_that_adds_nothing(limited: Callable[..., WebProcess]) -> None:
    host = limited(quota_bytes={"*": 1_000})
    id_ = str(host.record(request_summary="a" * 1_000).id)
    with pytest.raises(QuotaExceeded, match="may have 1000 bytes of records, and has"):
        host.record(id=str(new_id()))
    with pytest.raises(QuotaExceeded) as longer:
        host.record(id=id_, request_summary="a" * 1_001)
    with pytest.raises(QuotaExceeded) as changed:
        host.update(UUID(id_), request_summary="a" * 1_001)
    assert longer.value.message == changed.value.message
    assert "this change adds 1." in longer.value.message
    for summary in ("b" * 1_000, "b" * 1_000, "b" * 900):
        assert orjson.loads(host.record(id=id_, request_summary=summary).body)["request_summary"] == summary
    host.record(id=id_, request_summary="short")
    host.record()  # the shorter version has made room


def test_a_new_version_may_add_as_many_bytes_as_the_tenant_has_room_for(limited: Callable[..., WebProcess]) -> None:
    host = limited(quota_bytes={"*": 2_000})
    id_ = str(host.record(request_summary="a" * 500).id)
    host.record(id=id_, request_summary="a" * 1_000)
    with pytest.raises(QuotaExceeded, match=r"has \d+, and this change adds 2000\."):
        host.record(id=id_, request_summary="a" * 3_000)
    assert len(host.waiting()) == 2


def test_a_tenant_with_all_its_records_may_post_new_versions_of_them(limited: Callable[..., WebProcess]) -> None:
    host = limited(quota_records={"*": 1}, quota_bytes={"*": 10_000})
    id_ = str(host.record().id)
    host.record(id=id_, error="e" * 1_000)
    with pytest.raises(QuotaExceeded, match="may have 1 records"):
        host.record(id=str(new_id()))


def test_a_retry_of_a_full_tenant_is_accepted(limited: Callable[..., WebProcess]) -> None:
    host = limited(quota_records={"*": 1})
    first, again = (ingest.record(host.store, "alice", orjson.dumps(body()), idempotency_key="run 1") for _ in range(2))
    assert (first.id, again.is_new) == (again.id, False)


@pytest.mark.parametrize("hot", [10, 1], ids=["in the hot cache", "in the archive alone"])
def test_a_full_tenant_may_post_a_shorter_version_of_a_record_of_another_host(
    limited: Callable[..., WebProcess], hot: int
) -> None:
    record = made(new_id(), 1, error="x" * 300)
    archive_writes.mirror([record])
    host = limited(quota_bytes={"*": 50}, hot_max_records=hot)
    host.record()
    host.list()
    assert (host.store.hot_cache.known("alice", record.id) is not None) == (hot > 1)
    with pytest.raises(QuotaExceeded, match="this change adds 1"):
        host.record(id=str(record.id), error="x" * 301)
    shorter = host.record(id=str(record.id), error="x" * 299)
    assert shorter.recorded_at_us == record.recorded_at_us
    assert host.retrieve(record.id).body == shorter.body


@pytest.mark.django_db(transaction=True)
def test_a_full_tenant_waits_for_the_archive_if_only_that_can_have_the_run(
    limited: Callable[..., WebProcess], looks: list[Callable[[], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    archived = [made(new_id(), number + 1) for number in range(2)]
    archive_writes.mirror(archived)
    host = limited(quota_records={"*": 2}, hot_max_records=1)
    known = host.record()
    host.list()
    looks[0]()
    searched, newest = list[UUID](), reads.newest

    def noted(store: Store, tenant: str, id_: UUID) -> Record:
        searched.append(id_)
        return newest(store, tenant, id_)

    monkeypatch.setattr(reads, "newest", noted)
    with archive_away():
        with pytest.raises(ArchiveUnavailable):
            host.record(id=str(archived[0].id))
        with pytest.raises(ArchiveUnavailable):
            ingest.record_many(host.store, "alice", [one.body for one in archived])
        results = ingest.record_many(host.store, "alice", [archived[0].body, archived[1].body, known.body])
    names = [type(one.outcome).__name__ for one in results]
    assert names == ["ArchiveUnavailable", "ArchiveUnavailable", "Accepted"]
    assert searched == [archived[0].id] * 3, "a request asked again"
    host.record(id=str(archived[0].id))


@pytest.mark.django_db(transaction=True)
def test_a_tenant_with_room_does_not_wait_for_the_archive(limited: Callable[..., WebProcess]) -> None:
    archived = made(new_id(), 1)
    archive_writes.mirror([archived])
    host = limited(quota_records={"*": 2}, hot_max_records=1)
    with archive_away():
        host.record(id=str(archived.id))


def lines_of(*fields: dict[str, Any]) -> list[bytes]:
    return [orjson.dumps(body(**one)) for one in fields]


def test_of_the_lines_of_a_full_tenant_those_that_add_nothing_are_accepted(limited: Callable[..., WebProcess]) -> None:
    host = limited(quota_bytes={"*": 1_000})
    ids = [str(host.record(request_summary="a" * 400).id) for _ in range(3)]
    lines = lines_of(
        {"id": ids[0], "request_summary": "short"},
        {},
        {"id": ids[1], "request_summary": "a" * 401},
        {"id": ids[2], "request_summary": "b" * 400},
        {"project": 7},
    )
    results = ingest.record_many(host.store, "alice", lines)
    assert [type(one.outcome).__name__ for one in results] == [
        "Accepted",
        "QuotaExceeded",
        "QuotaExceeded",
        "Accepted",
        "InvalidInput",
    ]
    assert len(host.waiting()) == 5


def test_a_request_of_which_quotas_leave_no_line_is_refused_whole(limited: Callable[..., WebProcess]) -> None:
    host = limited(quota_bytes={"*": 1_000})
    id_ = str(host.record(request_summary="a" * 1_000).id)
    with pytest.raises(QuotaExceeded):
        ingest.record_many(host.store, "alice", lines_of({"project": 7}, {"id": id_, "request_summary": "a" * 1_001}))
    (invalid,) = ingest.record_many(host.store, "alice", lines_of({"project": 7}))
    assert isinstance(invalid.outcome, InvalidInput)
    assert len(host.waiting()) == 1


def test_the_lines_of_a_request_grow_into_the_room_that_those_before_left(limited: Callable[..., WebProcess]) -> None:
    host = limited(quota_bytes={"*": 20_000})
    ids = [str(host.record(request_summary="a").id) for _ in range(4)]
    sizes = 9_000, 9_000, 9_000, 500
    lines = lines_of(*({"id": id_, "request_summary": "x" * size} for id_, size in zip(ids, sizes, strict=True)))
    results = ingest.record_many(host.store, "alice", lines)
    names = [type(one.outcome).__name__ for one in results]
    assert names == ["Accepted", "Accepted", "QuotaExceeded", "Accepted"]
    used = host.store.part(Quotas)._used["alice"]
    assert used.bytes == sum(len(host.retrieve(UUID(id_)).body) for id_ in ids) < 20_000
    shrinking = lines_of({"id": ids[0], "request_summary": "x"}, {"id": ids[2], "request_summary": "x" * 9_000})
    names = [type(one.outcome).__name__ for one in ingest.record_many(host.store, "alice", shrinking)]
    assert names == ["Accepted", "Accepted"], "the first line makes room for the second"
    assert host.store.part(Quotas)._reserved == {}


def test_changes_of_one_commit_share_the_room(limited: Callable[..., WebProcess]) -> None:
    host = limited(quota_bytes={"*": 30_000})
    rooms = [Room(host.store.part(Quotas), "alice") for _ in range(2)]
    rooms[0].expect(0, 20_000)
    with pytest.raises(QuotaExceeded, match="has 20000, and this change adds 20000"):
        rooms[1].expect(0, 20_000)
    rooms[0].expect(0, 20_000)  # the same commit again
    with rooms[0], rooms[1]:
        rooms[1].expect(0, 10_000)
    rooms[1].expect(0, 30_000)


def test_a_commit_that_fails_keeps_no_room(limited: Callable[..., WebProcess], monkeypatch: pytest.MonkeyPatch) -> None:
    host = limited(quota_bytes={"*": 3_000})
    run = host.record()

    def failing(drafts: list[Draft]) -> None:
        for draft in drafts:
            assert draft.expect_room
            draft.expect_room(2_500)
        raise OutboxUnavailable("full")

    with monkeypatch.context() as patched:
        patched.setattr(host.store, "append", failing)
        for _ in range(2):
            with pytest.raises(OutboxUnavailable):
                host.update(run.id, error="e" * 2_400)
    host.update(run.id, error="e" * 2_400)


def test_the_lines_of_a_full_tenant_search_for_so_many_records(
    limited: Callable[..., WebProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trajectories.services.lines.MAX_SEARCHED", 2)
    host = limited(quota_records={"*": 1})
    known = str(host.record().id)
    host.list()
    lines = lines_of({}, {"id": known}, *({"id": str(new_id())} for _ in range(4)))
    found = ingest.record_many(host.store, "alice", lines)
    names = [type(one.outcome).__name__ for one in found]
    assert names == ["QuotaExceeded", "Accepted", "QuotaExceeded", "QuotaExceeded", "NotRead", "NotRead"]


def test_a_change_is_not_one_record_more(limited: Callable[..., WebProcess]) -> None:
    host = limited(quota_records={"*": 1}, quota_bytes={"*": 10_000})
    run = host.record()
    host.update(run.id, error="e" * 1_000)


def test_a_change_of_a_version_that_came_meanwhile_needs_room_too(
    limited: Callable[..., WebProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = limited(quota_bytes={"*": 2_000})
    run = host.record(error="e" * 1_000)
    read = reads.newest(host.store, "alice", run.id)
    host.update(run.id, error=None)
    host.record(request_summary="a" * 1_400)
    monkeypatch.setattr(reads, "newest", lambda *_: read)
    with pytest.raises(QuotaExceeded):
        host.update(run.id, error="e" * 1_000)


@pytest.mark.parametrize("is_hot", [True, False], ids=["in the hot cache", "in the outbox alone"])
def test_what_new_versions_add_is_counted(limited: Callable[..., WebProcess], is_hot: bool) -> None:
    host = limited(quota_bytes={"*": 10_000})
    id_ = str(new_id())
    for size in (10, 4_000, 100, 4_000):
        if is_hot:
            host.list()
        newest = host.record(id=id_, error="x" * size)
    assert host.store.part(Quotas)._used["alice"] == Usage(1, len(newest.body))
    host.record(id=id_, error="x" * 9_000)
    with pytest.raises(QuotaExceeded):
        host.record(id=id_, error="x" * 10_000)


def test_what_a_change_adds_to_a_record_of_another_host_is_counted(limited: Callable[..., WebProcess]) -> None:
    record = made(new_id(), 1, error="x" * 300)
    archive_writes.mirror([record])
    host = limited(quota_bytes={"*": 10_000})
    host.list()  # a body in the hot cache is compressed
    changed = host.record(id=str(record.id), error="x" * 1_300)
    assert host.store.part(Quotas)._used["alice"].bytes == len(changed.body) - len(record.body)
    assert len(host.update(record.id, error="x" * 2_300).body) - len(changed.body) == 1_000
    assert host.store.part(Quotas)._used["alice"].bytes == len(changed.body) - len(record.body) + 1_000


def test_a_repeated_body_adds_nothing(limited: Callable[..., WebProcess]) -> None:
    host = limited(quota_bytes={"*": 10_000})
    for _ in range(3):
        record = host.record(id=str(UUID(int=1)))
    assert host.store.part(Quotas)._used["alice"] == Usage(1, len(record.body))


def test_late_outcomes_are_refused_at_a_quota_and_not_counted(limited: Callable[..., WebProcess]) -> None:
    host = limited(quota_records={"*": 2})
    run = host.record()
    for name in ("merged", "reverted", "released"):
        host.outcome(run.id, name=name)
    host.record()
    with pytest.raises(QuotaExceeded):
        host.outcome(run.id, name="rated")
    line = orjson.dumps({"name": "rated", "value": True, "trajectory_id": str(run.id)})
    with pytest.raises(QuotaExceeded):
        outcomes.record_many(host.store, "alice", [line], source=None)
    assert host.outcomes(run.id) == ["merged", "reverted", "released"]


def test_a_quota_counts_records_of_other_hosts_and_deletion_makes_room(
    limited: Callable[..., WebProcess], looks: list[Callable[[], None]]
) -> None:
    others = [made(new_id(), number + 1) for number in range(2)]
    archive_writes.mirror(others)
    host = limited(quota_records={"*": 2})
    host.record()
    (look,) = looks
    look()
    with pytest.raises(QuotaExceeded):
        host.record()
    archive_writes.mirror([tombstone("alice", others[0].id, 10)])
    look()
    host.record()
    assert len(looks) == 1  # the second is due after seconds


def test_a_repeat_of_a_run_that_only_the_archive_has_is_not_one_more(
    limited: Callable[..., WebProcess], looks: list[Callable[[], None]]
) -> None:
    archived = [made(new_id(), number + 1, error="x" * 300) for number in range(5)]
    archive_writes.mirror(archived)
    host = limited(quota_records={"*": 12}, hot_max_records=1)
    host.record()
    host.list()
    looks[0]()
    for one in archived:
        ingest.record(host.store, "alice", one.body)
    assert host.store.part(Quotas)._used["alice"].records == 10
    for _ in range(7):
        host.record()
    with pytest.raises(QuotaExceeded, match="may have 12 records, and has 12"):
        host.record()


def test_runs_on_their_way_to_the_archive_count_when_it_is_asked_again(
    limited: Callable[..., WebProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quotas, "LOOK_AGAIN_EVERY_S", 0.0)
    host = limited(quota_records={"*": 3}, quota_bytes={"*": 5_000})
    id_ = str(host.record().id)
    host.record(id=id_, error="e" * 100)
    for _ in range(2):
        host.record()
    expected = host.store.part(Quotas)._used["alice"]
    for _ in range(2):
        with pytest.raises(QuotaExceeded):
            host.record()
        assert host.store.part(Quotas)._used["alice"] == expected
        archive_writes.mirror([row.record for row in host.waiting()])


def test_a_full_tenant_asks_the_archive_seldom(
    limited: Callable[..., WebProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = limited(quota_records={"*": 1})
    host.record()
    asked, usage = list[Any](), archive_reads.usage

    def noted(tenants: list[str]) -> dict[str, Usage]:
        asked.append(tenants)
        return usage(tenants)

    monkeypatch.setattr(archive_reads, "usage", noted)
    for _ in range(5):
        with pytest.raises(QuotaExceeded):
            host.record()
    assert len(asked) == 1


def test_more_new_runs_than_are_noted_stay_counted(
    limited: Callable[..., WebProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quotas, "_MAX_NEW", 2)
    host = limited(quota_records={"*": 4})
    for _ in range(4):
        host.record()
    with pytest.raises(QuotaExceeded):
        host.record()


@pytest.mark.django_db(transaction=True)
def test_without_the_archive_the_last_counts_decide(
    limited: Callable[..., WebProcess], looks: list[Callable[[], None]]
) -> None:
    host = limited(quota_records={"*": 2})
    host.record()
    with archive_away():
        looks[0]()
        host.record()
        with pytest.raises(QuotaExceeded):
            host.record()


def test_without_a_quota_nothing_is_counted(
    limited: Callable[..., WebProcess], looks: list[Callable[[], None]]
) -> None:
    host = limited()
    host.record()
    assert (looks, host.store.part(Quotas)._used) == ([], {})


_steps = st.lists(
    st.tuples(
        st.sampled_from([UUID(int=number) for number in range(1, 5)]), st.sampled_from(["", "é", "long" * 9, None])
    ),
    max_size=12,
)


@pytest.mark.django_db
@settings(max_examples=25, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(_steps, max_size=4))
def test_the_archive_counts_exactly_its_records(batches: list[list[tuple[UUID, Any]]]) -> None:
    tenant, stamp = f"tenant-{new_id().hex}", 0
    for batch in batches:
        records = []
        for id_, error in batch:
            stamp += 1
            is_deletion = error is None
            records.append(
                tombstone(tenant, id_, stamp) if is_deletion else made(id_, stamp, tenant=tenant, error=error)
            )
        archive_writes.mirror(records)
    bodies = [text.encode() for text in Trajectory.objects.filter(tenant=tenant).values_list("body", flat=True)]
    expected = Usage(len(bodies), sum(map(len, bodies)))
    assert archive_reads.usage([tenant]).get(tenant, Usage()) == expected


def test_the_migration_counts_records_of_an_earlier_release(archive_db: str) -> None:
    archive_writes.mirror([made(new_id(), number + 1, error="é") for number in range(3)])
    expected = archive_reads.usage(["alice"])
    Tenant.objects.using(archive_db).update(record_count=0, body_bytes=0)
    migration = import_module("trajectories.migrations.0011_tenant_usage")
    migration.count(apps, SimpleNamespace(connection=connections[archive_db]))
    assert archive_reads.usage(["alice"]) == expected
    assert expected["alice"].records == 3
