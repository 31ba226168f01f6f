"""A rebuild reads records without the lock of their tenant, and counts each as it is when it has
the lock."""

from __future__ import annotations

import pytest

from tests.storage.hosts import TENANT, made, new_id
from tests.storage.test_rollups import HOUR_US, archive_as_earlier_release, expect_same
from trajectories.conf import Settings
from trajectories.domain.query import Query
from trajectories.domain.record import Record, tombstone
from trajectories.models import Tenant
from trajectories.storage import archive_writes, rollup_reads, rollup_rebuild
from trajectories.storage.archive_writes import mirror

PHASES = [{"phase_name": "spec", "model": "m"}, {"phase_name": "test"}]
LATER = 100 * HOUR_US


@pytest.fixture
def records(archive_db: str, monkeypatch: pytest.MonkeyPatch) -> list[Record]:
    """Twelve records without roll-ups, of which a rebuild counts six at a time, or else two."""
    monkeypatch.setattr(rollup_rebuild, "PAGE", 2)
    monkeypatch.setattr(rollup_rebuild, "MAX_RECORDS", 6)
    found = [made(new_id(), at * HOUR_US, project=str(at), phases=PHASES) for at in range(12)]
    archive_as_earlier_release(found)
    return found


def rebuilt(monkeypatch: pytest.MonkeyPatch, between: list[Record]) -> list[int]:
    """Return the records of each step of a rebuild; ``between`` are archived before its first lock."""
    rollup_rebuild._begin(TENANT)
    lock, left = rollup_rebuild._lock, [between]

    def late(tenant: str) -> Tenant | None:
        if left:
            mirror(left.pop())
        return lock(tenant)

    monkeypatch.setattr(rollup_rebuild, "_lock", late)
    counts = []
    while (count := rollup_rebuild._step(TENANT)) is not None:
        counts.append(count)
    return counts


def expect_exact(records: int) -> None:
    expect_same(TENANT)
    found = rollup_reads.summary(TENANT, Query())
    assert found is not None
    assert found.as_json()["count"] == records
    assert list(rollup_rebuild.differences(TENANT, Settings())) == []


def test_most_records_are_counted_in_few_transactions(records: list[Record], monkeypatch: pytest.MonkeyPatch) -> None:
    assert rebuilt(monkeypatch, []) == [6, 6]
    expect_exact(12)
    assert Tenant.objects.using(archive_writes.alias()).get().selected_seq == 12


def test_records_that_arrive_meanwhile_are_counted_later(
    records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    later = [made(new_id(), LATER), made(records[9].id, LATER, phases=PHASES)]
    assert rebuilt(monkeypatch, later) == [6, 6, 1]
    expect_exact(13)


@pytest.mark.parametrize("is_deleted", [False, True])
def test_a_record_that_changes_meanwhile_is_read_again(
    records: list[Record], monkeypatch: pytest.MonkeyPatch, is_deleted: bool
) -> None:
    id_ = records[1].id
    change = tombstone(TENANT, id_, LATER) if is_deleted else made(id_, LATER, project="changed", phases=PHASES[:1])
    assert rebuilt(monkeypatch, [change])[0] == 2
    expect_exact(11 if is_deleted else 12)


def test_two_rebuilds_at_once_count_each_record_once(records: list[Record], monkeypatch: pytest.MonkeyPatch) -> None:
    rollup_rebuild._begin(TENANT)
    lock, others = rollup_rebuild._lock, [1]

    def late(tenant: str) -> Tenant | None:
        if others:
            others.clear()
            assert rollup_rebuild._step(TENANT) == 6
        return lock(tenant)

    monkeypatch.setattr(rollup_rebuild, "_lock", late)
    assert rollup_rebuild._step(TENANT) == 2
    monkeypatch.setattr(rollup_rebuild, "_lock", lock)
    while rollup_rebuild._step(TENANT) is not None:
        pass
    expect_exact(12)


def test_the_sums_of_a_transaction_are_bounded(records: list[Record], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollup_rebuild, "MAX_PARTS", 4)
    assert rebuilt(monkeypatch, [])[0] == 4  # as many projects, and one signature
    expect_exact(12)


def test_a_worker_goes_on_where_it_stopped(records: list[Record]) -> None:
    assert rollup_rebuild.catch_up(TENANT, 1) == -5
    assert Tenant.objects.using(archive_writes.alias()).get().rolled_seq == 6
    assert rollup_rebuild.catch_up(TENANT, 100) == 94
    assert rollup_rebuild.behind() == []
    expect_exact(12)
