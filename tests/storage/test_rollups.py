"""Roll-ups give the sums of a scan, whatever happened to the records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count, cycle
from typing import Any
from uuid import UUID

import orjson
import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytest_django import Settings

from tests.storage import reference
from tests.storage.hosts import TENANT, made, new_id
from tests.strategies import examples
from trajectories import persistence
from trajectories.conf import Settings as Conf
from trajectories.domain.clock import DAY_US
from trajectories.domain.late_outcomes import prepare
from trajectories.domain.query import Query, parse_query
from trajectories.domain.record import Record, tombstone
from trajectories.domain.stats import Summary
from trajectories.models import Phase, RollUp, Tenant
from trajectories.storage import (
    archive_reads,
    archive_writes,
    counting,
    rollup_reads,
    rollup_rebuild,
    rollup_rows,
    rollups,
)
from trajectories.storage.archive_writes import mirror
from trajectories.storage.rollup_tails import Tails

HOUR_US = DAY_US // 24
FILTERS: list[dict[str, str]] = [
    {},
    *({name: value} for name in ("project", "request_type", "source", "policy") for value in ("a", "A")),
    {"outcome": "success"},
    {"project": "a", "request_type": "a", "outcome": "success"},
    {"since": "1970-01-02", "until": "1970-01-04"},
    {"since": "1970-01-03", "source": "a"},
    {"since": "1970-01-01T05:00:00Z", "until": "1970-01-03T20:00:00Z", "project": "a"},
    {"until": "1970-01-03T07:00:00Z"},
    {"since": "1970-01-02T12:00:00Z", "until": "1970-01-02T13:00:00Z"},
    {"since": "99999w"},
    {"phase": "spec"},
    *({"model": model} for model in reference.MODELS[:2]),
    {"model": reference.MODELS[0], "phase": "implement"},
    {"selection_method": "thompson-sampling"},
    {"started_since": "1970-01-02", "started_until": "1970-01-04"},
    {"started_until": "1970-01-03", "project": "a"},
    {"min_cost_usd": "0.1"},
    {"q": "add", "since": "1970-01-02"},
    {"tag": "a", "project": "a"},
    {"tool": "edit", "phase": "implement", "build_passed": "true"},
    {"since": "1970-01-02", "started_since": "1970-01-02"},
    {"started_until": "1970-01-03T01:00:00Z"},
]
tenants = (f"rolled{number}" for number in count())

versions = st.tuples(
    st.integers(1, 6),
    st.integers(1, 80),
    st.integers(1, 80),
    reference.bodies,
    st.sampled_from(["record"] * 5 + ["outcome"] * 2 + ["delete"]),
)
batches = st.lists(st.lists(versions, min_size=1, max_size=6), min_size=1, max_size=6)
some = st.lists(st.sampled_from(FILTERS), min_size=4, max_size=7)
properties = settings(
    max_examples=examples(24),
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollups, "COUNT_PAGE", 2)


def batch_of(tenant: str, given: Sequence[Any]) -> list[Record]:
    """Versions of few ids, hours apart: their order of arrival is not that of their stamps."""
    return [_version(tenant, *values) for values in given]


def _version(tenant: str, number: int, hour: int, first: int, fields: dict[str, Any], kind: str) -> Record:
    id_, at_us = UUID(int=number), hour * HOUR_US
    if kind == "delete":
        return tombstone(tenant, id_, at_us)
    if kind == "outcome":
        return outcome_of(tenant, id_, hour)
    phases = [one | {"phase_id": str(place)} for place, one in enumerate(fields["phases"])]
    named = fields | {"phases": phases, "session_id": f"session-{hour % 2}"}
    return made(id_, at_us, tenant=tenant, recorded_at_us=min(first, hour) * HOUR_US, **named)


def outcome_of(tenant: str, id_: UUID, hour: int) -> Record:
    """An outcome of a run or of a session, of a phase at times, with a value of each kind."""
    given: dict[str, Any] = {"name": "rating", "value": hour / 2} if hour % 3 else {"name": "fit", "value": "failed"}
    given |= {"name": "merged", "value": hour % 4 > 1} if hour % 2 else {}
    given |= {"phase_id": str(hour % 3)} if hour % 5 > 2 else {}
    given |= {"reference": {"session_id": f"session-{hour % 2}"}} if id_.int > 4 else {"trajectory_id": str(id_)}
    at_us = hour * HOUR_US
    made = prepare(orjson.dumps(given), source=None, now_us=at_us, trajectory_id=None, key=None, redact=False)
    return Record(tenant, made.target, at_us, made.id.hex, at_us, at_us, b"[%b]" % made.body)


def test_sums_have_late_outcomes_and_the_fits_of_phases(archive_db: str) -> None:
    tenant = next(tenants)
    phases = [
        {"phase_name": "plan", "fit": "good_fit"},
        {"phase_name": "test", "phase_id": "p"},
        {"phase_name": "review", "outcome": "skipped"},
    ]
    runs = {1: phases, 2: phases, 3: []}
    mirror([made(UUID(int=one), HOUR_US, tenant=tenant, session_id="s", phases=of) for one, of in runs.items()])
    late: list[dict[str, Any]] = [
        {"name": "merged", "value": True, "reference": {"session_id": "s"}},
        {"name": "rating", "value": 3, "phase_id": "p", "trajectory_id": str(UUID(int=1))},
    ]
    for one in late:
        data = prepare(orjson.dumps(one), source=None, now_us=HOUR_US, trajectory_id=None, key=None, redact=False)
        mirror([Record(tenant, data.target, HOUR_US, data.id.hex, HOUR_US, HOUR_US, b"[%b]" % data.body)])
    found = rollup_reads.summary(tenant, Query())
    assert found is not None
    assert {name: cell[0] for (name,), cell in found.late.items()} == {"merged": 3, "rating": 1}
    assert {key[:2]: cell[0] for key, cell in found.late_phases.items()} == {
        ("merged", "plan"): 2,
        ("merged", "test"): 2,
        ("rating", "test"): 1,
    }
    assert {one["phase"]: one["fits"]["good_fit"] for one in found.as_json()["by_phase"]} == {
        "plan": 2,
        "review": 0,
        "test": 0,
    }
    expect_same(tenant)


def shown(summary: Summary) -> bytes:
    return orjson.dumps(summary.as_json())


def scanned(tenant: str, query: Query, bucket: str | None = None) -> bytes:
    return shown(archive_reads.summary(tenant, query, None, bucket=bucket, using=archive_writes.alias()))


def expect_same(tenant: str, asked: Sequence[dict[str, str]] = FILTERS, tails: Tails | None = None) -> None:
    """Expect answers of the roll-ups to be those of a scan."""
    answered = 0
    for filters, bucket in zip([{}, *asked], cycle([None, "day", "week", "day"]), strict=False):
        query = parse_query(filters, now_us=0)
        found = rollup_reads.summary(tenant, query, bucket=bucket, tails=tails)
        if found is not None:
            answered += 1
            assert shown(found) == scanned(tenant, query, bucket), (filters, bucket)
    assert answered


@properties
@given(given=batches, asked=some, steps=st.lists(st.integers(0, 2), min_size=1, max_size=4))
def test_sums_equal_a_scan_after_any_inserts_revisions_and_deletions(
    given: list[list[Any]], asked: list[dict[str, str]], steps: list[int], archive_db: str
) -> None:
    tenant = next(tenants)
    for batch, selects in zip(given, cycle(steps), strict=False):
        mirror(batch_of(tenant, batch))
        for _ in range(selects):
            counting.count(tenant)
    expect_same(tenant, asked)
    rollup_rebuild.catch_up(tenant, 100)
    kept = contents(tenant)
    assert rollup_rebuild.rebuild(tenant)
    assert contents(tenant) == kept
    assert list(rollup_rebuild.differences(tenant, Conf())) == []
    mirror([tombstone(tenant, UUID(int=id_), 10**12) for id_ in range(1, 7)])
    assert not RollUp.objects.using(archive_db).filter(tenant=tenant).exists()


def test_runs_of_days_of_start_are_those_that_have_a_start(archive_db: str) -> None:
    started = {"a": "1970-01-02T10:00:00Z", "b": "1970-01-02T23:59:59Z", "c": "1970-01-03T00:00:00Z"}
    records = [made(new_id(), 3 * DAY_US, project=name, started_at=at) for name, at in started.items()]
    mirror([*records, *(made(new_id(), DAY_US + at, project="a", total_cost_usd=0.5) for at in (1, 2))])
    day = {"started_since": "1970-01-02", "started_until": "1970-01-03"}
    for filters, expected in ((day, 2), (day | {"project": "a"}, 1), ({"started_since": "1970-01-03"}, 1)):
        found = rollup_reads.summary(TENANT, parse_query(filters, 0), bucket="day")
        assert found is not None
        assert shown(found) == scanned(TENANT, parse_query(filters, 0), "day")
        assert found.as_json()["count"] == expected
    for uncovered, expected in (({"since": "1970-01-02"}, 2), ({"started_until": "1970-01-03T01:00:00Z"}, 3)):
        found = rollup_reads.summary(TENANT, parse_query(day | uncovered, 0))
        assert found is not None
        assert shown(found) == scanned(TENANT, parse_query(day | uncovered, 0))
        assert found.as_json()["count"] == expected


def contents(tenant: str) -> dict[str, Any]:
    """The rows, without the order in which their sums were made."""
    # Where selections begin to lag behind depends on the pages in which they were counted.
    rows = RollUp.objects.using(archive_writes.alias()).filter(tenant=tenant).exclude(day=rollup_rows.SELECTED)
    return {row.key: (row.cell, sorted(row.details), row.project, row.day, row.start) for row in rows}


@properties
@given(given=batches, asked=some, limit=st.integers(0, 12))
def test_sums_are_those_of_a_scan_with_more_combinations_than_are_allowed(
    given: list[list[Any]],
    asked: list[dict[str, str]],
    limit: int,
    archive_db: str,
    settings: Settings,
    trajectories_settings: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.TRAJECTORIES = trajectories_settings | {"ROLLUP_MAX_CELLS": limit}
    monkeypatch.setattr(rollup_rows, "MAX_VALUES", limit // 3)
    tenant = next(tenants)
    for batch in given:
        mirror(batch_of(tenant, batch))
        counting.count(tenant)
    row = Tenant.objects.using(archive_db).get(pk=tenant)
    assert RollUp.objects.using(archive_db).filter(tenant=tenant, day=-1, is_total=False).count() == row.rolled_cells
    if row.rollup_cut != rollups.Cut.ALL:
        assert row.rolled_cells <= 2 * limit
        expect_same(tenant, asked)


# Who does not know roll-ups.


def archive_as_earlier_release(records: list[Record]) -> None:
    """Archive as a worker of a release without roll-ups does: it leaves their columns alone."""
    before = {one.pk: one for one in Tenant.objects.using(archive_writes.alias()).all()}
    kept = {row.key: row for row in RollUp.objects.using(archive_writes.alias()).all()}
    mirror(records)
    RollUp.objects.using(archive_writes.alias()).all().delete()
    RollUp.objects.using(archive_writes.alias()).bulk_create(kept.values())
    for slug in {record.tenant for record in records}:
        old = before.get(slug, Tenant(slug))
        fields = {name: getattr(old, name) for name in rollups.TENANT_FIELDS}
        Tenant.objects.using(archive_writes.alias()).filter(pk=slug).update(**fields)


def test_records_of_an_earlier_release_are_scanned_until_the_roll_ups_have_them(archive_db: str) -> None:
    first, second = made(new_id(), DAY_US), made(new_id(), 2 * DAY_US)
    archive_as_earlier_release([first])
    assert rollup_reads.summary(TENANT, Query()) is None
    persistence.roll_up(10)
    expect_same(TENANT)
    archive_as_earlier_release([replace(second, recorded_at_us=1), tombstone(TENANT, first.id, 9)])
    mirror([made(new_id(), 3 * DAY_US)])
    assert rollup_reads.summary(TENANT, Query()) is None
    assert rollup_rebuild.behind() == [TENANT]
    call_command("rebuild_rollups")
    assert rollup_rebuild.behind() == []
    expect_same(TENANT)


def test_writers_go_on_during_a_rebuild(archive_db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its steps: an insert, and a revision and a deletion on either side of where it is."""
    monkeypatch.setattr(rollup_rebuild, "PAGE", 3)
    monkeypatch.setattr(rollup_rebuild, "MAX_RECORDS", 3)
    records = [made(new_id(), (number + 1) * HOUR_US, project=str(number % 2)) for number in range(12)]
    archive_as_earlier_release(records)
    changes = iter(
        [
            [made(records[0].id, DAY_US, project="other"), made(records[10].id, DAY_US, project="other")],
            [tombstone(TENANT, records[1].id, 1), tombstone(TENANT, records[11].id, 1)],
            [made(new_id(), 3 * DAY_US)],
        ]
    )

    def write(records: int) -> None:
        if batch := next(changes, []):
            assert rollup_reads.summary(TENANT, Query()) is None
            mirror(batch)

    assert rollup_rebuild.rebuild(TENANT, write)
    assert next(changes, None) is None
    expect_same(TENANT)


def test_a_rebuild_that_a_process_of_an_earlier_release_disturbs_says_so(
    archive_db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive_as_earlier_release([made(new_id(), DAY_US)])
    begin = rollup_rebuild._begin

    def disturbed(tenant: str) -> None:
        begin(tenant)
        archive_as_earlier_release([made(new_id(), DAY_US)])

    monkeypatch.setattr(rollup_rebuild, "_begin", disturbed)
    with pytest.raises(CommandError, match="earlier release changes records of 'alice'"):
        call_command("rebuild_rollups", tenant=TENANT)
    assert rollup_reads.summary(TENANT, Query()) is None


def test_filled_credit_is_in_the_sums_after_a_rebuild(archive_db: str) -> None:
    mirror([made(new_id(), DAY_US, build_passed=True, phases=[{"phase_name": "code", "outcome": "success"}])])
    Phase.objects.using(archive_db).update(credited=None, presence=None)
    call_command("rebuild_rollups")
    expect_same(TENANT)
    call_command("fill_credit")
    assert rollup_reads.summary(TENANT, Query()) is None
    call_command("rebuild_rollups")
    expect_same(TENANT)


def test_check_finds_a_sum_that_a_scan_does_not_give(archive_db: str) -> None:
    mirror([made(new_id(), number * DAY_US) for number in (1, 2)])
    assert list(rollup_rebuild.differences(TENANT, Conf())) == []
    row = RollUp.objects.using(archive_db).get(day=2, is_total=False)
    RollUp.objects.using(archive_db).filter(pk=row.pk).update(cell=row.cell.replace("1", "2", 1))
    assert list(rollup_rebuild.differences(TENANT, Conf())) == ["all time", "day 2 since 1970"]
    with pytest.raises(CommandError, match="alice: all time, day 2 since 1970"):
        call_command("rebuild_rollups", check=True)


# Bounds.


def test_a_sum_beyond_64_bits_stays_exact(archive_db: str) -> None:
    huge = [made(new_id(), DAY_US, phases=[{"phase_name": "code", "input_tokens": 2**53 - 1}]) for _ in range(3)]
    mirror(huge)
    row = RollUp.objects.using(archive_db).get(day=rollup_rows.ALL_TIME, is_total=False)
    cell = rollup_rows.loads(row.cell)
    at = cell.index(3 * (2**53 - 1))
    cell[at] = 2**70
    RollUp.objects.using(archive_db).filter(pk=row.pk).update(cell=rollup_rows.dumps(cell))
    mirror([made(new_id(), DAY_US, phases=[{"phase_name": "code", "input_tokens": 1}])])
    row.refresh_from_db()
    assert rollup_rows.loads(row.cell)[at] == 2**70 + 1


def test_with_10_000_projects_only_their_groups_are_scanned(
    archive_db: str, settings: Settings, trajectories_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In small: 40 projects, and 10 combinations and values allowed."""
    settings.TRAJECTORIES = trajectories_settings | {"ROLLUP_MAX_CELLS": 10}
    monkeypatch.setattr(rollup_rows, "MAX_VALUES", 10)
    for number in range(40):
        mirror([made(new_id(), DAY_US, project=f"project {number}")])
    assert RollUp.objects.using(archive_db).filter(tenant=TENANT, day=-1).count() == 10 + 1 + 1
    with CaptureQueriesContext(connections[archive_db]) as queries:
        found = rollup_reads.summary(TENANT, Query())
    assert found is not None
    assert len(found.as_json()["by_project"]) == 40
    assert sum('FROM "trajectories_trajectory"' in query["sql"] for query in queries) == 1
    assert not any('"trajectories_phase"' in query["sql"] for query in queries)
    assert rollup_reads.summary(TENANT, parse_query({"project": "project 1"}, 0)) is None
    expect_same(TENANT)


def test_groups_of_more_values_than_a_total_has_come_from_the_combinations(
    archive_db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollup_rows, "MAX_VALUES", 2)
    phases = [{"phase_name": "spec", "model": "m"}]
    for number in range(4):
        mirror([made(new_id(), DAY_US, project=f"project {number % 3}", phases=phases)])
    while counting.count(TENANT):
        pass
    with CaptureQueriesContext(connections[archive_db]) as queries:
        found = rollup_reads.summary(TENANT, Query())
    assert found is not None
    assert [group["count"] for group in found.as_json()["by_project"]] == [2, 1, 1]
    assert not any('"trajectories_trajectory"' in query["sql"] for query in queries)
    assert rollup_reads.summary(TENANT, parse_query({"model": "m"}, 0)) is None
    expect_same(TENANT)


def test_a_selection_reads_one_row_and_scans_what_it_lacks(archive_db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    phases = [{"phase_name": "spec", "model": "m"}, {"phase_name": "test", "model": "other"}]
    mirror([made(new_id(), DAY_US + number, phases=phases) for number in range(7)])
    asked = parse_query({"model": "m", "phase": "spec"}, 0)
    assert rollup_reads.summary(TENANT, asked) is None
    for _ in range(3):
        assert counting.count(TENANT)
    assert not counting.count(TENANT)
    with CaptureQueriesContext(connections[archive_db]) as queries:
        found = rollup_reads.summary(TENANT, asked)
    assert found is not None
    assert found.as_json()["count"] == 7
    assert sum('FROM "trajectories_rollup"' in query["sql"] for query in queries) == 1
    scans = [query["sql"] for query in queries if "SELECT" in query["sql"] and "_trajectory" in query["sql"]]
    assert scans
    assert all('"seq" > 6' in sql for sql in scans)
    monkeypatch.setattr(rollup_reads, "MAX_BEHIND", 0)
    assert rollup_reads.summary(TENANT, asked) is None


@pytest.mark.parametrize("bound", ["MAX_SELECTIONS", "MAX_SELECTION_CELLS"])
def test_a_tenant_of_too_many_selections_has_none(archive_db: str, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    monkeypatch.setattr(counting, bound, 5)
    phases = [{"phase_name": name} for name in ("a", "b", "c", "d", "e")]
    mirror([made(new_id(), DAY_US, phases=phases) for _ in range(2)])
    assert counting.count(TENANT)
    assert rollup_reads.selections(TENANT)
    mirror([made(new_id(), DAY_US, phases=[{"phase_name": "f"}]) for _ in range(2)])
    assert counting.count(TENANT)
    assert rollup_reads.selections(TENANT) == []
    assert rollup_reads.summary(TENANT, parse_query({"phase": "a"}, 0)) is None
    assert rollup_rebuild.behind() == []
    expect_same(TENANT)


def test_roll_ups_of_another_version_are_not_read_and_made_anew(
    archive_db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(rollup_rows, "VERSION", rollup_rows.VERSION + 1)
        mirror([made(new_id(), DAY_US)])
        assert rollup_reads.summary(TENANT, Query()) is not None
    assert rollup_reads.summary(TENANT, Query()) is None
    mirror([made(new_id(), DAY_US)])
    assert rollup_reads.summary(TENANT, Query()) is None
    assert rollup_rebuild.behind() == [TENANT]
    persistence.roll_up(10)
    assert rollup_rebuild.behind() == []
    expect_same(TENANT)


@pytest.mark.parametrize("records", [3, 30])
def test_an_answer_reads_the_same_rows_however_many_records_there_are(archive_db: str, records: int) -> None:
    phases = [{"phase_name": "code", "model": "m"}, {"phase_name": "test"}]
    mirror([made(new_id(), DAY_US, project="p", phases=phases) for _ in range(records)])
    with CaptureQueriesContext(connections[archive_db]) as queries:
        rollup_reads.summary(TENANT, Query())
    assert len(queries) == 2
    assert RollUp.objects.using(archive_db).count() == 4


def test_an_erasure_deletes_the_sums_first(archive_db: str) -> None:
    mirror([made(new_id(), DAY_US) for _ in range(3)])
    archive_writes.erase_some(TENANT, 1)
    assert not RollUp.objects.using(archive_db).exists()
    assert rollup_reads.summary(TENANT, Query()) is None
