"""The hot cache: per tenant the records at the highest positions, in this process, with their facets.

It fills itself at first use and then follows: the outbox for what this host takes, the change feed in Redis for what others
do. Its ``floor`` is the position from which on nothing is missing; None says that nothing older exists at all.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from operator import attrgetter
from typing import Any
from uuid import UUID

from django.core.signals import setting_changed

from trajectories import metrics
from trajectories.conf import Settings, read_settings
from trajectories.domain.query import Query
from trajectories.domain.record import Position, Record, merge_all, tenant_digest
from trajectories.storage import archive_reads
from trajectories.storage.outbox import outbox
from trajectories.storage.outbox_rows import Row
from trajectories.storage.redis_tier import Change, Fill, RedisError, redis_tier
from trajectories.storage.tenant_cache import LOWEST_ID, Held, TenantCache

_FOLLOW_CHUNK = 500
HIGHEST = Position(2**63 - 1, UUID(int=2**128 - 1))


@dataclass(frozen=True, slots=True)
class View:
    """What one read sees of a tenant.

    ``held`` is ascending by position. ``is_filled``: at and above ``floor`` nothing is missing that this host can know of.
    ``is_following``: the change feed was reached, so what other hosts have persisted is in it too. ``is_trusted``: Redis has not lost
    what they persisted before, and the archive may not have yet.
    """

    held: Sequence[Held]
    by_id: Mapping[UUID, Held]
    floor: Position | None
    is_filled: bool
    is_following: bool
    is_trusted: bool

    @property
    def is_complete(self) -> bool:
        """Nothing is missing that any host has persisted."""
        return self.is_filled and self.is_following and self.is_trusted


class HotCache:
    """The hot caches of all tenants in this process, bounded together."""

    def __init__(self, conf: Settings) -> None:
        self._conf = conf
        self._lock = threading.RLock()
        self._shelves: OrderedDict[str, TenantCache] = OrderedDict()
        self._fill_locks: dict[str, threading.Lock] = {}
        self._seen_n = outbox().last_n()
        self._quarantines = outbox().quarantines()
        self._redis_away_until = float("-inf")
        self._is_feed_lost = False

    # The request path of writes: nothing here waits for another machine.

    def known(self, tenant: str, id_: UUID) -> Record | None:
        """The newest version of an id, as far as this process knows."""
        with self._lock:
            shelf = self._shelves.get(tenant)
            held = shelf and shelf.held.get(id_)
            return held.record if held else None

    def take(self, rows: Sequence[Row]) -> None:
        """Rows that this process has just committed; saves the next read from fetching them."""
        with self._lock:
            if rows and rows[0].n == self._seen_n + 1:
                self._take(rows)

    # Reads.

    def view(self, tenant: str) -> View:
        """The tenant's records as of now: after every row of the outbox, and after the feed if it answers."""
        self._follow_outbox()
        with self._lock:
            shelf = self._shelves.get(tenant)
            if shelf is not None:
                self._shelves.move_to_end(tenant)
        if shelf is None or self._is_fill_due(shelf):
            shelf = self._fill(tenant)
        # From here on this shelf answers, also if other threads have it replaced or dropped meanwhile.
        shelf, is_following = self._follow_feed(tenant, shelf)
        with self._lock:
            is_trusted = shelf.mark is not None and shelf.mark.is_trusted
            return View(*shelf.show(), shelf.floor, shelf.is_filled, is_following, is_trusted)

    def clear(self) -> None:
        """Forget everything; the next read fills anew."""
        with self._lock:
            self._shelves.clear()

    @property
    def size(self) -> tuple[int, int]:
        """Records and estimated bytes, over all tenants."""
        with self._lock:
            return sum(len(s.order) for s in self._shelves.values()), sum(s.size for s in self._shelves.values())

    def _follow_outbox(self) -> None:
        # Of one moment: else rows might come and go between what is read and what is said to be gone.
        with self._lock, outbox().snapshot():
            before = self._seen_n
            while rows := outbox().rows_after(self._seen_n, _FOLLOW_CHUNK):
                self._take(rows)
            # Rows were deleted that this process had not seen: what they said must come from elsewhere. Or some that it took in
            # were refused: what stands instead may be an older version.
            quarantines, pruned_n = outbox().quarantines(), outbox().pruned_n()
            if pruned_n > before or quarantines != self._quarantines:
                self._quarantines = quarantines
                for shelf in self._shelves.values():
                    shelf.is_filled = False
            # Else it would miss them, and fill, at each read until this host takes something again.
            self._seen_n = max(self._seen_n, pruned_n)

    def _take(self, rows: Sequence[Row]) -> None:
        for row in rows:
            if row.kind == "erasure":
                for tenant in [name for name in self._shelves if tenant_digest(name) == row.record.tenant]:
                    del self._shelves[tenant]
            shelf = self._shelves.get(row.record.tenant)
            if shelf is not None and row.state != "quarantined":
                shelf.apply(row.record, from_authority=False)
                shelf.shrink(self._conf.hot_max_records)
        self._seen_n = max(self._seen_n, rows[-1].n)
        self._bound_bytes()

    def _bound_bytes(self) -> None:
        """Tenants that were read longest ago go first; of the last one, its lowest records."""
        self._bound_shelves(sum(shelf.size for shelf in self._shelves.values()))
        records, size = self.size
        metrics.hot_records.set(records)
        metrics.hot_bytes.set(size)

    def _bound_shelves(self, size: int) -> None:
        while size > self._conf.hot_max_bytes:
            tenant, shelf = next(iter(self._shelves.items()))
            if len(self._shelves) > 1:
                del self._shelves[tenant]
                size -= shelf.size
            elif shelf.order:
                size -= shelf.order[0].size
                shelf.drop_lowest()
            else:
                return

    # Filling. Everything slow happens on a shelf that nobody sees yet.

    def _is_fill_due(self, shelf: TenantCache) -> bool:
        return not shelf.is_filled and time.monotonic() - shelf.filled_at >= self._conf.archive_retry_s

    def _fill(self, tenant: str) -> TenantCache:
        """The shelf that now is the tenant's; an old one where there is nothing to fill from."""
        with self._lock:
            fill_lock = self._fill_locks.setdefault(tenant, threading.Lock())
        with fill_lock:
            with self._lock:
                shelf = self._shelves.get(tenant)
            if shelf is not None and not self._is_fill_due(shelf):
                return shelf  # another thread has filled it meanwhile
            fresh = TenantCache()
            from_n = self._build(tenant, fresh)
            if shelf is not None and fresh.is_filled:
                self._carry(tenant, shelf, fresh)
            # Not when it began: an archive that takes seconds to fail would be asked by every read.
            fresh.filled_at = time.monotonic()
            with self._lock:
                if not fresh.is_filled and shelf is not None:
                    # Nothing to fill from: what is there is better than less of it.
                    shelf.filled_at = fresh.filled_at
                    return shelf
                self._shelves[tenant] = fresh
                self._seen_n = min(self._seen_n, from_n)
                self._follow_outbox()
                self._bound_bytes()
                return fresh

    def _build(self, tenant: str, shelf: TenantCache) -> int:
        """Fill ``shelf``; returns the row number from which on the outbox has yet to be followed."""
        for _ in range(3):
            from_n = outbox().last_n()
            # Of one moment before the other tiers are read: what is confirmed meanwhile is then in one of the two at least.
            with outbox().snapshot():
                waiting = list(islice(outbox().waiting_below(tenant, HIGHEST), self._conf.hot_max_records))
                records = self._newest(tenant, shelf)
                versions = outbox().waiting_versions(tenant, {record.id for record in chain(waiting, records)})
                placed = self._placed(tenant, shelf, versions.keys() - {record.id for record in records})
            known = {record.id: record for record in chain(placed, records)}
            merged = [merge_all(known.get(id_), versions.get(id_, ())) for id_ in known.keys() | versions.keys()]
            for record in sorted(merged, key=attrgetter("position")):
                shelf.apply(record, from_authority=True)
            if len(waiting) == self._conf.hot_max_records:
                shelf.raise_floor(waiting[-1].position)
            shelf.shrink(self._conf.hot_max_records)
            if outbox().pruned_n() <= from_n:
                break
        return from_n

    @staticmethod
    def _placed(tenant: str, shelf: TenantCache, ids: Collection[UUID]) -> list[Record]:
        """What other tiers have of ids that wait here and are not among the newest: another host may have known one for longer."""
        if ids and shelf.mark is not None and shelf.mark.is_trusted:
            with suppress(RedisError):
                return redis_tier().find_many(tenant, ids)
        if ids:
            with suppress(archive_reads.ArchiveError):
                return archive_reads.stored(tenant, ids)
        return []

    def _carry(self, tenant: str, shelf: TenantCache, fresh: TenantCache) -> None:
        """Keep what only this process still holds, unless the archive has refused it or knows that it was deleted.

        Redis may have lost what another host has sent and the archive does not have yet. A key that is gone means nothing: that
        host sends it again, and until then nobody shall see it vanish.
        """
        with self._lock:
            held = [one.record for one in shelf.held.values() if self._is_newer(one.record, fresh)]
        try:
            # An id that this host had not known may be far older, and so not be missing here but lie below the floor.
            stored = {record.id: record for record in archive_reads.stored(tenant, [one.id for one in held])}
            decided = archive_reads.decided([(one.tenant, one.id, one.stamp) for one in held])
            gone = decided.refused | decided.deleted
        except archive_reads.ArchiveError:
            stored, gone = {}, set()
        for record in held:
            if (record.tenant, record.id, record.stamp) not in gone:
                fresh.apply(merge_all(stored.get(record.id), [record]), from_authority=False)
        fresh.shrink(self._conf.hot_max_records)

    @staticmethod
    def _is_newer(record: Record, fresh: TenantCache) -> bool:
        known = fresh.held.get(record.id)
        is_on_it = fresh.floor is None or record.position >= fresh.floor
        return is_on_it if known is None else record.rank > known.record.rank

    def _newest(self, tenant: str, shelf: TenantCache) -> list[Record]:
        """The highest records out of Redis as far as it goes, and out of the archive below that.

        With the archive away the shelf is not filled, though nothing may be missing on it: what is below its floor and on its way
        into the archive would be seen by nobody who asks the two.
        """
        limit = self._conf.hot_max_records
        fill = self._newest_in_redis(tenant, shelf, limit)
        try:
            archived = self._stored_above(tenant, fill)
            room = 0 if fill.has_more else limit - len(fill.records) - len(archived)
            older = archive_reads.newest(tenant, Query(), fill.floor, room + 1) if room else []
        except archive_reads.ArchiveError:
            shelf.floor, shelf.is_filled = fill.floor, False
            if fill.missing:
                shelf.raise_floor(Position(max(fill.missing.values()) + 1, LOWEST_ID))
            return fill.records
        archived += older[:room]
        if fill.has_more:
            # Some of what lies below may not be in the archive yet, and nobody would tell of it any more.
            shelf.floor = fill.floor
        else:
            has_more = len(older) > room or not room
            shelf.floor = min(record.position for record in fill.records + archived) if has_more else None
        shelf.is_filled = True
        return fill.records + self._as_redis_knows_it(tenant, shelf, archived)

    def _as_redis_knows_it(self, tenant: str, shelf: TenantCache, archived: Sequence[Record]) -> list[Record]:
        """Redis hears of revisions and deletions before the archive does, and the feed tells only of what comes after its mark."""
        if not archived or shelf.mark is None or not shelf.mark.is_trusted:
            return list(archived)
        try:
            told = {change.id: change for change in redis_tier().told(tenant, [record.id for record in archived])}
        except RedisError:
            self._redis_failed()
            shelf.mark = None
            return list(archived)
        newer = {id_: [change.record] for id_, change in told.items() if change.record}
        gone = {id_ for id_, change in told.items() if change.is_deletion}
        return [merge_all(record, newer.get(record.id, [])) for record in archived if record.id not in gone]

    @staticmethod
    def _stored_above(tenant: str, fill: Fill) -> list[Record]:
        """What the archive has of ``fill.missing``, unless it lies below: a withdrawn version of an id that Redis had forgotten was listed as new."""
        stored = archive_reads.stored(tenant, fill.missing)
        return [record for record in stored if fill.floor is None or record.position >= fill.floor]

    def _newest_in_redis(self, tenant: str, shelf: TenantCache, limit: int) -> Fill:
        """Nothing where it is away or not trusted."""
        if self._is_redis_due():
            try:
                shelf.mark = redis_tier().mark(tenant)
                if shelf.mark.is_trusted:
                    fill = redis_tier().newest(tenant, limit)
                    # Else it was wiped in between, and has told of less than it had.
                    if redis_tier().server() == shelf.mark[:2]:
                        return fill
            except RedisError:
                self._redis_failed()
                shelf.mark = None
        return Fill([], {}, None, has_more=False)

    # Following the feed.

    def _follow_feed(self, tenant: str, shelf: TenantCache) -> tuple[TenantCache, bool]:
        """Take in what other hosts have persisted; the shelf that has it, and whether the feed is being followed."""
        with self._lock:
            if not self._is_redis_due():
                return shelf, False
            if time.monotonic() - shelf.polled_at < self._conf.feed_poll_s:
                return shelf, shelf.mark is not None
            shelf.polled_at = time.monotonic()
        try:
            tier = redis_tier()
            found = tier.changes(tenant, shelf.mark or tier.mark(tenant))
        except RedisError:
            self._redis_failed()
            return shelf, False
        if self._is_feed_lost:
            self._is_feed_lost = False
            metrics.feed_lost_timestamp_seconds.set(0)
        if found is None or shelf.mark is None:
            return self._fill_again(tenant, shelf)
        mark, changes = found
        self._delete(tenant, [change.id for change in changes if change.is_deletion])
        waiting = outbox().waiting_versions(tenant, [change.id for change in changes])
        with self._lock:
            is_whole = self._apply(shelf, changes, waiting)
            shelf.mark = mark
        return (shelf, True) if is_whole else self._fill_again(tenant, shelf)

    def _apply(self, shelf: TenantCache, changes: Iterable[Change], waiting: Mapping[UUID, Sequence[Record]]) -> bool:
        """Take in ``changes``; False if one of them leaves a hole, as an older version may stand instead of a withdrawn one."""
        is_whole = True
        for change in changes:
            if change.is_deletion:
                if change.id in shelf.held:
                    shelf.remove(change.id)
            elif change.record:
                # What waits here counts too: it may place the id lower than the shelf reaches, and so not be on it.
                shelf.apply(merge_all(change.record, waiting.get(change.id, ())), from_authority=True)
            elif (held := shelf.held.get(change.id)) and held.record.stamp <= (change.withdrawn_stamp or 0):
                shelf.remove(change.id)
                is_whole = False
        shelf.shrink(self._conf.hot_max_records)
        self._bound_bytes()
        return is_whole

    @staticmethod
    def _delete(tenant: str, ids: Sequence[UUID]) -> None:
        """Have this host forget what another one has deleted, as far as it still has rows of it."""
        held = [id_ for id_ in ids if outbox().versions(tenant, id_) and not outbox().is_deleted(tenant, id_)]
        if held:
            outbox().delete(tenant, held)

    def _fill_again(self, tenant: str, shelf: TenantCache) -> tuple[TenantCache, bool]:
        shelf.is_filled = False
        now = self._fill(tenant) if self._is_fill_due(shelf) else shelf
        return now, now is not shelf and now.mark is not None

    def _is_redis_due(self) -> bool:
        return time.monotonic() >= self._redis_away_until

    def _redis_failed(self) -> None:
        if not self._is_feed_lost:
            self._is_feed_lost = True
            metrics.feed_lost_timestamp_seconds.set_to_current_time()
        self._redis_away_until = time.monotonic() + self._conf.redis_retry_s


# Global because a cache of the process is its purpose. Bounded by hot_max_bytes, emptied by a fork and by changed settings.
_hot: HotCache | None = None
_hot_lock = threading.Lock()


def hot() -> HotCache:
    """This process's hot cache."""
    global _hot
    with _hot_lock:
        if _hot is None:
            _hot = HotCache(read_settings())
        return _hot


def _reset(*, setting: str, **_: Any) -> None:
    global _hot
    if setting in ("TRAJECTORIES", "CACHES"):
        _hot = None


def _after_fork() -> None:
    global _hot, _hot_lock
    _hot, _hot_lock = None, threading.Lock()


setting_changed.connect(_reset, dispatch_uid="trajectories.hot")
os.register_at_fork(after_in_child=_after_fork)
