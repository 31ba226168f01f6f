"""Sums of choices in the archive are those of its records, whatever happened to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import Settings

from tests.storage.hosts import TENANT, made, new_id
from tests.storage.test_rollups import batch_of, properties, versions
from trajectories.domain.choice_sums import OTHER_PROJECTS, Key, PhaseCells, Sums, add, part_of
from trajectories.domain.clock import DAY_US
from trajectories.domain.record import facets_of
from trajectories.models import RollUp, Tenant, Trajectory
from trajectories.storage import choice_reads, counting, rollup_rebuild, rollups
from trajectories.storage.archive_rows import TRAJECTORY_COLUMNS, record_from
from trajectories.storage.archive_writes import mirror
from trajectories.storage.choice_rows import CHOICES

tenants = (f"learned{number}" for number in count())
TRIED = [
    {"model": "cheap", "outcome": "failure", "cost_usd": 0.1},
    {"model": "strong", "outcome": "success", "cost_usd": 1.0},
]
ESCALATED: dict[str, Any] = {
    "phase_name": "implement",
    "model": "strong",
    "requested_model": "cheap",
    "outcome": "success",
}
ESCALATED |= {"attempts": TRIED, "cost_usd": 1.1}


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollups, "COUNT_PAGE", 2)


def keyed(cells: PhaseCells) -> Iterator[tuple[Key, Sums]]:
    for (request_type, project), cell in cells.by_scope.items():
        for (kind, model, after, week, advice), sums in cell.items():
            yield Key(kind, request_type, project, cells.phase, model, after, week, advice), sums


def scanned(tenant: str, up_to: int, alias: str) -> dict[Key, Sums]:
    """Return the sums of the records up to a place in exports, from their bodies."""
    cells: dict[str, PhaseCells] = {}
    rows = Trajectory.objects.using(alias).filter(tenant=tenant, seq__lte=up_to)
    for columns in rows.values_list(*TRAJECTORY_COLUMNS):
        record = record_from(columns)
        add(cells, part_of(facets_of(record.body, record.outcomes), record.body, record.recorded_at_us))
    return {key: sums for one in cells.values() for key, sums in keyed(one)}


def expect_same(tenant: str, alias: str) -> None:
    row = Tenant.objects.using(alias).get(pk=tenant)
    found = choice_reads.read(tenant)
    assert found is not None
    assert {key: sums for one in found.cells.values() for key, sums in keyed(one)} == scanned(
        tenant, row.learned_seq, alias
    )
    later = Trajectory.objects.using(alias).filter(tenant=tenant, seq__gt=row.learned_seq)
    assert found.later.keys() == set(later.values_list("trajectory_id", flat=True))


@properties
@given(st.lists(st.lists(versions, min_size=1, max_size=6), min_size=1, max_size=4), st.integers(0, 3))
def test_sums_are_always_those_of_a_scan(archive_db: str, batches: Any, rebuilt_at: int) -> None:
    tenant = next(tenants)
    for place, batch in enumerate(batches):
        mirror(batch_of(tenant, batch))
        if place == rebuilt_at:
            rollup_rebuild.rebuild(tenant)
        while counting.count(tenant):
            pass
        if Tenant.objects.using(archive_db).filter(pk=tenant).exists():
            expect_same(tenant, archive_db)


def test_revisions_and_deletions_of_counted_records_reach_the_sums(archive_db: str) -> None:
    ids = [new_id() for _ in range(4)]
    mirror([made(one, 10 * DAY_US, phases=[ESCALATED], project="web") for one in ids])
    assert counting.count(TENANT)
    assert counting.count(TENANT)
    expect_same(TENANT, archive_db)
    found = choice_reads.read(TENANT)
    assert found is not None
    of_models = {(key.model, key.after): sums for key, sums in keyed(found.cells["implement"]) if key.model}
    assert of_models["cheap", None][:3] == (4, 4, 0)
    assert of_models["strong", "cheap"][:3] == (4, 4, 8)
    revised = made(ids[0], 11 * DAY_US, phases=[ESCALATED | {"attempts": TRIED[1:]}], project="web")
    mirror([revised])
    expect_same(TENANT, archive_db)
    assert scanned(TENANT, 4, archive_db) != {key: sums for one in found.cells.values() for key, sums in keyed(one)}


def test_the_sums_wait_for_a_rebuild_of_roll_ups(archive_db: str) -> None:
    mirror([made(new_id(), DAY_US, phases=[ESCALATED]) for _ in range(2)])
    assert counting.count(TENANT)
    rollup_rebuild.set_aside([TENANT])
    assert choice_reads.read(TENANT) is None
    rollup_rebuild.rebuild(TENANT)
    expect_same(TENANT, archive_db)


def test_far_behind_there_are_no_sums(archive_db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice_reads, "MAX_BEHIND", 2)
    mirror([made(new_id(), DAY_US, phases=[ESCALATED]) for _ in range(3)])
    assert choice_reads.read(TENANT) is None
    assert counting.count(TENANT)
    expect_same(TENANT, archive_db)


def test_of_too_many_rows_those_of_the_newest_weeks_are_read(archive_db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for week in (1, 3, 2):
        mirror([made(new_id(), week * 7 * DAY_US, phases=[ESCALATED]) for _ in range(2)])
        assert counting.count(TENANT)
    monkeypatch.setattr(choice_reads, "MAX_ROWS", 2)
    found = choice_reads.read(TENANT)
    assert found is not None
    weeks = {key.week // DAY_US for key, _ in keyed(found.cells["implement"])}
    assert weeks == {11, 18}  # Mondays


def test_with_too_many_projects_new_ones_are_counted_together(
    archive_db: str, settings: Settings, trajectories_settings: dict[str, Any]
) -> None:
    settings.TRAJECTORIES = trajectories_settings | {"ROLLUP_MAX_CELLS": 3}
    ids = [new_id() for _ in range(8)]
    for number, one in enumerate(ids):
        mirror([made(one, DAY_US, project=f"project {number}", phases=[ESCALATED])])
        while counting.count(TENANT):
            pass
    found = choice_reads.read(TENANT)
    assert found is not None
    projects = {key.project: sums.choices for key, sums in keyed(found.cells["implement"]) if key.model == "cheap"}
    assert projects.pop(OTHER_PROJECTS) >= 4
    assert sum(found.cells["implement"].total[one].choices for one in found.cells["implement"].total) == 3 * 8
    assert set(projects.values()) == {1}
    for one in ids[:6]:
        mirror([made(one, 2 * DAY_US, project="moved", phases=[])])
    again = choice_reads.read(TENANT)
    assert again is not None
    assert sum(sums.choices for _, sums in keyed(again.cells["implement"])) == 3 * 2
    rows = RollUp.objects.using(archive_db).filter(tenant=TENANT, day=CHOICES)
    assert "[]" not in rows.values_list("details", flat=True)


_keys = st.builds(
    Key,
    st.sampled_from(["model", "ran"]),
    st.sampled_from([None, "a", "b"]),
    st.sampled_from([None, "p", "q"]),
    st.just("implement"),
    st.sampled_from([None, "m", "n"]),
    st.sampled_from([None, "m"]),
    st.integers(0, 2),
)
_parts = st.lists(
    st.tuples(_keys, st.builds(Sums, st.integers(1, 3), st.integers(0, 3), st.integers(0, 6))), max_size=12
)


@given(
    _parts,
    _parts,
    st.sampled_from([None, "a"]),
    st.sampled_from([None, "p"]),
    st.sampled_from([(), ("m",), ("n", "m")]),
)
def test_levels_are_disjoint_and_together_the_total_of_the_models(
    first: Any, second: Any, request_type: str | None, project: str | None, models: tuple[str, ...]
) -> None:
    cells = PhaseCells("implement").plus(first).plus(second).plus(first, -1)
    assert cells == PhaseCells("implement").plus(second)
    assert not cells.plus(second, -1)
    expected: list[dict[Any, Sums]] = [{}, {}, {}]
    for key, sums in second:
        if key.model not in (None, *models):
            continue
        is_type, is_project = request_type in (None, key.request_type), project in (None, key.project)
        at = expected[2 if is_type and is_project else 1 if is_type else 0]
        place = key.kind, key.model, key.after, key.week, key.advice
        at[place] = at.get(place, Sums()).plus(sums)
    assert [dict(level) for level in cells.levels(request_type, project, models)] == expected
    assert Counter(choice for found in cells.of_models.values() for choice in found) == Counter(cells.total.keys())
    again = PhaseCells.of_scopes("implement", cells.by_scope)
    assert again == cells
    assert {model: {*found} for model, found in again.of_models.items()} == {
        model: {*found} for model, found in cells.of_models.items()
    }
    by_week: dict[Any, Sums] = {}
    for key, sums in second:
        by_week[key.kind, key.week] = by_week.get((key.kind, key.week), Sums()).plus(sums)
    assert cells.by_week == by_week
