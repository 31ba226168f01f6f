"""Each filter that roll-ups do not cover enters an index."""

from __future__ import annotations

import re

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from tests.storage.hosts import TENANT, made, new_id
from trajectories.domain.query import Condition, Query, parse_query
from trajectories.models import Phase, Tenant, Trajectory
from trajectories.storage import archive_reads, export_reads, rollup_reads, rollup_rows
from trajectories.storage.archive_writes import mirror
from trajectories.training.splits import SPLIT_BY


def fill_many(alias: str) -> None:
    """So many rows that a database should prefer an index to reading them all."""
    mirror([made(new_id(), 1, project="p", phases=[{"phase_name": "spec"}])])
    (row,) = Trajectory.objects.all()
    columns = {field.attname: getattr(row, field.attname) for field in row._meta.fields if not field.primary_key}
    own = [
        {
            "seq": n,
            "changed": n,
            "recorded_at_us": n,
            **dict.fromkeys(("request_type", "project", "source"), f"n{n % 9}"),
        }
        for n in range(2, 3_000)
    ]
    Trajectory.objects.bulk_create(Trajectory(**columns | one | {"trajectory_id": new_id()}) for one in own)
    Phase.objects.bulk_create(
        Phase(trajectory=one, place=place, phase_name="spec", phase="spec", model="m", tools="", outcome="success")
        for one in Trajectory.objects.exclude(pk=row.pk)
        for place in range(2)
    )
    Tenant.objects.update(last_seq=3_000, last_changed=3_000)
    with connections[alias].cursor() as cursor:
        cursor.execute("ANALYZE")


def plan(**filters: str) -> str:
    """Return the plan of the first statement of stats that scan."""
    return str(archive_reads._matching(TENANT, parse_query(filters, 0), None).explain())


def test_each_scan_enters_an_index(archive_db: str) -> None:
    fill_many(archive_db)
    # SQLite looks at the phases of each run, so it has no index of models.
    of_phases = "trajectories_phase_model" if archive_db == "postgres" else "sqlite_autoindex_trajectories_phase_1"
    assert of_phases in plan(model="none")
    assert of_phases in plan(model="none", phase="spec")
    with connections[archive_db].cursor() as cursor:
        indexes = connections[archive_db].introspection.get_constraints(cursor, Phase._meta.db_table)
    assert ("trajectories_phase_model" in indexes) == (archive_db == "postgres")
    assert "trajectories_request_type" in plan(request_type="none")
    assert "trajectories_project" in plan(project="none")
    assert "trajectories_source" in plan(source="none")
    assert re.search("trajectories_(of_tenant|recorded)", plan(since="1970-01-02"))
    later = Query((Condition("seq", "at_least", 2_900),), (), parse_query({"model": "m"}, 0).on_phase)
    assert re.search("trajectories_(seq_once|export)|seq>", archive_reads._matching(TENANT, later, None).explain())


@pytest.mark.parametrize("archive_db", ["postgres"], indirect=True)
def test_a_search_uses_the_trigram_index_and_matches_wildcards_literally(archive_db: str) -> None:
    fill_many(archive_db)
    assert "trajectories_summary_trigrams" in plan(q="refactoring")
    mirror([made(new_id(), 1, request_summary=text) for text in ("100% of_it", "1000 of it", r"C:\of_it")])

    def found(words: str) -> int:
        return len(archive_reads.newest(TENANT, parse_query({"q": words}, 0), None, 10))

    assert [found(words) for words in ("100%", "of_it", r"c:\of", "100% of")] == [1, 2, 1, 1]


@pytest.mark.parametrize("archive_db", ["sqlite"], indirect=True)
def test_records_of_given_ids_are_not_looked_for_in_their_project(archive_db: str) -> None:
    records = [made(new_id(), 1, project="p") for _ in range(200)]
    mirror(records)
    with CaptureQueriesContext(connections[archive_db]) as captured:
        found = rollup_reads.summary_of(TENANT, parse_query({"project": "p"}, 0), [record.id for record in records])
    assert found.as_json()["count"] == 200
    with connections[archive_db].cursor() as cursor:
        for query in captured.captured_queries:
            cursor.execute("EXPLAIN QUERY PLAN " + query["sql"])
            assert "trajectories_project" not in str(cursor.fetchall())


@pytest.mark.parametrize("by", SPLIT_BY)
@pytest.mark.parametrize("archive_db", ["sqlite"], indirect=True)
def test_an_index_has_all_that_a_split_decides_by(archive_db: str, by: str) -> None:
    mirror([made(new_id(), 1, project="p")])
    rows = archive_reads.in_order(TENANT, parse_query({}, 0))
    with CaptureQueriesContext(connections[archive_db]) as captured:
        assert len(export_reads.known(rows, 0, 1, export_reads.Asked(split_by=by), 10)) == 1
    with connections[archive_db].cursor() as cursor:
        cursor.execute("EXPLAIN QUERY PLAN " + captured.captured_queries[-1]["sql"])
        assert "USING COVERING INDEX trajectories_exported " in str(cursor.fetchall())


def test_roll_ups_are_read_by_their_index(archive_db: str) -> None:
    mirror([made(new_id(), 1, project=f"p{number}", tenant=f"tenant{number % 10}") for number in range(300)])
    with connections[archive_db].cursor() as cursor:
        cursor.execute("ANALYZE")
    for is_total in (True, False):
        rows = rollup_rows.rows_of("tenant7", archive_db, is_total=is_total).filter(day=-1)
        for one in (rows, rows.filter(project="p7")):
            assert "trajectories_rollup_day" in one.explain()
            if archive_db == "default":  # the index by tenant alone would read all rows of a tenant
                assert "is_total=? AND day=?" in one.explain()
