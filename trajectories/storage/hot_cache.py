"""The hot cache: the records at each tenant's highest positions, in this process, with facets.

``HotCache.snapshot`` performs one read. It follows the outbox (records that this host accepts) and
fills at first use. Then it follows the change feed (records that other hosts persist) and takes a
snapshot. ``hot_fill`` builds the fills.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Container, Sequence
from contextlib import suppress
from uuid import UUID

from trajectories import metrics
from trajectories.conf import Settings
from trajectories.domain.record import Record, added_together, tenant_digest
from trajectories.exceptions import OutboxUnavailable
from trajectories.storage.hot_fill import HotFill, RedisLink
from trajectories.storage.hot_growth import HotGrowth
from trajectories.storage.outbox import Outbox
from trajectories.storage.outbox_rows import Appended, Row
from trajectories.storage.redis_tier import RedisError, RedisTier
from trajectories.storage.tenant_cache import Snapshot, TenantCache

_FOLLOW_CHUNK = 500
_FOLLOW_MAX = 2_000
"""Changes that a cache follows, about 100 ms. With more, filling it anew takes less."""


class HotCache:
    """The hot caches of all tenants of one process, under one bound."""

    def __init__(
        self, conf: Settings, outbox: Outbox, redis_tier: Callable[[], RedisTier], verify: Callable[[], None]
    ) -> None:
        self._conf = conf
        self._outbox = outbox
        self._binding = outbox.binding()
        self._verify = verify
        self._redis = RedisLink(conf, redis_tier)
        self._hot_fill = HotFill(conf, outbox, self._redis)
        self._growth = HotGrowth(self.grow)
        self._lock = threading.RLock()
        self._caches: OrderedDict[str, TenantCache] = OrderedDict()
        self._fill_locks: dict[str, threading.Lock] = {}
        self._seen_n = outbox.last_n()
        self._quarantines = outbox.quarantines()

    # Writes. None of them waits for another machine.

    def known(self, tenant: str, id_: UUID) -> Record | None:
        """Return the newest version of an id that this process holds, with its body compressed: a
        request may name thousands, of a mebibyte each."""
        with self._lock:
            cache = self._caches.get(tenant)
            held = cache and cache.held.get(id_)
        return held.compressed if held else None

    def take(self, accepted: Sequence[Appended]) -> None:
        """Apply rows of this process's latest commit, so that the next read does not fetch them."""
        # They are committed, so an error must not say otherwise: the next read fetches them, too.
        with suppress(OutboxUnavailable), self._lock:
            if accepted and accepted[0].row.n == self._seen_n + 1:
                first = {one.row.n for one in accepted if one.is_first}
                self._apply_rows([one.row for one in accepted], first)

    # Reads.

    def snapshot(self, tenant: str) -> Snapshot:
        """Return the tenant's current records.

        They include every row of the outbox, and the change feed if Redis responds.

        Raises:
            StoreMismatch: 503; the archive behind this outbox is another store's.
        """
        self._follow_binding()
        self._follow_outbox()
        cache = self._touch(tenant)
        if cache is None or self._is_fill_due(cache):
            cache = self._fill(tenant)
        # This read uses this cache from here on, even if another thread replaces or drops it.
        cache, is_following = self._follow_feed(tenant, cache)
        with self._lock:
            return cache.snapshot(is_following=is_following)

    def clear(self) -> None:
        """Drop everything; the next read fills again."""
        with self._lock:
            self._caches.clear()

    @property
    def size(self) -> tuple[int, int]:
        """Records and estimated bytes, over all tenants."""
        with self._lock:
            return sum(len(c.order) for c in self._caches.values()), sum(c.size for c in self._caches.values())

    def _touch(self, tenant: str) -> TenantCache | None:
        with self._lock:
            cache = self._caches.get(tenant)
            if cache is not None:
                self._caches.move_to_end(tenant)
            return cache

    # Following the outbox.

    def _follow_binding(self) -> None:
        """Drop everything if the archive has another identity than before."""
        binding = self._outbox.expect_bound()
        if binding.store != self._binding.store:
            self._binding = binding
            self._verify()
            self.clear()

    def _follow_outbox(self, *, is_filling: bool = False) -> None:
        # Read rows and numbers at one moment: otherwise rows could come and go between the two
        # reads.
        with self._lock, self._outbox.snapshot():
            before = self._seen_n
            if not is_filling:
                self._drop_caches_behind()
            while rows := self._outbox.rows_after(self._seen_n, _FOLLOW_CHUNK):
                self._apply_rows(rows)
            quarantines, pruned_n = self._outbox.quarantines(), self._outbox.pruned_n()
            # A fill is due in two cases: unseen rows were pruned, or the archive refused applied
            # rows.
            if pruned_n > before or quarantines != self._quarantines:
                self._quarantines = quarantines
                for cache in self._caches.values():
                    cache.is_filled = False
            # Otherwise each read would find the rows missing and fill, until this host accepts a
            # record.
            self._seen_n = max(self._seen_n, pruned_n)

    def _drop_caches_behind(self) -> None:
        """Drop caches that miss so many rows that filling them anew takes less.

        The other tiers have what they held: Redis was whole when it last answered. If it was wiped
        since, their fill notices.
        """
        last_n = self._outbox.last_n()
        if last_n - self._seen_n > _FOLLOW_MAX:
            for tenant in [tenant for tenant, cache in self._caches.items() if cache.is_trusted]:
                del self._caches[tenant]
        if not self._caches:
            self._seen_n = max(self._seen_n, last_n)

    def _apply_rows(self, rows: Sequence[Row], first: Container[int] = ()) -> None:
        """Apply rows. Those with numbers in ``first`` have no earlier outcomes."""
        earlier = self._earlier_outcomes([row for row in rows if row.n not in first])
        for row in rows:
            if row.kind == "erasure":
                for tenant in [name for name in self._caches if tenant_digest(name) == row.record.tenant]:
                    del self._caches[tenant]
        records = [row.record for row in rows if row.state != "quarantined"]
        for record in added_together(records + earlier):
            cache = self._caches.get(record.tenant)
            if cache is not None:
                cache.apply(record, from_authority=False)
                cache.shrink(self._conf.hot_max_records)
        self._seen_n = max(self._seen_n, rows[-1].n)
        self._bound_bytes()

    def _earlier_outcomes(self, rows: Sequence[Row]) -> list[Record]:
        """Return the late outcomes of the records that these rows bring into a cache: they may have
        come before their run, and no cache held them then."""
        new: dict[str, set[UUID]] = {}
        for row in rows:
            cache = self._caches.get(row.record.tenant)
            if cache and row.kind == "record" and cache.lacks(row.record.position):
                new.setdefault(row.record.tenant, set()).add(row.record.id)
        return [outcome for tenant, ids in new.items() for outcome in self._outbox.outcomes(tenant, ids)]

    # Filling.

    def _is_fill_due(self, cache: TenantCache) -> bool:
        return not cache.is_filled and time.monotonic() - cache.filled_at >= self._conf.archive_retry_s

    def grow(self, tenant: str) -> None:
        """Fill a cache to ``hot_max_records`` that has the newest records only."""
        with self._lock:
            cache = self._caches.get(tenant)
        if cache is None or cache.is_whole:
            return
        if self._hot_fill.is_archive_available(tenant):
            self._fill(tenant, is_growth=True)
        else:
            self._growth.request(tenant)

    def _fill(self, tenant: str, *, is_growth: bool = False) -> TenantCache:
        """Fill a new cache and publish it; keep the old one if there is nothing to fill from."""
        with self._lock:
            fill_lock = self._fill_locks.setdefault(tenant, threading.Lock())
        with fill_lock:
            with self._lock:
                cache = self._caches.get(tenant)
            if cache is not None and not self._is_fill_due(cache) and (cache.is_whole or not is_growth):
                return cache  # another thread has filled it
            self._verify()
            fresh, from_n = self._hot_fill.build(tenant, is_whole=cache is not None)
            if cache is not None and fresh.is_filled:
                with self._lock:
                    held = list(cache.held.values())
                self._hot_fill.carry_over(tenant, held, fresh)
            # Take the time at the end: otherwise every read would ask an archive that fails after
            # seconds.
            fresh.filled_at = time.monotonic()
            with self._lock:
                if not fresh.is_filled and cache is not None:
                    cache.filled_at = fresh.filled_at
                    return cache
                self._caches[tenant] = fresh
                self._seen_n = min(self._seen_n, from_n)
                self._follow_outbox(is_filling=True)
                self._bound_bytes()
            if not fresh.is_whole:
                self._growth.request(tenant)
            return fresh

    def _fill_again(self, tenant: str, cache: TenantCache) -> tuple[TenantCache, bool]:
        cache.is_filled = False
        filled = self._fill(tenant) if self._is_fill_due(cache) else cache
        return filled, filled is not cache and filled.mark is not None

    # Following the change feed.

    def _follow_feed(self, tenant: str, cache: TenantCache) -> tuple[TenantCache, bool]:
        """Apply changes that other hosts have persisted.

        Returns:
            The cache that has them, and whether the feed responds.
        """
        with self._lock:
            if not self._redis.is_due:
                return cache, False
            if time.monotonic() - cache.polled_at < self._conf.feed_poll_s:
                return cache, cache.mark is not None
            cache.polled_at = time.monotonic()
        try:
            tier = self._redis.tier
            found = tier.changes(tenant, cache.mark or tier.mark(tenant), _FOLLOW_MAX)
            is_behind = found is None and cache.is_trusted and cache.mark and tier.server() == cache.mark[:2]
        except RedisError:
            self._redis.failed()
            return cache, False
        self._redis.answered()
        if is_behind:
            # Redis has lost nothing that this cache holds.
            with self._lock:
                if self._caches.get(tenant) is cache:
                    del self._caches[tenant]
            filled = self._fill(tenant)
            return filled, filled.mark is not None
        if found is None or cache.mark is None:
            return self._fill_again(tenant, cache)
        mark, changes = found
        self._delete_from_outbox(tenant, [change.id for change in changes if change.is_deletion])
        with self._lock:
            # Read under the lock: ``take`` applies no outcome of a run that the cache does not hold yet.
            waiting = self._outbox.waiting_versions(tenant, [change.id for change in changes])
            is_whole = cache.apply_changes(changes, waiting)
            cache.shrink(self._conf.hot_max_records)
            self._bound_bytes()
            cache.mark = mark
        return (cache, True) if is_whole else self._fill_again(tenant, cache)

    def _delete_from_outbox(self, tenant: str, ids: Sequence[UUID]) -> None:
        """Delete this host's rows of ids that another host has deleted."""
        held = [id_ for id_ in ids if self._outbox.versions(tenant, id_) and not self._outbox.is_deleted(tenant, id_)]
        if held:
            self._outbox.delete(tenant, held)

    # Bounds.

    def _bound_bytes(self) -> None:
        """Drop the tenants that were read longest ago; of the last one, drop the lowest records."""
        size, max_bytes = self.size[1], self._conf.hot_max_bytes // max(1, self._conf.web_processes)
        while size > max_bytes:
            tenant, cache = next(iter(self._caches.items()))
            if len(self._caches) > 1:
                del self._caches[tenant]
                size -= cache.size
            elif cache.order:
                cache.drop_lowest()
                size = cache.size
            else:
                break
        records, size = self.size
        metrics.hot_records.set(records)
        metrics.hot_bytes.set(size)
