"""The columns of the archive that filters and stats read, on SQLite and on Postgres."""

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
from django.test.utils import CaptureQueriesContext

from tests.examples import body, phase
from trajectories.domain.query import Query, parse_query
from trajectories.domain.record import Record, digest_of
from trajectories.domain.schema import canonical, parse
from trajectories.models import Phase, Trajectory
from trajectories.storage import archive_reads
from trajectories.storage.archive_rows import PHASE_COLUMNS
from trajectories.storage.archive_writes import mirror

TENANT = "north"
PARENT = UUID(int=77)


def stored(number: int, **fields: Any) -> Record:
    data = canonical(parse(orjson.dumps(body(id=str(UUID(int=number)), **fields))))
    return mirror([Record(TENANT, UUID(int=number), number, digest_of(data), number, number, data)]).stored[0]


def test_a_row_has_the_policy_the_parent_and_of_each_phase_id_and_fit(archive_db: str) -> None:
    record = stored(1, policy="router@2", parent_id=str(PARENT), phases=[phase(phase_id="a", fit="good_fit"), phase()])
    row = Trajectory.objects.using(archive_db).get(trajectory_id=record.id)
    assert (row.policy, row.parent_id) == ("router@2", PARENT)
    phases = Phase.objects.using(archive_db).filter(trajectory=row).order_by("place")
    assert list(phases.values_list("phase_id", "fit")) == [("a", "good_fit"), (None, None)]


def test_a_phase_is_written_with_every_column() -> None:
    columns = {field.column for field in Phase._meta.concrete_fields if not field.primary_key}
    assert {"trajectory_id", *PHASE_COLUMNS} == columns


def test_a_revision_without_a_parent_clears_the_column(archive_db: str) -> None:
    stored(1, parent_id=str(PARENT))
    later = canonical(parse(orjson.dumps(body(id=str(UUID(int=1))))))
    mirror([Record(TENANT, UUID(int=1), 2, digest_of(later), 2, 1, later)])
    assert Trajectory.objects.using(archive_db).get(trajectory_id=UUID(int=1)).parent_id is None


def test_the_migration_fills_the_unattributed_cost_of_rows_that_exist(archive_db: str) -> None:
    phases = [phase(cost_usd=0.25), phase(cost_usd=0.5), phase()]
    stored(1, total_cost_usd=1, phases=phases)
    stored(2, total_cost_usd=0.5, phases=phases)
    stored(3, phases=phases)
    stored(4, total_cost_usd=1)
    stored(5)
    rows = Trajectory.objects.using(archive_db).order_by("seq")
    expected = list(rows.values_list("unattributed_nano_usd", flat=True))
    assert expected == [250_000_000, -250_000_000, 0, None, None]
    rows.update(unattributed_nano_usd=None)
    migration = import_module("trajectories.migrations.0010_fill_credit")
    migration.fill_unattributed(apps, SimpleNamespace(connection=connections[archive_db]))
    assert list(rows.values_list("unattributed_nano_usd", flat=True)) == expected
    found = archive_reads.summary(TENANT, Query(), None).as_json()
    assert found["unattributed_cost_usd"] == {"known": 3, "sum": 0, "mean": 0}


def test_rows_of_an_earlier_release_get_their_credit(archive_db: str) -> None:
    code, test = phase(phase_name="code", outcome="success"), phase(phase_name="test", outcome="failure")
    stored(1, phases=[code, test, code], tests_passed=True)
    stored(2, phases=[phase(outcome="skipped")])
    known = stored(3, phases=[code])
    rows = Phase.objects.using(archive_db).order_by("trajectory__seq", "place")
    expected = list(rows.values_list("credited", "presence"))
    assert expected == [
        ("failure", "ran"), ("none", "ran"), ("success", None), ("none", "skipped"), ("success", "ran"),
    ]  # fmt: skip
    rows.exclude(trajectory__trajectory_id=known.id).update(credited=None, presence=None)
    # The row of the present release is not computed again.
    rows.filter(trajectory__trajectory_id=known.id).update(presence="kept")
    call_command("fill_credit", stdout=(answer := StringIO()))
    assert "2 trajectories" in answer.getvalue()
    assert list(rows.values_list("credited", "presence")) == [*expected[:-1], ("success", "kept")]


@pytest.mark.parametrize("column", ["project", "source"])
def test_a_list_of_one_value_seeks_in_the_index_of_its_column(archive_db: str, column: str) -> None:
    records = [stored(number, **{column: "own" if number % 2 else "other"}) for number in range(1, 9)]
    query = parse_query({column: "own", "outcome": "unknown"}, 0)
    with CaptureQueriesContext(connections[archive_db]) as captured:
        found = archive_reads.newest(TENANT, query, records[6].position, 2)
    assert [record.id.int for record in found] == [5, 3]
    assert archive_reads.newest(TENANT, parse_query({column: "none"}, 0), None, 2) == []
    if connections[archive_db].vendor == "sqlite":  # Postgres has statistics, which these few rows do not make
        with connections[archive_db].cursor() as cursor:
            cursor.execute("EXPLAIN QUERY PLAN " + captured.captured_queries[0]["sql"])
            plan = [row[3] for row in cursor.fetchall()]
        assert f"USING INDEX trajectories_{column} (tenant_id=? AND {column}=? AND recorded_at_us<?)" in plan[0]
