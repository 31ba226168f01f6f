"""Sums that a process keeps are those of a scan, and are read again only where they must be."""

from __future__ import annotations

import tracemalloc
from typing import Any
from uuid import UUID

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage import reference
from tests.storage.hosts import TENANT, made, new_id
from tests.storage.test_rollups import HOUR_US, batch_of, batches, properties, scanned, shown, tenants
from tests.strategies import examples
from trajectories.conf import Settings
from trajectories.domain.clock import DAY_US
from trajectories.domain.query import parse_query
from trajectories.domain.record import tombstone
from trajectories.models import Trajectory
from trajectories.storage import archive_writes, rollup_rebuild, rollup_sums
from trajectories.storage.archive_writes import mirror
from trajectories.storage.rollup_sums import KeptSums

QUESTIONS: list[tuple[dict[str, str], str | None]] = [
    ({}, None),
    ({}, "day"),
    ({"outcome": "success"}, "week"),
    ({"project": "a", "request_type": "a"}, None),
    ({"since": "30h"}, "day"),
    ({"since": "40h", "until": "3h", "source": "a"}, None),
    ({"until": "26h"}, None),
    ({"phase": "spec"}, None),
    ({"model": reference.MODELS[0], "phase": "implement"}, None),
    ({"started_since": "1970-01-02", "started_until": "1970-01-04"}, "day"),
]
"""Spans end at a time that changes, so their ends move within days and across them."""
times = st.lists(st.integers(40, 90), min_size=6, max_size=6)


@settings(properties, max_examples=examples(12))
@given(given=batches, now_h=times, few=st.integers(0, 2), most=st.sampled_from([3, 1_000]))
def test_sums_equal_a_scan_after_each_batch(
    given: list[list[Any]], now_h: list[int], few: int, most: int, archive_db: str
) -> None:
    tenant, kept = next(tenants), KeptSums(Settings())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollup_sums, "_FEW", few)
        patch.setattr(rollup_sums, "MAX_CHANGES", most)
        for batch, hour in zip(given, now_h, strict=False):
            mirror(batch_of(tenant, batch))
            for filters, bucket in QUESTIONS:
                query = parse_query(filters, hour * HOUR_US)
                found = kept.summary(tenant, query, bucket=bucket)
                if found is not None:
                    assert shown(found) == scanned(tenant, query, bucket), (filters, bucket)


@pytest.fixture
def kept() -> KeptSums:
    return KeptSums(Settings())


def answered(kept: KeptSums, filters: dict[str, str], *, now_us: int = 0, bucket: str | None = None) -> tuple[int, int]:
    """Return the count of runs, and the number of statements that read roll-ups."""
    query = parse_query(filters, now_us)
    with CaptureQueriesContext(connections[archive_writes.alias()]) as queries:
        found = kept.summary(TENANT, query, bucket=bucket)
    assert found is not None
    assert shown(found) == scanned(TENANT, query, bucket)
    return found.as_json()["count"], sum('FROM "trajectories_rollup"' in one["sql"] for one in queries)


def recorded(records: int) -> list[UUID]:
    ids = [new_id() for _ in range(records)]
    mirror([made(id_, DAY_US + at, project="a") for at, id_ in enumerate(ids)])
    return ids


def test_new_records_are_added_and_no_roll_up_is_read(archive_db: str, kept: KeptSums) -> None:
    recorded(3)
    assert answered(kept, {"project": "a"}) == (3, 1)
    mirror([made(new_id(), 2 * DAY_US, project="a"), made(new_id(), 2 * DAY_US, project="b")])
    assert answered(kept, {"project": "a"}) == (4, 0)
    assert answered(kept, {"project": "a"}) == (4, 0)


def test_a_record_that_came_since_may_change_and_be_deleted(archive_db: str, kept: KeptSums) -> None:
    recorded(3)
    assert answered(kept, {}, bucket="day")[0] == 3
    later = recorded(2)
    assert answered(kept, {}, bucket="day") == (5, 0)
    mirror([made(later[0], 4 * DAY_US, project="b", total_duration_ms=7)])
    mirror([tombstone(TENANT, later[1], 3 * DAY_US)])
    assert answered(kept, {}, bucket="day") == (4, 0)


def test_a_change_of_an_earlier_record_makes_rows_be_read_again(archive_db: str, kept: KeptSums) -> None:
    ids = recorded(3)
    assert answered(kept, {"project": "a"})[0] == 3
    mirror([made(ids[0], 4 * DAY_US, project="b")])
    assert answered(kept, {"project": "a"}) == (2, 1)
    mirror([tombstone(TENANT, ids[1], 4 * DAY_US)])
    assert answered(kept, {"project": "a"}) == (1, 1)


def test_two_changes_of_a_record_make_rows_be_read_again(archive_db: str, kept: KeptSums) -> None:
    recorded(3)
    assert answered(kept, {})[0] == 3
    later = new_id()
    for at in (2, 3):
        mirror([made(later, at * DAY_US, project=str(at))])
    assert answered(kept, {}) == (4, 1)


def test_columns_that_change_without_a_new_version_are_read_after_a_rebuild(archive_db: str, kept: KeptSums) -> None:
    recorded(3)
    assert answered(kept, {"project": "a"})[0] == 3
    Trajectory.objects.using(archive_db).filter(tenant=TENANT, seq=1).update(project="b")
    assert rollup_rebuild.rebuild(TENANT)
    assert answered(kept, {"project": "a"})[0] == 2


def test_an_end_that_moves_within_its_day_reads_the_records_between(archive_db: str, kept: KeptSums) -> None:
    mirror([made(new_id(), hour * HOUR_US) for hour in range(20, 80)])
    assert answered(kept, {"since": "48h"}, now_us=80 * HOUR_US) == (48, 1)
    assert answered(kept, {"since": "48h"}, now_us=83 * HOUR_US) == (45, 0)
    assert answered(kept, {"since": "48h"}, now_us=79 * HOUR_US) == (49, 0)
    assert answered(kept, {"since": "48h"}, now_us=100 * HOUR_US) == (28, 1)


def test_an_earlier_version_of_the_tenant_changes_no_later_answer(archive_db: str, kept: KeptSums) -> None:
    recorded(2)
    before = rollup_rebuild._tenant(TENANT)
    assert before is not None
    recorded(1)
    assert answered(kept, {})[0] == 3
    assert kept._of(TENANT).find(before, parse_query({}, 0), None) is None
    assert answered(kept, {})[0] == 3


def test_sums_of_one_question_do_not_change_with_those_of_an_answer(archive_db: str, kept: KeptSums) -> None:
    recorded(2)
    for _ in range(2):
        found = kept.summary(TENANT, parse_query({}, 0), bucket="day")
        assert found is not None
        found.merge(found.copy())
    assert answered(kept, {}, bucket="day")[0] == 2


def test_their_memory_is_bounded(archive_db: str, kept: KeptSums, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded(3)
    assert answered(kept, {})[0] == 3
    one = kept.size
    monkeypatch.setattr(rollup_sums, "MAX_BYTES", 3 * one)
    for hour in range(10):
        answered(kept, {"since": f"{hour}d"}, now_us=20 * DAY_US)
    assert 0 < kept.size <= 3 * one
    monkeypatch.setattr(rollup_sums, "UNUSED_S", 0.0)
    kept._of("bob")
    assert kept.size == 0


def test_their_estimate_is_that_of_the_memory(archive_db: str, kept: KeptSums) -> None:
    phases = [{"phase_name": f"phase {at}", "model": f"model {at}", "duration_ms": at} for at in range(20)]
    of_each: list[dict[str, Any]] = [
        {"project": f"project {at}", "total_duration_ms": 10 * at, "phases": [one | {"cost_usd": at} for one in phases]}
        for at in range(40)
    ]
    mirror([made(new_id(), at * DAY_US, **fields) for at, fields in enumerate(of_each)])
    answered(kept, {"outcome": "success"})
    tracemalloc.start()
    try:
        for filters in ({}, {"until": "2000-01-01"}):
            found = kept.summary(TENANT, parse_query(filters, 0), bucket="day")
            assert found is not None
            found.as_json()
        del found
        before = kept.size
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert 0.5 * held < before < 2 * held
