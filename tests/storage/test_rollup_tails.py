"""What a process remembers of the records that selections lack changes no answer."""

from __future__ import annotations

import json
from itertools import cycle
from typing import Any
from uuid import UUID

import orjson
import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage.hosts import TENANT, made, new_id
from tests.storage.test_rollups import batch_of, batches, expect_same, properties, tenants
from tests.strategies import examples
from trajectories.conf import Settings
from trajectories.domain.clock import DAY_US
from trajectories.domain.query import parse_query
from trajectories.domain.record import tombstone
from trajectories.domain.stats import bucket_of
from trajectories.models import Phase
from trajectories.storage import (
    archive_writes,
    counting,
    rollup_reads,
    rollup_rebuild,
    rollup_rows,
    rollup_tails,
    rollups,
)
from trajectories.storage.archive_writes import mirror
from trajectories.storage.rollup_tails import Tails

PHASES = [{"phase_name": "spec", "model": "m"}, {"phase_name": "test", "model": "other"}]
OF_MODEL = {"model": "m"}


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollups, "COUNT_PAGE", 3)


@settings(properties, max_examples=examples(15))
@given(given=batches, steps=st.lists(st.integers(0, 1), min_size=1, max_size=4))
def test_sums_equal_a_scan_after_each_batch(given: list[list[Any]], steps: list[int], archive_db: str) -> None:
    tenant, tails = next(tenants), Tails(Settings())
    for batch, selects in zip(given, cycle(steps), strict=False):
        mirror(batch_of(tenant, batch))
        for _ in range(selects):
            counting.count(tenant)
        expect_same(tenant, [{"phase": "spec"}, {"selection_method": "thompson-sampling"}], tails)


def answered(tails: Tails, filters: dict[str, str]) -> tuple[int, list[str]]:
    """Return the count of runs, and the statements that read records or phases."""
    with CaptureQueriesContext(connections[archive_writes.alias()]) as queries:
        found = rollup_reads.summary(TENANT, parse_query(filters, 0), tails=tails)
    assert found is not None
    reads = ('"trajectories_trajectory"', '"trajectories_phase"', '"trajectories_tombstone"')
    return found.as_json()["count"], [one["sql"] for one in queries if any(name in one["sql"] for name in reads)]


def selected(records: int) -> list[UUID]:
    ids = [new_id() for _ in range(records)]
    mirror([made(id_, DAY_US + at, phases=PHASES) for at, id_ in enumerate(ids)])
    assert counting.count(TENANT)
    return ids


def test_only_records_that_changed_since_are_read_again(archive_db: str) -> None:
    ids, tails = selected(5), Tails(Settings())
    assert answered(tails, OF_MODEL)[0] == 5
    assert answered(tails, {"phase": "test"}) == (5, [])
    mirror([made(new_id(), 2 * DAY_US, phases=PHASES)])
    mirror([made(ids[4], 2 * DAY_US, phases=PHASES[1:])])
    mirror([tombstone(TENANT, ids[3], 3 * DAY_US)])
    count, statements = answered(tails, OF_MODEL)
    assert count == 4
    assert statements
    assert any('"changed" > 5' in sql for sql in statements)
    assert not any('"seq" > 3' in sql and '"changed" > 5' not in sql for sql in statements)
    assert answered(tails, OF_MODEL) == (4, [])


def test_a_record_that_changed_twice_makes_all_be_read_again(archive_db: str) -> None:
    ids, tails = selected(5), Tails(Settings())
    assert answered(tails, OF_MODEL)[0] == 5
    for at in (2, 3):
        mirror([made(ids[4], at * DAY_US, phases=PHASES[1:], project=str(at))])
    assert answered(tails, OF_MODEL)[0] == 4
    assert answered(tails, OF_MODEL) == (4, [])


def test_columns_that_change_without_a_new_version_are_read_after_a_rebuild(archive_db: str) -> None:
    selected(5)
    tails = Tails(Settings())
    assert answered(tails, OF_MODEL)[0] == 5
    Phase.objects.using(archive_db).filter(trajectory__seq=5, phase="spec").update(model="changed")
    assert rollup_rebuild.rebuild(TENANT)
    assert answered(tails, OF_MODEL)[0] == 4


def test_a_read_of_an_earlier_snapshot_does_not_change_later_ones(archive_db: str) -> None:
    selected(4)
    tails, before = Tails(Settings()), rollup_rebuild._tenant(TENANT)
    assert before is not None
    mirror([made(new_id(), 2 * DAY_US, phases=PHASES)])
    assert answered(tails, OF_MODEL)[0] == 5
    tails.of(TENANT).summary(before, rollup_rows.Selection(model="m"), archive_db)
    assert answered(tails, OF_MODEL)[0] == 5


def test_the_tails_of_all_tenants_have_one_bound(archive_db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    selected(5)
    monkeypatch.setattr(rollup_tails, "MAX_PHASES", 1)
    tails = Tails(Settings())
    first = tails.of(TENANT)
    assert answered(tails, OF_MODEL)[0] == 5
    assert first.size == 2 * (1 + len(PHASES))
    assert tails.of("bob") is not first
    assert tails.of(TENANT) is not first


def test_a_series_reads_durations_whatever_the_names_of_phases_are(archive_db: str) -> None:
    names = (',"buckets":[[1,2],[3,4]]', "plan")
    phases = [{"phase_name": name, "duration_ms": 7} for name in names]
    mirror([made(new_id(), DAY_US, phases=phases, total_duration_ms=7), made(new_id(), 2 * DAY_US)])
    expect_same(TENANT, [{}, {}])
    details = rollup_rows.rows_of(TENANT, archive_db, is_total=True).get(day=1).details
    assert names[0] not in details
    of_big_sums = rollup_rows._BIG + json.dumps(orjson.loads(details))
    assert rollup_rows.durations(of_big_sums) == rollup_rows.durations(details) == {bucket_of(7_000): 1}
