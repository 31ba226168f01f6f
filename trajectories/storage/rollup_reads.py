"""Stats from roll-ups: whole days are sums of rows, parts of days are scanned."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Q, QuerySet

from trajectories.domain.cell_groups import Cell, Cells, total
from trajectories.domain.clock import DAY_US
from trajectories.domain.query import BIGGEST, Condition, Query
from trajectories.domain.stats import Summary, bucket_start
from trajectories.models import RollUp, Tenant, Trajectory
from trajectories.storage import archive_reads
from trajectories.storage.archive_errors import archive_errors
from trajectories.storage.archive_writes import alias
from trajectories.storage.rollup_rows import (
    ALL_TIME,
    NAMES,
    SELECTED,
    Place,
    Selection,
    decoded,
    durations,
    loads,
    rows_of,
)
from trajectories.storage.rollup_tails import Tail, Tails
from trajectories.storage.rollups import Cut, archived, has_seen_all

MAX_BEHIND = 5_000
"""Records after the last selected one that a read of a selection scans. With more, it scans all."""
_SELECTIONS = frozenset({("phase",), ("model",), ("model", "phase"), ("selection_method",)})
"""Filters of phases that together are a selection."""

_STARTED = "started_at_us"


class Span(NamedTuple):
    """Days since 1970, from ``first`` on and before ``end``; None: of all time."""

    first: int
    end: int | None


def covers(query: Query) -> bool:
    """Return whether roll-ups can answer ``query``: every filter is a column of theirs, or a time;
    or its only filters are those of a selection.

    Times of start must be whole days, and not beside times of recording.
    """
    if query.on_phase:
        columns = tuple(sorted(condition.column for condition in query.on_phase))
        return columns in _SELECTIONS and not query.on_trajectory and not query.on_position
    of_start, others = _by_start(query)
    if of_start and (query.on_position or any(condition.value % DAY_US for condition in of_start)):
        return False
    return all(condition.column in NAMES and condition.lookup == "equal" for condition in others)


def covered_part(query: Query) -> Query:
    """Return ``query`` with those of its conditions that rows of days and all time have."""
    of_trajectory = tuple(one for one in query.on_trajectory if one.column in NAMES and one.lookup == "equal")
    return Query(query.on_position, of_trajectory)


def _by_start(query: Query) -> tuple[list[Condition], list[Condition]]:
    """Return the conditions on the time of start, and the other ones on trajectories."""
    of_start = [condition for condition in query.on_trajectory if condition.column == _STARTED]
    return of_start, [condition for condition in query.on_trajectory if condition.column != _STARTED]


def cuts_days(query: Query) -> bool:
    """Return whether a part of a day is scanned."""
    return bool(_split(query)[1])


@archive_errors()
def summary(
    tenant: str, query: Query, *, bucket: str | None = None, from_totals: bool = True, tails: Tails | None = None
) -> Summary | None:
    """Return the summary of all matching records in the archive; None if roll-ups cannot give it.

    That is so if they lack changes, or the records of a whole day. If they do not cover all filters,
    the records that match the others alone are scanned and subtracted, which is right at any time,
    and fast where these are few. The caller holds ``archive_snapshot.snapshot``.

    Args:
        from_totals: read totals where no filter needs the other rows; the result is the same.
        tails: those of the process, so that it reads fewer records; the result is the same.
    """
    if not covers(query):
        return _less_others(tenant, query, bucket)
    row = Tenant.objects.using(alias()).filter(pk=tenant).first()
    if row is None:
        return Summary(bucket)
    if not can_answer(row, query):
        return None
    return summary_at(row, query, bucket=bucket, from_totals=from_totals, tails=tails)


def can_answer(row: Tenant, query: Query) -> bool:
    """Return whether the roll-ups of a tenant have what ``query`` asks for, unless it is a part of
    a day, or a selection that they lack."""
    of_start, others = _by_start(query)
    is_cut = row.rollup_cut and (of_start or any(condition.column == "project" for condition in others))
    return covers(query) and is_current(row) and not is_cut


def summary_at(
    row: Tenant, query: Query, *, bucket: str | None, from_totals: bool = True, tails: Tails | None = None
) -> Summary | None:
    """Return ``summary`` of a query that ``can_answer`` has allowed."""
    if query.on_phase:
        return None if bucket else _selected(row, query, Tail() if tails is None else tails.of(row.pk))
    of_start, others = _by_start(query)
    wanted = {condition.column: condition.value for condition in others}
    is_total = from_totals and not wanted
    if of_start:
        return _of_starts(row, of_start, others, wanted, bucket, is_total=is_total)
    span, parts = _split(query)
    if span is not None and span.end is not None and span.first >= span.end:
        return None
    found = _of_days(row, query, wanted, span, bucket, is_total=is_total)
    for part in parts:
        found.merge(archive_reads.summary(row.pk, part, None, bucket=bucket, using=alias()))
    return found


def _less_others(tenant: str, query: Query, bucket: str | None) -> Summary | None:
    """Return the sums of ``covered_part``, less those of its records that do not match ``query``."""
    part = covered_part(query)
    found = None if cuts_days(part) else summary(tenant, part, bucket=bucket)
    if found is not None:
        found.merge(archive_reads.summary(tenant, part, None, bucket=bucket, using=alias(), without=query), times=-1)
    return found


def is_current(tenant: Tenant) -> bool:
    """Return whether the roll-ups of a tenant have seen all of its changes."""
    return tenant.rollup_cut != Cut.ALL and has_seen_all(tenant) and tenant.rolled_seq == tenant.last_seq


def _split(query: Query) -> tuple[Span | None, list[Query]]:
    """Return the whole days of a query, None without a bound, and the queries of the parts of days."""
    if not query.on_position:
        return None, []
    since, until = bounds(query)
    first = -(-since // DAY_US)
    end = None if until >= BIGGEST else until // DAY_US
    parts = []
    if since % DAY_US:
        parts.append(between(query, since, first * DAY_US))
    if end is not None and until % DAY_US:
        parts.append(between(query, end * DAY_US, until))
    return Span(first, end), parts


def bounds(query: Query) -> tuple[int, int]:
    """Return the first moment that ``query`` asks for, and the first after it, at most BIGGEST."""
    since = max([0, *(one.value for one in query.on_position if one.lookup == "at_least")])
    return since, min([BIGGEST, *(one.value for one in query.on_position if one.lookup == "below")])


def between(query: Query, since: int, until: int) -> Query:
    """Return the part of ``query`` from ``since`` on and before ``until``."""
    ends = Condition("recorded_at_us", "at_least", since), Condition("recorded_at_us", "below", until)
    return Query(ends, query.on_trajectory)


def _of_starts(
    row: Tenant,
    of_start: list[Condition],
    others: list[Condition],
    wanted: dict[str, str],
    bucket: str | None,
    *,
    is_total: bool,
) -> Summary:
    """Return the summary of the runs that started on some whole days.

    The rows of a day of start also have the runs without a start that were recorded on that day. An
    index has these runs, so they are summarized from the records and subtracted.
    """
    names = {"at_least": "gte", "below": "lt"}
    bounds = {f"start__{names[condition.lookup]}": condition.value // DAY_US for condition in of_start}
    days = Q(day__gte=0, **bounds)
    found = _sum(row.pk, days, days, wanted, bucket, is_total=is_total)
    recorded = tuple(condition._replace(column="recorded_at_us") for condition in of_start)
    unstarted = Query(recorded, (*others, Condition(_STARTED, "equal", None)))
    found.merge(archive_reads.summary(row.pk, unstarted, None, bucket=bucket, using=alias()), times=-1)
    return found


def _of_days(
    row: Tenant, query: Query, wanted: dict[str, str], span: Span | None, bucket: str | None, *, is_total: bool
) -> Summary:
    in_days = Q(day__gte=span.first if span else 0)
    if span is not None and span.end is not None:
        in_days &= Q(day__lt=span.end)
    in_span = Q(day=ALL_TIME) if span is None else in_days
    found = _sum(row.pk, in_span, in_days, wanted, bucket, is_total=is_total)
    if row.rollup_cut and found.trajectories:
        # Combinations of any project: the records have the groups.
        found.marginals = {}
        found.trajectories = archive_reads.trajectory_cells(row.pk, _whole(query, span), using=alias())
    return found


def _sum(tenant: str, in_rows: Q, in_days: Q, wanted: dict[str, str], bucket: str | None, *, is_total: bool) -> Summary:
    """Return the sum of the rows that match ``in_rows``, and with ``bucket`` the series of
    ``in_days``."""
    found = Summary(bucket)
    # The rows of one combination each have what filters need; without a filter, the few totals do.
    cells, totals = (rows_of(tenant, alias(), is_total=one) for one in (False, True))
    cells = cells.filter(**wanted)
    rows = totals if is_total else cells
    for part in _decoded(rows.filter(in_rows)):
        found.merge(part)
    if is_total and found.trajectories:  # a column has too many values for a total
        found.marginals, found.trajectories = {}, _cells(cells.filter(in_rows))
    if bucket is not None:
        _add_series(found, rows.filter(in_days), bucket)
    return found


def _selected(row: Tenant, query: Query, tail: Tail) -> Summary | None:
    """Return the summary of a selection: its row, and the records that are not counted in it yet."""
    if row.selected_seq <= 0 or row.last_seq - row.selected_seq > MAX_BEHIND:
        return None
    selection = Selection(**{condition.column: condition.value for condition in query.on_phase})
    key = Place(row.pk, SELECTED, 0, None, selection=selection).key
    columns = RollUp.objects.using(alias()).filter(pk=key).values_list("cell", "details").first()
    found = Summary() if columns is None else decoded((), *columns)
    if found.trajectories:
        return None  # too many values to be grouped
    found.merge(tail.summary(row, selection, alias()))
    return found


@archive_errors()
def summary_of(tenant: str, query: Query, ids: Collection[UUID], *, bucket: str | None = None) -> Summary:
    """Return what those of ``ids`` that are archived add to ``summary``; a few statements."""
    found = Summary(bucket)
    rows = Trajectory.objects.using(alias()).filter(tenant=tenant, trajectory_id__in=[*ids])
    for _, recorded_at_us, facets in archived(archive_reads.compared(rows, query), alias()):
        found.add(facets, recorded_at_us)
    return found


@archive_errors()
def selections(tenant: str) -> list[Selection]:
    """Return the selections that a tenant has rows of."""
    rows = rows_of(tenant, alias(), is_total=True).filter(day=SELECTED)
    return [Selection(*loads(details)["selection"]) for details in rows.values_list("details", flat=True)]


def _whole(query: Query, span: Span | None) -> Query:
    if span is None:
        return query
    return between(query, span.first * DAY_US, BIGGEST if span.end is None else span.end * DAY_US)


def _decoded(rows: QuerySet[RollUp]) -> Iterator[Summary]:
    for *key, cell, details in rows.values_list(*NAMES[:4], "cell", "details"):
        yield decoded(tuple(key), cell, details)


def _cells(rows: QuerySet[RollUp]) -> Cells:
    return _added((tuple(key), cell) for *key, cell in rows.values_list(*NAMES[:4], "cell"))


def _add_series(found: Summary, rows: QuerySet[RollUp], bucket: str) -> None:
    for start, cell, details in rows.values_list("start", "cell", "details"):
        found.add_to_series(bucket_start(start * DAY_US, bucket), loads(cell), durations(details))


def _added(rows: Iterable[tuple[Any, str]]) -> Cells:
    """Return the sum of the cells of each key."""
    by_key: dict[Any, list[Cell]] = defaultdict(list)
    for key, cell in rows:
        by_key[key].append(loads(cell))
    return {key: total(cells, 0) for key, cells in by_key.items()}
