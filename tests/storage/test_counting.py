"""Workers count records in selections and sums of choices from what they remember of them."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import pytest
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage import test_choice_sums
from tests.storage.hosts import TENANT, made, new_id
from tests.storage.test_rollups import batch_of, batches, expect_same, properties, tenants
from tests.strategies import examples
from trajectories.domain.record import Record, facets_of
from trajectories.models import RollUp, Tenant
from trajectories.storage import counting, recent_records, rollups
from trajectories.storage.archive_writes import mirror
from trajectories.storage.choice_rows import CHOICES
from trajectories.storage.recent_records import Recent, RecentRecords

PHASES = [{"phase_name": "spec", "model": "m"}, {"phase_name": "test", "model": "other"}]


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollups, "COUNT_PAGE", 3)
    recent_records.written.forget()


@settings(properties, max_examples=examples(15))
@given(given=batches, processes=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2)), min_size=1, max_size=6))
def test_sums_are_those_of_a_scan_whichever_process_wrote_and_counted(
    given: list[list[Any]], processes: list[tuple[int, int]], archive_db: str
) -> None:
    tenant, memories = next(tenants), [RecentRecords(), RecentRecords()]
    with pytest.MonkeyPatch.context() as patch:
        for batch, (process, counts) in zip(given, cycle(processes), strict=False):
            patch.setattr(recent_records, "written", memories[process])
            mirror(batch_of(tenant, batch))
            for _ in range(counts):
                counting.count(tenant)
        patch.setattr(recent_records, "written", memories[0])
        while counting.count(tenant):
            pass
    expect_same(tenant, [{"phase": "spec"}, {"selection_method": "thompson-sampling"}])
    if Tenant.objects.using(archive_db).filter(pk=tenant).exists():
        test_choice_sums.expect_same(tenant, archive_db)


def counted(alias: str) -> list[str]:
    """Count a page; return the statements that read phases or bodies."""
    with CaptureQueriesContext(connections[alias]) as queries:
        assert counting.count(TENANT)
    reads = ('FROM "trajectories_phase"', '"trajectories_trajectory"."body"')
    return [one["sql"] for one in queries if any(name in one["sql"] for name in reads)]


def test_a_process_reads_no_record_that_it_has_written(archive_db: str) -> None:
    mirror([made(new_id(), at, phases=PHASES) for at in range(3)])
    assert counted(archive_db) == []
    assert recent_records.written.size == 0
    mirror([made(new_id(), at, phases=PHASES) for at in range(3)])
    recent_records.written.forget()
    assert counted(archive_db)


def test_a_version_that_is_rolled_back_is_not_remembered(archive_db: str) -> None:
    with transaction.atomic(using=archive_db):
        mirror([made(new_id(), 1, phases=PHASES)])
        transaction.set_rollback(True, using=archive_db)
    assert recent_records.written.size == 0


def test_both_positions_are_the_same_after_a_page(archive_db: str) -> None:
    """As in a store whose sums of choices are younger than its selections."""
    mirror([made(new_id(), at, phases=PHASES) for at in range(7)])
    assert counting.count(TENANT)
    Tenant.objects.using(archive_db).filter(pk=TENANT).update(learned_seq=0)
    RollUp.objects.using(archive_db).filter(day=CHOICES).delete()
    positions = []
    while counting.count(TENANT):
        row = Tenant.objects.using(archive_db).get(pk=TENANT)
        positions.append((row.selected_seq, row.learned_seq))
    assert positions == [(3, 3), (6, 6)]
    test_choice_sums.expect_same(TENANT, archive_db)


def version(seq: int, changed: int, at: int = 1) -> Recent:
    record: Record = made(new_id(), at, phases=PHASES)
    return Recent(seq, changed, record, facets_of(record.body))


def test_a_version_is_of_one_row_and_is_taken_once() -> None:
    memory, one = RecentRecords(), version(1, 5)
    digest = one.record.digest

    memory.put([version(1, 4), one])
    assert memory.take("bob", 1, 5, digest) is None
    assert memory.take(TENANT, 1, 5, digest) is one
    assert memory.take(TENANT, 1, 5, digest) is None
    for changed, of in ((6, digest), (5, "other")):
        memory.put([one])
        assert memory.take(TENANT, 1, changed, of) is None
    assert memory.size == 0


def test_it_gives_up_the_oldest_beyond_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, versions = RecentRecords(), [version(seq, seq) for seq in range(3)]
    monkeypatch.setattr(recent_records, "MAX_BYTES", 2 * max(one.size for one in versions))

    memory.put(versions)

    found = [memory.take(TENANT, one.seq, one.changed, one.record.digest) for one in versions]
    assert found == [None, *versions[1:]]
