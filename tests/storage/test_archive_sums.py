"""Sums of archived runs from packed phases, and of rows that lack them, on SQLite and on Postgres."""

from __future__ import annotations

from importlib import import_module
from io import StringIO
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import orjson
import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connections

from tests.examples import body, phase
from trajectories.domain.query import Query
from trajectories.domain.record import Record, digest_of, facets_of
from trajectories.domain.schema import canonical, parse
from trajectories.domain.stats import Summary
from trajectories.models import Phase, Trajectory
from trajectories.storage import archive_reads, archive_sums
from trajectories.storage.archive_writes import mirror

TENANT = "north"
RUNS: tuple[dict[str, Any], ...] = (
    {"phases": [phase(model="a", cost_usd=0.5, input_tokens=70_000), phase(outcome="skipped")], "build_passed": True},
    {"phases": [phase(model="b", cost_usd=0.25, duration_ms=3)], "total_cost_usd": 9, "started_at": "2026-01-05T23:58:46Z"},
    {"phases": []},
    {"phases": [phase(model="a", outcome="success"), phase(model="c")], "project": "p1"},
)  # fmt: skip


def record(number: int, stamp: int | None = None, **fields: Any) -> Record:
    data = canonical(parse(orjson.dumps(body(id=str(UUID(int=number)), **fields))))
    return Record(TENANT, UUID(int=number), stamp or number, digest_of(data), stamp or number, number, data)


@pytest.fixture
def records(archive_db: str) -> list[Record]:
    found = [record(number, **fields) for number, fields in enumerate([*RUNS] * 3, 1)]
    mirror(found)
    return found


def added(records: list[Record]) -> Summary:
    found = Summary("day")
    for one in records:
        found.add(facets_of(one.body), one.recorded_at_us)
    return found


def found() -> Summary:
    return archive_reads.summary(TENANT, Query(), None, bucket="day")


def test_packed_runs_are_summed_without_their_phases(records: list[Record], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_sums, "archived", None)
    assert found() == added(records)
    monkeypatch.setattr(archive_sums, "_ROWS", 5)
    assert found() == added(records)


def test_rows_that_another_release_wrote_are_summed_from_their_phases(archive_db: str, records: list[Record]) -> None:
    rows = Trajectory.objects.using(archive_db)
    rows.filter(trajectory_id__in=[UUID(int=1), UUID(int=6)]).update(packed_phases=None)
    # A release that does not pack replaces a body, and leaves the packed phases of the one before.
    later = record(4, 99, phases=[phase(model="new", cost_usd=3)])
    known = rows.get(trajectory_id=later.id).packed_phases
    mirror([later])
    rows.filter(trajectory_id=later.id).update(packed_phases=known)
    assert found() == added([later if one.id == later.id else one for one in records])


def test_words_whose_run_has_changed_are_read_from_the_phases(archive_db: str, records: list[Record]) -> None:
    assert Phase.objects.using(archive_db).filter(model="a").update(model="other") == 6
    models = {key[1]: cell[0] for key, cell in found().phases.items()}
    assert models == {"other": 6, None: 3, "b": 3, "c": 3}


def test_a_late_outcome_leaves_packed_phases_as_they_are(archive_db: str, records: list[Record]) -> None:
    one = records[0]
    outcome = {"id": str(UUID(int=7)), "name": "merged", "value": True, "recorded_at": "2026-01-06T00:00:00Z"}
    rows = Trajectory.objects.using(archive_db).filter(trajectory_id=one.id)
    before = rows.get()
    mirror([Record(TENANT, one.id, 50, str(UUID(int=7)), 50, 50, orjson.dumps([outcome]))])
    after = rows.get()
    assert (before.changed < after.changed, before.packed_phases) == (True, after.packed_phases)


def all_packed(archive_db: str) -> list[Any]:
    rows = Trajectory.objects.using(archive_db).order_by("seq")
    return [data and bytes(data) for data in rows.values_list("packed_phases", flat=True)]


def test_rows_of_an_earlier_release_are_packed(archive_db: str, records: list[Record]) -> None:
    rows, expected = Trajectory.objects.using(archive_db), all_packed(archive_db)
    rows.exclude(trajectory_id=UUID(int=1)).update(packed_phases=None)
    migration = import_module("trajectories.migrations.0031_fill_packed_phases")
    migration.fill(apps, SimpleNamespace(connection=connections[archive_db]))
    assert all_packed(archive_db) == expected
    rows.filter(trajectory_id=UUID(int=1)).update(packed_phases=b"wrong")
    call_command("fill_credit", stdout=(answer := StringIO()))
    assert "Packed the phases of 1 trajectories." in answer.getvalue()
    assert all_packed(archive_db) == expected
