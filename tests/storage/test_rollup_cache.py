"""Sums that a process keeps equal those of their rows, whatever other processes write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.storage.hosts import made, new_id
from tests.storage.test_rollups import batch_of, batches, contents, expect_same, tenants
from tests.strategies import examples
from trajectories.domain.stats import Summary
from trajectories.models import Tenant
from trajectories.storage import archive_rows, archive_writes, rollup_cache, rollup_rebuild, rollup_rows
from trajectories.storage.archive_writes import mirror
from trajectories.storage.rollup_cache import RollUpCache


def test_sums_are_those_of_one_text_and_are_taken_once() -> None:
    cache, sums = RollUpCache(), Summary()

    cache.put("key", "cell", "details", sums)
    assert cache.take("key", "cell", "of another process") is None
    cache.put("key", "cell", "details", sums)
    assert cache.take("key", "cell", "details") is sums
    assert cache.take("key", "cell", "details") is None
    assert cache.size == 0


def test_it_gives_up_the_oldest_beyond_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollup_cache, "MAX_CHARACTERS", 10)
    cache = RollUpCache()

    for key in "abc":
        cache.put(key, "12", "34", Summary())

    assert cache.size == 8
    assert [cache.take(key, "12", "34") is not None for key in "abc"] == [False, True, True]


def test_a_process_parses_no_row_that_it_has_written(archive_db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant, parsed = next(tenants), list[object]()
    decoded = rollup_rows.decoded

    def count(key: rollup_rows.Names, cell: str, details: str) -> Summary:
        parsed.append(key)
        return decoded(key, cell, details)

    monkeypatch.setattr(rollup_rows, "decoded", count)

    for stamp in (1, 2):
        mirror([made(new_id(), stamp, tenant=tenant)])
    assert parsed == []
    rollup_cache.written.forget()
    mirror([made(new_id(), 3, tenant=tenant)])
    assert len(parsed) == 4


@settings(
    max_examples=examples(16),
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(given=batches, processes=st.lists(st.integers(0, 1), min_size=6, max_size=6), failed=st.sets(st.integers(0, 5)))
def test_processes_in_turn_and_failed_batches_leave_the_sums_of_a_rebuild(
    given: list[list[tuple[int, ...]]], processes: list[int], failed: set[int], archive_db: str
) -> None:
    tenant, caches = next(tenants), [RollUpCache(), RollUpCache()]
    with pytest.MonkeyPatch.context() as patch:
        for number, (batch, process) in enumerate(zip(given, processes, strict=False)):
            patch.setattr(rollup_rows, "written", caches[process])
            if number in failed:
                with patch.context() as broken:
                    broken.setattr(archive_rows, "update", _refuse_counters)
                    with pytest.raises(archive_writes.RefusedRecord):
                        mirror(batch_of(tenant, batch))
            mirror(batch_of(tenant, batch))
    expect_same(tenant)
    kept = contents(tenant)
    assert rollup_rebuild.rebuild(tenant)
    assert contents(tenant) == kept


def _refuse_counters(model: type[Any], rows: Mapping[Any, archive_rows.Row]) -> None:
    """Fail where a batch has written its roll-ups, and before it commits."""
    if model is Tenant:
        raise ValueError("refused")
    _update(model, rows)


_update = archive_rows.update
