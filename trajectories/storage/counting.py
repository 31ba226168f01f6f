"""Counting archived records in the sums that a batch does not pay for: selections (``rollups``) and
sums of choices (``choice_rows``).

A record is in about fifteen selections and as many sums of choices, with a row for each. So records
are counted a page at a time, which shares the cost of the rows. ``Tenant.selected_seq`` and
``learned_seq`` are how far both have come; readers add the records after that.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from django.db import transaction
from django.db.models import F, QuerySet

from trajectories.domain.choice_sums import Part, part_of
from trajectories.domain.record import Facets, facets_of
from trajectories.models import Tenant, Trajectory
from trajectories.storage import choice_rows, recent_records, rollup_reads, rollup_rows, rollups
from trajectories.storage.archive_errors import archive_errors
from trajectories.storage.archive_rows import TRAJECTORY_COLUMNS, alias, record_from
from trajectories.storage.recent_records import Recent
from trajectories.storage.rollup_rows import ALL_TIME, SELECTED, rows_of
from trajectories.storage.rollups import TENANT_FIELDS, Changes, archived, is_due, write

MAX_SELECTIONS, MAX_SELECTION_CELLS = 500, 1_000
"""Selections of a tenant, and cells of one. With more, the tenant has none."""
_CHUNK = 400
"""Keys in a statement, below SQLite's number of variables."""


@archive_errors()
def count(tenant: str) -> bool:
    """Count the next ``rollups.COUNT_PAGE`` records of a tenant; return False if there is nothing to
    do."""
    with transaction.atomic(using=alias()):
        row = _lock(tenant)
        if row is None or not rollup_reads.is_current(row) or not is_due(row):
            return False
        after, *others = sorted({row.learned_seq, *([row.selected_seq] if row.selected_seq >= 0 else [])})
        # Up to the other position, so that both are the same from then on, and records are read once.
        end = min([after + rollups.COUNT_PAGE, *others])
        page = _Page(row, after, end)
        if row.selected_seq == after:
            changes = Changes(row, alias())
            for recorded_at_us, facets in page.facets():
                changes.select(recorded_at_us, facets)
            write([changes])
            end_selecting(row, end)
        if row.learned_seq == after:
            choice_rows.write(row, ((part, 1) for part in page.parts()))
            row.learned_seq = end
        row.save(using=alias(), update_fields=TENANT_FIELDS)
    return True


class _Page:
    """The records of a tenant after one place in exports, and up to another."""

    def __init__(self, row: Tenant, after: int, end: int) -> None:
        self._rows = Trajectory.objects.using(alias()).filter(tenant=row.pk, seq__gt=after, seq__lte=end)
        self._known: list[Recent] = []
        self._others: list[int] = []
        for seq, changed, digest in self._rows.values_list("seq", "changed", "digest"):
            if (found := recent_records.written.take(row.pk, seq, changed, digest)) is None:
                self._others.append(seq)
            else:
                self._known.append(found)

    def facets(self) -> Iterator[tuple[int, Facets]]:
        """Yield ``recorded_at_us`` and the facets that the columns have."""
        yield from ((one.record.recorded_at_us, one.facets) for one in self._known)
        for rows in self._chunks():
            yield from ((recorded_at_us, facets) for _, recorded_at_us, facets in archived(rows, alias()))

    def parts(self) -> Iterator[Part]:
        """Yield the sums of choices of each record."""
        for _, _, record, facets in self._known:
            yield part_of(facets, record.body, record.recorded_at_us)
        for rows in self._chunks():
            for record in map(record_from, rows.values_list(*TRAJECTORY_COLUMNS)):
                yield part_of(facets_of(record.body, record.outcomes), record.body, record.recorded_at_us)

    def _chunks(self) -> Iterator[QuerySet[Trajectory]]:
        left = iter(self._others)
        while seqs := list(islice(left, _CHUNK)):
            yield self._rows.filter(seq__in=seqs)


def end_selecting(row: Tenant, seq: int) -> None:
    """Note that records are counted in their selections up to ``seq``; delete these if they are too
    many."""
    selections = rows_of(row.pk, alias(), is_total=True).filter(day=SELECTED)
    is_bounded = selections.count() <= MAX_SELECTIONS and not _is_wide(row)
    row.selected_seq = seq if is_bounded else -1
    if not is_bounded:
        selections.delete()


def _is_wide(row: Tenant) -> bool:
    """Return whether a selection may have too many cells: it has no more than the total."""
    total = rows_of(row.pk, alias(), is_total=True).filter(day=ALL_TIME).first()
    if total is None:
        return False
    found = rollup_rows.decoded((), total.cell, total.details)
    return len(found.phases) + len(found.late_phases) > MAX_SELECTION_CELLS


def _lock(tenant: str) -> Tenant | None:
    """Lock the tenant's row as writers do; return it, None if it does not exist."""
    rows = Tenant.objects.using(alias()).filter(pk=tenant)
    return rows.first() if rows.update(last_seq=F("last_seq")) else None
