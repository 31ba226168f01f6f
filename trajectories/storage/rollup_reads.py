"""Stats from roll-ups: whole days are sums of rows, parts of days are scanned."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from django.db.models import Q, QuerySet

from trajectories.domain.clock import DAY_US
from trajectories.domain.query import BIGGEST, Condition, Query
from trajectories.domain.stats import Cell, Cells, Summary, bucket_start
from trajectories.models import RollUp, Tenant
from trajectories.storage import archive_reads
from trajectories.storage.archive_errors import archive_errors
from trajectories.storage.archive_writes import alias
from trajectories.storage.rollup_rows import ALL_TIME, NAMES, SELECTED, Place, Selection, decoded, loads, rows_of
from trajectories.storage.rollups import Cut, has_seen_all

MAX_BEHIND = 5_000
"""Records after the last selected one that a read of a selection scans. With more, it scans all."""
_SELECTIONS = frozenset({("phase",), ("model",), ("model", "phase"), ("selection_method",)})
"""Filters of phases that together are a selection."""


class Span(NamedTuple):
    """Days since 1970, from ``first`` on and before ``end``; None: of all time."""

    first: int
    end: int | None


def covers(query: Query) -> bool:
    """Return whether roll-ups can answer ``query``: every filter is a column of theirs, or a time; or
    its only filters are those of a selection."""
    if query.on_phase:
        columns = tuple(sorted(condition.column for condition in query.on_phase))
        return columns in _SELECTIONS and not query.on_trajectory and not query.on_position
    return all(condition.column in NAMES and condition.lookup == "equal" for condition in query.on_trajectory)


def cuts_days(query: Query) -> bool:
    """Return whether a part of a day is scanned."""
    return bool(_split(query)[1])


@archive_errors()
def summary(tenant: str, query: Query, *, bucket: str | None = None, from_totals: bool = True) -> Summary | None:
    """Return the summary of all matching records in the archive; None if roll-ups cannot give it.

    That is so if they do not cover the filters or the records of a whole day, or if they lack changes. The
    caller holds ``archive_snapshot.snapshot``.

    Args:
        from_totals: read totals where no filter needs the other rows; the result is the same.
    """
    if not covers(query):
        return None
    row = Tenant.objects.using(alias()).filter(pk=tenant).first()
    if row is None:
        return Summary(bucket)
    wanted = {condition.column: condition.value for condition in query.on_trajectory}
    if not is_current(row) or (row.rollup_cut and "project" in wanted):
        return None
    if query.on_phase:
        return None if bucket else _selected(row, query)
    span, parts = _split(query)
    if span is not None and span.end is not None and span.first >= span.end:
        return None
    found = _of_days(row, query, wanted, span, bucket, is_total=from_totals and not wanted)
    for part in parts:
        found.merge(archive_reads.summary(tenant, part, None, bucket=bucket, using=alias()))
    return found


def is_current(tenant: Tenant) -> bool:
    """Return whether the roll-ups of a tenant have seen all of its changes."""
    return tenant.rollup_cut != Cut.ALL and has_seen_all(tenant) and tenant.rolled_seq == tenant.last_seq


def _split(query: Query) -> tuple[Span | None, list[Query]]:
    """Return the whole days of a query, None without a bound, and the queries of the parts of days."""
    if not query.on_position:
        return None, []
    since = max([0, *(c.value for c in query.on_position if c.lookup == "at_least")])
    until = min((c.value for c in query.on_position if c.lookup == "below"), default=None)
    first = -(-since // DAY_US)
    end = None if until is None or until >= BIGGEST else until // DAY_US
    parts = []
    if since % DAY_US:
        parts.append(_between(query, since, first * DAY_US))
    if end is not None and until is not None and until % DAY_US:
        parts.append(_between(query, end * DAY_US, until))
    return Span(first, end), parts


def _between(query: Query, since: int, until: int) -> Query:
    bounds = Condition("recorded_at_us", "at_least", since), Condition("recorded_at_us", "below", until)
    return Query(bounds, query.on_trajectory)


def _of_days(
    row: Tenant, query: Query, wanted: dict[str, str], span: Span | None, bucket: str | None, *, is_total: bool
) -> Summary:
    found = Summary(bucket)
    # The rows of one combination each have what filters need; without a filter, the few totals do.
    cells, totals = (rows_of(row.pk, alias(), is_total=one) for one in (False, True))
    cells = cells.filter(**wanted)
    in_days = Q(day__gte=span.first if span else 0)
    if span is not None and span.end is not None:
        in_days &= Q(day__lt=span.end)
    in_span = Q(day=ALL_TIME) if span is None else in_days
    for part in _decoded((totals if is_total else cells).filter(in_span)):
        found.merge(part)
    if row.rollup_cut and (found.trajectories or not is_total):
        # Combinations of any project: the records have the groups.
        found.marginals = {}
        found.trajectories = archive_reads.trajectory_cells(row.pk, _whole(query, span), using=alias())
    elif is_total and found.trajectories:  # a column has too many values for a total
        found.marginals, found.trajectories = {}, _cells(cells.filter(in_span))
    if bucket is not None:
        found.series = _series((totals if is_total else cells).filter(in_days), bucket)
    return found


def _selected(row: Tenant, query: Query) -> Summary | None:
    """Return the summary of a selection: its row, and the records that are not counted in it yet."""
    if row.selected_seq <= 0 or row.last_seq - row.selected_seq > MAX_BEHIND:
        return None
    selection = Selection(**{condition.column: condition.value for condition in query.on_phase})
    key = Place(row.pk, SELECTED, 0, None, selection=selection).key
    columns = RollUp.objects.using(alias()).filter(pk=key).values_list("cell", "details").first()
    found = Summary() if columns is None else decoded((), *columns)
    if found.trajectories:
        return None  # too many values to be grouped
    later = Query((Condition("seq", "at_least", row.selected_seq + 1),), (), query.on_phase)
    found.merge(archive_reads.summary(row.pk, later, None, using=alias()))
    return found


@archive_errors()
def selections(tenant: str) -> list[Selection]:
    """Return the selections that a tenant has rows of."""
    rows = rows_of(tenant, alias(), is_total=True).filter(day=SELECTED)
    return [Selection(*loads(details)["selection"]) for details in rows.values_list("details", flat=True)]


def _whole(query: Query, span: Span | None) -> Query:
    if span is None:
        return query
    return _between(query, span.first * DAY_US, BIGGEST if span.end is None else span.end * DAY_US)


def _decoded(rows: QuerySet[RollUp]) -> Iterator[Summary]:
    for *key, cell, details in rows.values_list(*NAMES[:4], "cell", "details"):
        yield decoded(tuple(key), cell, details)


def _cells(rows: QuerySet[RollUp]) -> Cells:
    return _added((tuple(key), cell) for *key, cell in rows.values_list(*NAMES[:4], "cell"))


def _series(rows: QuerySet[RollUp], bucket: str) -> dict[int, Cell]:
    starts = rows.values_list("start", "cell")
    return _added((bucket_start(start * DAY_US, bucket), cell) for start, cell in starts)


def _added(rows: Iterable[tuple[Any, str]]) -> dict[Any, Cell]:
    """Return the sum of the cells of each key."""
    by_key: dict[Any, list[Cell]] = defaultdict(list)
    for key, cell in rows:
        by_key[key].append(loads(cell))
    return {key: list(map(sum, zip(*cells, strict=True))) for key, cells in by_key.items()}
