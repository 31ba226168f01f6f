"""Sums that a process has answered with, changed by the records that have changed since.

The same question comes again after a few more records. To read its rows of roll-ups again takes
longer than to add these records, and the sums are exact either way. So is a time filter whose ends
have moved within their days: the records between are added or subtracted.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from trajectories.conf import Settings
from trajectories.domain.clock import DAY_US
from trajectories.domain.known_figures import KnownFigures
from trajectories.domain.query import Query
from trajectories.domain.record import Facets
from trajectories.domain.stats import Cells, Summary
from trajectories.models import Tenant, Tombstone, Trajectory
from trajectories.storage import archive_reads, rollup_reads
from trajectories.storage.archive_errors import archive_errors
from trajectories.storage.archive_writes import alias
from trajectories.storage.archived_facets import archived, changed_since
from trajectories.storage.rollup_rows import total_of
from trajectories.storage.rollup_tails import Tails

MAX_BYTES = 16 * 1024**2
"""Bound of the estimated memory of all sums and changes of a process."""
MAX_BEHIND = 500
"""Changes that are followed. With more, rows of roll-ups are read again."""
MAX_CHANGES = 2_000
"""Changes of a tenant that are kept for its other sums."""
UNUSED_S = 3600.0
"""Sums of a tenant that were not asked for so long are dropped."""
_LOCK_S = 0.05
_FEW = 200
"""Records between two ends of a time filter that are added one by one."""


class KeptSums:
    """The sums of the tenants that were asked for last. Thread-safe. A part of a store."""

    def __init__(self, conf: Settings) -> None:
        self._lock = threading.Lock()
        self._tenants: OrderedDict[str, _TenantSums] = OrderedDict()

    @property
    def size(self) -> int:
        """Estimated memory in bytes."""
        with self._lock:
            return sum(one.size for one in self._tenants.values())

    @archive_errors()
    def summary(
        self, tenant: str, query: Query, *, bucket: str | None = None, tails: Tails | None = None
    ) -> Summary | None:
        """Return ``rollup_reads.summary``. The caller may change it."""
        row = Tenant.objects.using(alias()).filter(pk=tenant).first()
        if row is None or not rollup_reads.can_answer(row, query):
            if row is None:
                self._drop(tenant)
            return rollup_reads.summary(tenant, query, bucket=bucket, tails=tails)
        sums = self._of(tenant)
        found = sums.find(row, query, bucket)
        if found is None:
            found = rollup_reads.summary_at(row, query, bucket=bucket, tails=tails)
            if found is not None:
                found = sums.keep(row, query, found)
        self._bound(sums)
        return found

    def _of(self, tenant: str) -> _TenantSums:
        with self._lock:
            found = self._tenants.setdefault(tenant, _TenantSums())
            self._tenants.move_to_end(tenant)
            found.used_at = time.monotonic()
            while next(iter(self._tenants.values())).used_at < found.used_at - UNUSED_S:
                self._tenants.popitem(last=False)
            return found

    def _drop(self, tenant: str) -> None:
        with self._lock:
            self._tenants.pop(tenant, None)

    def _bound(self, last: _TenantSums) -> None:
        with self._lock:
            while len(self._tenants) > 1 and sum(one.size for one in self._tenants.values()) > MAX_BYTES:
                self._tenants.popitem(last=False)
        last.shrink(MAX_BYTES)


class _Counted(NamedTuple):
    recorded_at_us: int
    facets: Facets


class _Change(NamedTuple):
    """A record that came, or with ``times=-1`` one that went, up to the change ``changed``."""

    changed: int
    recorded_at_us: int
    facets: Facets
    times: int


@dataclass(slots=True)
class _Kept:
    """The sums of the records that match ``query``, as of the change ``changed``."""

    query: Query
    summary: Summary
    changed: int
    size: int


class _TenantSums:
    """The sums of one tenant, and the changes of its records since the oldest of them.

    A change of a record needs the version before, so this keeps the records that came. If another
    record changes, or numbers of changes have no row, all sums are given up: after two changes of
    one record, and after a rebuild of the roll-ups.
    """

    def __init__(self) -> None:
        self.used_at = 0.0
        self._lock = threading.Lock()
        self._sums: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._restart(0, 0)

    @property
    def size(self) -> int:
        return self._sums_size + self._changes_size

    def find(self, row: Tenant, query: Query, bucket: str | None) -> Summary | None:
        """Return the sums of ``query`` as of ``row``; None if they must be read.

        They must while another read changes them for long: reads that waited for it would hold the
        threads of the process.
        """
        with self._taken() as is_taken:
            if not is_taken:
                return None
            self._follow(row)
            key = _key(query, bucket)
            kept = self._sums.get(key)
            if kept is None:
                return None
            self._advance(row, kept, query)
            self._sums.move_to_end(key)
            return kept.summary.copy()

    def keep(self, row: Tenant, query: Query, found: Summary) -> Summary:
        """Keep ``found``, which was read as of ``row``, and return it for the caller to change."""
        with self._taken() as is_taken:
            if not is_taken or self._changed != row.last_changed:
                return found  # another thread has seen later changes, or earlier ones
            summary = total_of(found)
            summary.figures = KnownFigures()
            key = _key(query, found.bucket)
            self._forget(key)
            self._sums[key] = kept = _Kept(query, summary, row.last_changed, _size(summary))
            self._sums_size += kept.size
            return summary.copy()

    def shrink(self, most: int) -> None:
        """Give up the sums that were asked for longest ago, until ``size`` is at most ``most``."""
        with self._taken() as is_taken:
            while is_taken and self._sums and self.size > most:
                self._forget(next(iter(self._sums)))
            if is_taken and not self._sums:
                self._restart(self._changed, self._last_seq)

    @contextmanager
    def _taken(self) -> Iterator[bool]:
        is_taken = self._lock.acquire(timeout=_LOCK_S)
        try:
            yield is_taken
        finally:
            if is_taken:
                self._lock.release()

    def _forget(self, key: Hashable) -> None:
        if kept := self._sums.pop(key, None):
            self._sums_size -= kept.size

    def _restart(self, changed: int, last_seq: int) -> None:
        self._changed, self._last_seq = changed, last_seq
        self._changes: list[_Change] = []
        self._records: dict[int, _Counted] = {}
        self._sums.clear()
        self._sums_size = self._changes_size = 0

    # Following the changes of the tenant.

    def _follow(self, row: Tenant) -> None:
        """Note the changes up to ``row``, or give up all sums."""
        since = row.last_changed - self._changed
        # An earlier version is that of another thread's snapshot, or of a new tenant of this name.
        is_earlier = since < 0 or row.last_seq < self._last_seq
        changes = None if is_earlier else self._since(row, since) if since else []
        if changes is None:
            self._restart(row.last_changed, row.last_seq)
            return
        for change in changes:
            self._changes_size += _size_of(change.facets)
        self._changes += changes
        self._changed, self._last_seq = row.last_changed, row.last_seq
        if len(self._changes) > MAX_CHANGES:
            self._begin_later()

    def _since(self, row: Tenant, since: int) -> list[_Change] | None:
        """Return the next changes; None if they cannot be known."""
        if since > MAX_BEHIND or not self._sums:
            return None
        came, gone = changed_since(row.pk, self._changed, alias()), list[int | None]()
        if len(came) < since:
            later = Tombstone.objects.using(alias()).filter(tenant=row.pk, changed__gt=self._changed)
            gone += later.values_list("seq", flat=True)
        if len(came) + len(gone) != since:
            return None
        before = [seq for seq in (*gone, *(seq for seq, *_ in came if seq <= self._last_seq)) if seq is not None]
        if not all(seq in self._records for seq in before):
            return None
        left = [_Change(row.last_changed, *self._records.pop(seq), -1) for seq in before]
        self._records |= {seq: _Counted(at_us, facets) for seq, at_us, facets in came}
        return [*left, *(_Change(row.last_changed, at_us, facets, 1) for _, at_us, facets in came)]

    def _begin_later(self) -> None:
        """Forget the older half of the changes, and the sums that lack them."""
        since = self._changes[len(self._changes) // 2].changed
        for key in [key for key, kept in self._sums.items() if kept.changed < since]:
            self._forget(key)
        self._changes = [change for change in self._changes if change.changed > since]
        self._changes_size = sum(_size_of(change.facets) for change in self._changes)
        for seq in [*self._records][: -len(self._changes) or None]:
            del self._records[seq]

    # Changing sums.

    def _advance(self, row: Tenant, kept: _Kept, query: Query) -> None:
        part = Summary(kept.summary.bucket)
        for change in reversed(self._changes):
            if change.changed <= kept.changed:
                break
            if kept.query.matches(change.recorded_at_us, change.facets):
                part.add(change.facets, change.recorded_at_us, times=change.times)
        for times, between in _moved(kept.query, query):
            _add_between(part, row.pk, between, times)
        # Totals, whose groups are as many as the answer has.
        kept.summary.merge(total_of(part))
        self._sums_size -= kept.size
        kept.query, kept.changed, kept.size = query, row.last_changed, _size(kept.summary)
        self._sums_size += kept.size


def _key(query: Query, bucket: str | None) -> Hashable:
    since, until = rollup_reads.bounds(query)
    return bucket, since // DAY_US, until // DAY_US, query.on_trajectory, query.on_phase


def _moved(before: Query, now: Query) -> Iterator[tuple[int, Query]]:
    """Yield the parts by which the records of two queries differ that have other bounds of time,
    and whether a part comes or goes."""
    since, until = rollup_reads.bounds(before)
    next_since, next_until = rollup_reads.bounds(now)
    for times, first, end in (
        (1 if next_since < since else -1, min(since, next_since), min(max(since, next_since), until)),
        (1 if next_until > until else -1, max(min(until, next_until), next_since), max(until, next_until)),
    ):
        if first < end:
            yield times, rollup_reads.between(now, first, end)


def _add_between(part: Summary, tenant: str, query: Query, times: int) -> None:
    rows = archive_reads.matching(Trajectory.objects.using(alias()).filter(tenant=tenant), query)
    found = list(archived(rows.order_by("recorded_at_us")[: _FEW + 1], alias()))
    if len(found) > _FEW:
        part.merge(archive_reads.summary(tenant, query, None, bucket=part.bucket, using=alias()), times=times)
        return
    for _, recorded_at_us, facets in found:
        part.add(facets, recorded_at_us, times=times)


# Memory, measured with tracemalloc: a test compares.


def _size(summary: Summary) -> int:
    """Return the estimated memory of sums and their figures in bytes."""
    cells: Iterable[Cells] = (
        *summary.marginals.values(),
        summary.phases,
        summary.skip_costs,
        summary.late,
        summary.late_phases,
    )
    counts = sum(map(len, (*summary.buckets.values(), *summary.durations.values())))
    groups = sum(map(len, cells)) + len(summary.series)
    return _ENTRY_BYTES + _GROUP_BYTES * groups + _COUNT_BYTES * counts


def _size_of(facets: Facets) -> int:
    return _RUN_BYTES + _PHASE_BYTES * len(facets.phases)


_ENTRY_BYTES, _GROUP_BYTES, _COUNT_BYTES, _RUN_BYTES, _PHASE_BYTES = 8_000, 5_000, 110, 1_200, 600
