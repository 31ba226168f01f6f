"""Roll-ups of records that were archived without them, made while writers go on.

A rebuild counts records in the order of ``seq``, some in a transaction. ``Tenant.rolled_seq`` is
how far it has come: writers count the changes of records up to there and leave later ones to it.
The same holds for selections and ``Tenant.selected_seq``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import F, Q

from trajectories.conf import Settings
from trajectories.domain.clock import DAY_US
from trajectories.domain.query import Condition, Query
from trajectories.domain.stats import Cell, Summary
from trajectories.domain.text import quoted
from trajectories.models import RollUp, Tenant, Tombstone, Trajectory
from trajectories.storage import archive_reads, counting, rollup_reads, rollups
from trajectories.storage.archive_errors import archive_errors
from trajectories.storage.archive_snapshot import snapshot
from trajectories.storage.archive_writes import alias
from trajectories.storage.rollup_rows import mark, rows_of
from trajectories.storage.rollups import (
    TENANT_FIELDS,
    Changes,
    Cut,
    archived,
    has_seen_all,
    seen_all,
    write,
)

PAGE = 2_000
"""Records that are read at once. Writers of the tenant wait for it if no more are left, or one has
changed."""
MAX_RECORDS, MAX_PARTS = 50_000, 4_000
"""Records that a transaction counts, and sums of them in memory, each with rows to write."""
_GONE = 2_000
"""Rows that a transaction deletes."""
_RESTARTS = 10


class RollUpsInterrupted(Exception):
    """A process of an earlier release changed records meanwhile, each time. Repeat when it has
    ended."""


@archive_errors()
def rebuild(tenant: str, on_progress: Callable[[int], object] = lambda records: None) -> bool:
    """Make the roll-ups of ``tenant`` anew; return False if it is more than ``rollup_max_cells``
    allow.

    Args:
        on_progress: called with the number of records that a transaction has counted.

    Raises:
        RollUpsInterrupted: see there.
        ArchiveError: the archive is unavailable; repeating is safe.
    """
    for _ in range(_RESTARTS):
        _begin(tenant)
        while (counted := _step(tenant)) is not None:
            on_progress(counted)
        while counting.count(tenant):
            pass
        row = _tenant(tenant)
        if row is None or rollup_reads.is_current(row) or row.rollup_cut == Cut.ALL:
            return row is None or row.rollup_cut != Cut.ALL
    raise RollUpsInterrupted(
        f"A process of an earlier release changes records of {tenant!r} without roll-ups. Repeat this when the last"
        " worker and web process of that release have ended."
    )


@archive_errors()
def catch_up(tenant: str, records: int) -> int:
    """Continue a rebuild of ``tenant``, or begin one, until it has counted ``records``, or a page
    more.

    Returns:
        How many of ``records`` are left.
    """
    row = _tenant(tenant)
    if row is None or not has_seen_all(row):
        _begin(tenant)
    while records > 0 and (counted := _step(tenant)) is not None:
        records -= max(1, counted)
    while records > 0 and counting.count(tenant):
        records -= rollups.COUNT_PAGE
    return records


def set_aside(tenants: Sequence[str]) -> None:
    """Make reads scan the records of ``tenants`` until a rebuild: their columns change."""
    for tenant in tenants:  # in the order in which writers lock them
        Tenant.objects.using(alias()).filter(pk=tenant).update(rolled_changed=-1)


@archive_errors()
def behind() -> list[str]:
    """Return the tenants whose roll-ups lack changes, those without roll-ups for their number left
    out."""
    lacks = ~seen_all() | ~Q(rolled_seq=F("last_seq")) | rollups.due()
    rows = Tenant.objects.using(alias()).filter(lacks).exclude(rollup_cut=Cut.ALL)
    return list(rows.order_by("pk").values_list("pk", flat=True))


@archive_errors()
def differences(tenant: str, conf: Settings) -> Iterator[str]:
    """Yield where the roll-ups of ``tenant`` differ from a scan of its records: nothing is good.

    Each day is scanned in a snapshot of its own, so writers and memory do not matter.
    """
    row = _tenant(tenant)
    if row is None or not rollup_reads.is_current(row):
        yield "they lack changes"
        return
    rows = rows_of(tenant, alias(), is_total=True).filter(day__gte=0)
    days = [None, *rows.order_by("day").values_list("day", flat=True).distinct()]
    for day in days:
        query = Query() if day is None else Query(_bounds(day))
        with snapshot(conf.archive_statement_timeout_s, alias()):
            both = [rollup_reads.summary(tenant, query, bucket="day", from_totals=one) for one in (True, False)]
            scanned = archive_reads.summary(tenant, query, None, bucket="day", using=alias())
        if not all(found is None or _is_same(found, scanned) for found in both):
            yield "all time" if day is None else f"day {day} since 1970"
    for selection in rollup_reads.selections(tenant):
        named = {name: value for name, value in selection._asdict().items() if value is not None}
        query = Query(on_phase=tuple(Condition(name, "equal", value) for name, value in named.items()))
        with snapshot(conf.archive_statement_timeout_s, alias()):
            found = rollup_reads.summary(tenant, query)
            scanned = archive_reads.summary(tenant, query, None, using=alias())
        if found is not None and not _is_same(found, scanned):
            yield "runs with " + ", ".join(f"{name} {quoted(value)}" for name, value in named.items())


def _bounds(day: int) -> tuple[Condition, Condition]:
    start = day * DAY_US
    return Condition("recorded_at_us", "at_least", start), Condition("recorded_at_us", "below", start + DAY_US)


def _is_same(one: Summary, other: Summary) -> bool:
    difference = Summary("day")
    difference.merge(one)
    difference.merge(other, times=-1)
    of_kinds: list[Mapping[Any, Cell]] = [
        *difference.by_column().values(),
        difference.phases,
        difference.series,
        difference.late,
        difference.late_phases,
        difference.skip_costs,
    ]
    cells = [cell for kind in of_kinds for cell in kind.values()]
    buckets = (*difference.buckets.values(), *difference.durations.values())
    counts: Iterable[int] = (count for one in buckets for count in one.values())
    return not any(map(any, cells)) and not any(counts)


def _tenant(tenant: str) -> Tenant | None:
    return Tenant.objects.using(alias()).filter(pk=tenant).first()


def _lock(tenant: str) -> Tenant | None:
    """Lock the tenant's row as writers do; return it, None if it does not exist."""
    rows = Tenant.objects.using(alias()).filter(pk=tenant)
    return rows.first() if rows.update(last_seq=F("last_seq")) else None


def _begin(tenant: str) -> None:
    """Delete the roll-ups of ``tenant``; writers count nothing meanwhile.

    It counts as a change of the tenant, since columns of its records may have changed without one:
    no process may use what it remembers of them.
    """
    rows = RollUp.objects.using(alias()).filter(tenant=tenant)
    is_left = True
    while is_left:
        with transaction.atomic(using=alias()):
            row = _lock(tenant)
            keys = list(rows.values_list("pk", flat=True)[:_GONE])
            rows.filter(pk__in=keys).delete()
            is_left = len(keys) == _GONE
            if row is not None:
                row.rolled_seq = row.rolled_cells = row.rollup_cut = row.selected_seq = row.learned_seq = 0
                row.last_changed += not is_left
                row.rolled_changed = -1 if is_left else mark(row.last_changed)
                row.save(using=alias(), update_fields=(*TENANT_FIELDS, "last_changed"))


def _step(tenant: str) -> int | None:
    """Count the next records, and return their number; None if there is nothing to do.

    Records are read without the lock, as long as many are left. If one of them changes meanwhile,
    the first of them are read again with it.
    """
    before = _tenant(tenant)
    read = None
    if before is not None and _is_begun(before) and before.last_seq - before.rolled_seq > PAGE:
        read = _Page.read(before, MAX_RECORDS)
    with transaction.atomic(using=alias()):
        row = _lock(tenant)
        if row is None or not _is_begun(row):
            return None
        if read is None or not read.still_holds(row):
            read = _Page.read(row, PAGE)
        changes, is_selected = read.changes, row.selected_seq == row.rolled_seq
        changes.tenant = row
        write([changes])
        row.rolled_seq = read.last_seq
        if is_selected:
            counting.end_selecting(row, read.last_seq)
        row.save(using=alias(), update_fields=TENANT_FIELDS)
    return read.records


def _is_begun(row: Tenant) -> bool:
    return has_seen_all(row) and row.rolled_seq != row.last_seq and row.rollup_cut != Cut.ALL


class _Page(NamedTuple):
    """The sums of the ``records`` after ``before.rolled_seq``, up to ``last_seq``: how many these
    are."""

    before: Tenant
    changes: Changes
    last_seq: int
    records: int

    @classmethod
    def read(cls, before: Tenant, most: int) -> _Page:
        changes, last_seq, count = Changes(before, alias(), is_rebuild=True), before.rolled_seq, 0
        is_selected, is_end = before.selected_seq == before.rolled_seq, False
        records = Trajectory.objects.using(alias()).filter(tenant=before.pk, seq__lte=before.last_seq).order_by("seq")
        while not is_end and count < most and changes.size < MAX_PARTS:
            page = list(archived(records.filter(seq__gt=last_seq)[:PAGE], alias()))
            for seq, recorded_at_us, facets in page:
                changes.add(seq, recorded_at_us, facets)
                if is_selected:
                    changes.select(recorded_at_us, facets)
            count, is_end = count + len(page), len(page) < PAGE
            last_seq = before.last_seq if is_end else page[-1][0]
        return cls(before, changes, last_seq, count)

    def still_holds(self, row: Tenant) -> bool:
        """Return whether its records are those of ``row``, which is locked."""
        if (row.rolled_seq, row.selected_seq) != (self.before.rolled_seq, self.before.selected_seq):
            return False  # another process has counted some
        since = {"tenant": row.pk, "changed__gt": self.before.last_changed}
        of_page = {"seq__gt": row.rolled_seq, "seq__lte": self.last_seq}
        changed = (model.objects.using(alias()).filter(**since, **of_page) for model in (Trajectory, Tombstone))
        return row.last_changed == self.before.last_changed or not any(rows.exists() for rows in changed)
