"""Stats from roll-ups: whole days are sums of rows, parts of days are scanned."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from django.db.models import QuerySet

from trajectories.domain.clock import DAY_US
from trajectories.domain.query import BIGGEST, Condition, Query
from trajectories.domain.stats import Cells, Summary, bucket_start
from trajectories.models import RollUp, Tenant
from trajectories.storage import archive_reads
from trajectories.storage.archive_errors import archive_errors
from trajectories.storage.archive_writes import alias
from trajectories.storage.rollups import ALL_TIME, NAMES, Cut, decoded, loads

_STARTED = "started_at_us"


class Span(NamedTuple):
    """Days since 1970, from ``first`` on and before ``end``; None: of all time."""

    first: int
    end: int | None


def covers(query: Query) -> bool:
    """Return whether roll-ups can answer ``query``: every filter is a column of theirs, or a time.

    Times of start must be whole days, and not beside times of recording.
    """
    of_start, others = _by_start(query)
    if of_start and (query.on_position or any(condition.value % DAY_US for condition in of_start)):
        return False
    return not query.on_phase and all(condition.column in NAMES and condition.lookup == "equal" for condition in others)


def _by_start(query: Query) -> tuple[list[Condition], list[Condition]]:
    """Return the conditions on the time of start, and the other ones on trajectories."""
    of_start = [condition for condition in query.on_trajectory if condition.column == _STARTED]
    return of_start, [condition for condition in query.on_trajectory if condition.column != _STARTED]


def cuts_days(query: Query) -> bool:
    """Return whether a part of a day is scanned."""
    return bool(_split(query)[1])


@archive_errors()
def summary(tenant: str, query: Query, *, bucket: str | None = None) -> Summary | None:
    """Return the summary of all matching records in the archive; None if roll-ups cannot give it.

    That is so if they do not cover the filters or the records of a whole day, or if they lack changes. The
    caller holds ``archive_snapshot.snapshot``.
    """
    if not covers(query):
        return None
    row = Tenant.objects.using(alias()).filter(pk=tenant).first()
    if row is None:
        return Summary(bucket)
    of_start, others = _by_start(query)
    wanted = {condition.column: condition.value for condition in others}
    if not is_current(row) or (row.rollup_cut and ("project" in wanted or of_start)):
        return None
    if of_start:
        return _of_starts(row, of_start, others, wanted, bucket)
    span, parts = _split(query)
    if span is not None and span.end is not None and span.first >= span.end:
        return None
    found = _of_days(row, query, wanted, span, bucket)
    for part in parts:
        found.merge(archive_reads.summary(tenant, part, None, bucket=bucket, using=alias()))
    return found


def is_current(tenant: Tenant) -> bool:
    """Return whether the roll-ups of a tenant have seen all of its changes."""
    return (
        tenant.rollup_cut != Cut.ALL
        and tenant.rolled_changed == tenant.last_changed
        and tenant.rolled_seq == tenant.last_seq
    )


@archive_errors()
def phase_cells(
    tenant: str, *, phase: str, project: str | None = None, request_type: str | None = None
) -> Cells | None:
    """Return the cells of one phase of all time, of a project and of a request type, if given.

    Keys are ``stats.PHASE_KEY``, values ``stats.Cell``. One seek in an index reads the row of the
    total, or the rows of the project.

    Returns:
        None if roll-ups cannot answer: they lack changes, or count projects together.
    """
    row = Tenant.objects.using(alias()).filter(pk=tenant).first()
    if row is None:
        return {}
    if not is_current(row) or (row.rollup_cut and project is not None):
        return None
    rows = RollUp.objects.using(alias()).filter(tenant=tenant, day=ALL_TIME, is_total=project is None)
    if project is not None:
        rows = rows.filter(project=project)
        rows = rows if request_type is None else rows.filter(request_type=request_type)
    found = Summary()
    for details in rows.values_list("details", flat=True):
        cells = {
            tuple(key): cell
            for *key, cell in loads(details)["phases"]
            if key[0] == phase and request_type in (None, key[-1])
        }
        found.merge(Summary(phases=cells))
    return found.phases


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


def _of_starts(
    row: Tenant, of_start: list[Condition], others: list[Condition], wanted: dict[str, str], bucket: str | None
) -> Summary:
    """Return the summary of the runs that started on some whole days.

    The rows of a day of start also have the runs without a start that were recorded on that day. An
    index has these runs, so they are summarized from the records and subtracted.
    """
    names = {"at_least": "gte", "below": "lt"}
    bounds = {f"start__{names[condition.lookup]}": condition.value // DAY_US for condition in of_start}
    days = RollUp.objects.using(alias()).filter(tenant=row.pk, day__gte=0, **bounds)
    found = _sum(days, days, wanted, bucket)
    if not wanted:
        found.trajectories = _cells(days.filter(is_total=False))
    recorded = tuple(condition._replace(column="recorded_at_us") for condition in of_start)
    unstarted = Query(recorded, (*others, Condition(_STARTED, "equal", None)))
    found.merge(archive_reads.summary(row.pk, unstarted, None, bucket=bucket, using=alias()), times=-1)
    return found


def _of_days(row: Tenant, query: Query, wanted: dict[str, str], span: Span | None, bucket: str | None) -> Summary:
    rows = RollUp.objects.using(alias()).filter(tenant=row.pk)
    days = rows.filter(day__gte=span.first if span else 0)
    if span is None:
        rows = rows.filter(day=ALL_TIME)
    else:
        days = rows = days if span.end is None else days.filter(day__lt=span.end)
    found = _sum(rows, days, wanted, bucket)
    if row.rollup_cut:
        found.trajectories = archive_reads.trajectory_cells(row.pk, _whole(query, span), using=alias())
    elif not wanted:
        found.trajectories = _cells(rows.filter(is_total=False))
    return found


def _sum(rows: QuerySet[RollUp], days: QuerySet[RollUp], wanted: dict[str, str], bucket: str | None) -> Summary:
    """Return the sum of ``rows``, and with ``bucket`` the series of ``days``; without a filter, the
    cells of trajectories are left to the caller."""
    found = Summary(bucket)
    # The rows of one combination each have what the filters and groups need; without a filter, the
    # few totals have everything else.
    for part in _decoded(rows.filter(is_total=not wanted, **wanted)):
        found.merge(part)
    if bucket is not None:
        _add_series(found, days.filter(is_total=not wanted, **wanted), bucket)
    return found


def _whole(query: Query, span: Span | None) -> Query:
    if span is None:
        return query
    return _between(query, span.first * DAY_US, BIGGEST if span.end is None else span.end * DAY_US)


def _decoded(rows: QuerySet[RollUp]) -> Iterator[Summary]:
    for *key, cell, details in rows.values_list(*NAMES[:4], "cell", "details"):
        yield decoded(tuple(key), cell, details)


def _cells(rows: QuerySet[RollUp]) -> Cells:
    return _added((tuple(key), cell) for *key, cell in rows.values_list(*NAMES[:4], "cell"))


def _add_series(found: Summary, rows: QuerySet[RollUp], bucket: str) -> None:
    for start, cell, details in rows.values_list("start", "cell", "details"):
        part, at = decoded((), cell, details), bucket_start(start * DAY_US, bucket)
        found.merge(Summary(series={at: part.trajectories[()]}, durations={at: part.buckets["duration_us"]}))


def _added(rows: Iterable[tuple[Any, str]]) -> Cells:
    """Return the sum of the cells of each key."""
    by_key: dict[Any, list[list[int]]] = defaultdict(list)
    for key, cell in rows:
        by_key[key].append(loads(cell))
    return {key: list(map(sum, zip(*cells, strict=True))) for key, cells in by_key.items()}
