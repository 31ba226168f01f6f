"""Fill the hot cache of a tenant.

The newest records come from Redis and older ones from the archive, merged with the outbox. All of
this may be slow, so it works on a ``TenantCache`` that no reader sees yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from itertools import chain, islice
from operator import attrgetter
from uuid import UUID

from trajectories import metrics
from trajectories.conf import Settings
from trajectories.domain.query import Query
from trajectories.domain.record import LOWEST_ID, Position, Record, merge_all
from trajectories.storage import archive_reads
from trajectories.storage.archive_delivery import Version, delivery_status
from trajectories.storage.archive_errors import ArchiveError
from trajectories.storage.outbox import Outbox
from trajectories.storage.redis_tier import Fill, RedisError, RedisTier
from trajectories.storage.tenant_cache import Held, TenantCache

HIGHEST = Position(2**63 - 1, UUID(int=2**128 - 1))
FIRST_FILL = 500
"""Records with which the first read of a tenant is answered; about 40 ms."""
_ATTEMPTS = 3


class RedisLink:
    """The Redis tier for reads: after an error they do without it for ``redis_retry_s``."""

    def __init__(self, conf: Settings, tier: Callable[[], RedisTier]) -> None:
        self._retry_s = conf.redis_retry_s
        self._get_tier = tier
        self._away_until = float("-inf")
        self._is_lost = False

    @property
    def tier(self) -> RedisTier:
        return self._get_tier()

    @property
    def is_due(self) -> bool:
        """Return whether reads may ask Redis now."""
        return time.monotonic() >= self._away_until

    def failed(self) -> None:
        """Record an error."""
        if not self._is_lost:
            self._is_lost = True
            metrics.feed_lost_timestamp_seconds.set_to_current_time()
        self._away_until = time.monotonic() + self._retry_s

    def answered(self) -> None:
        """Record a response of the change feed."""
        if self._is_lost:
            self._is_lost = False
            metrics.feed_lost_timestamp_seconds.set(0)


class HotFill:
    """Builds tenant caches from the other tiers."""

    def __init__(self, conf: Settings, outbox: Outbox, redis: RedisLink) -> None:
        self._max = conf.hot_max_records
        self._outbox = outbox
        self._redis = redis

    def build(self, tenant: str, *, is_whole: bool) -> tuple[TenantCache, int]:
        """Build a new cache of ``tenant``.

        The cache is not ``is_filled`` if the archive is unavailable.

        Args:
            is_whole: fill it to ``hot_max_records``, not with FIRST_FILL records only.

        Returns:
            The cache, and the row number from which it must follow the outbox.
        """
        cache = TenantCache()
        limit = self._max if is_whole else min(self._max, FIRST_FILL)
        for _ in range(_ATTEMPTS):
            from_n = self._outbox.last_n()
            self._build(tenant, cache, limit)
            if self._outbox.pruned_n() <= from_n:
                break
        if not cache.is_filled and limit < self._max:
            # Without the archive, only this cache would have the records below.
            return self.build(tenant, is_whole=True)
        cache.is_whole = limit == self._max or cache.floor is None
        return cache, from_n

    def is_archive_available(self, tenant: str) -> bool:
        try:
            archive_reads.last_changed(tenant)
        except ArchiveError:
            return False
        return True

    def carry_over(self, tenant: str, held: Sequence[Held], fresh: TenantCache) -> None:
        """Keep records of ``held`` that only this process still has.

        Records that the archive has refused or deleted are not kept. Redis may have lost records
        that another host has sent and the archive does not have yet. A missing key proves nothing:
        that host sends the record again, and until then the list must include it.
        """
        records = [one.record for one in held if _is_newer(one, fresh)]
        try:
            # An id that this host did not know may be far older. It is then below the floor and not
            # missing.
            stored = {record.id: record for record in archive_reads.stored(tenant, [one.id for one in records])}
            status = delivery_status(list(map(Version.of, records)))
            dropped = status.refused | status.deleted
        except ArchiveError:
            stored, dropped = {}, set()
        for record in records:
            if Version.of(record) not in dropped:
                fresh.apply(merge_all(stored.get(record.id), [record]), from_authority=False)
        fresh.shrink(self._max)

    def _build(self, tenant: str, cache: TenantCache, limit: int) -> None:
        # Fix the outbox snapshot before reading the other tiers: a row confirmed in between is in
        # the snapshot or in the archive.
        with self._outbox.snapshot():
            waiting = list(islice(self._outbox.waiting_below(tenant, HIGHEST), limit))
            records = self._newest(tenant, cache, limit)
            versions = self._outbox.waiting_versions(tenant, {record.id for record in chain(waiting, records)})
            elsewhere = self._known_elsewhere(tenant, cache, versions.keys() - {record.id for record in records})
        for record in _merged(chain(elsewhere, records), versions):
            cache.apply(record, from_authority=True)
        if len(waiting) == limit:
            cache.raise_floor(waiting[-1].position)
        cache.shrink(self._max)

    def _known_elsewhere(self, tenant: str, cache: TenantCache, ids: Collection[UUID]) -> list[Record]:
        """Return the versions in other tiers of ids that wait here and are not among the newest.

        Another host may have known these ids for longer.
        """
        if ids and cache.is_trusted:
            with suppress(RedisError):
                return self._redis.tier.find_many(tenant, ids)
        if ids:
            with suppress(ArchiveError):
                return archive_reads.stored(tenant, ids)
        return []

    def _newest(self, tenant: str, cache: TenantCache, limit: int) -> list[Record]:
        """Return the records at the highest positions: from Redis, and older ones from the archive.

        Without the archive the cache is not filled, even if it lacks no record. Records below its
        floor that are on their way into the archive would be in neither tier.
        """
        fill = self._newest_in_redis(tenant, cache, limit)
        try:
            archived = _stored_above(tenant, fill)
            room = 0 if fill.has_more else max(0, limit - len(fill.records) - len(archived))
            older = archive_reads.newest(tenant, Query(), fill.floor, room + 1) if room else []
            if fill.has_more and limit < self._max:
                archive_reads.last_changed(tenant)  # the archive is available
        except ArchiveError:
            cache.floor, cache.is_filled = fill.floor, False
            if fill.missing:
                cache.raise_floor(Position(max(fill.missing.values()) + 1, LOWEST_ID))
            return fill.records
        archived += older[:room]
        if fill.has_more:
            # The records below may not be in the archive yet, and the feed does not repeat them.
            cache.floor = fill.floor
        else:
            has_more = len(older) > room or not room
            cache.floor = min(record.position for record in fill.records + archived) if has_more else None
        cache.is_filled = True
        return fill.records + self._updated_by_redis(tenant, cache, archived)

    def _updated_by_redis(self, tenant: str, cache: TenantCache, archived: Sequence[Record]) -> list[Record]:
        """Merge the versions that Redis has of ``archived``.

        Revisions and deletions reach Redis first, and the feed reports only later ones.
        """
        if not archived or not cache.is_trusted:
            return list(archived)
        try:
            changes = self._redis.tier.changes_for(tenant, [record.id for record in archived])
        except RedisError:
            self._redis.failed()
            cache.mark = None
            return list(archived)
        newer = {change.id: [change.record] for change in changes if change.record}
        deleted = {change.id for change in changes if change.is_deletion}
        return [merge_all(record, newer.get(record.id, [])) for record in archived if record.id not in deleted]

    def _newest_in_redis(self, tenant: str, cache: TenantCache, limit: int) -> Fill:
        """Return the newest records in Redis; nothing if it is unavailable or not trusted."""
        if self._redis.is_due:
            try:
                cache.mark = self._redis.tier.mark(tenant)
                if cache.mark.is_trusted:
                    # The archive does not have these yet, so they must not be below the floor.
                    limit = min(self._max, max(limit, self._redis.tier.depth_under_way(tenant)))
                    fill = self._redis.tier.newest(tenant, limit)
                    # If Redis was wiped between the two calls, the response lacks records.
                    if self._redis.tier.server() == cache.mark[:2]:
                        return fill
            except RedisError:
                self._redis.failed()
                cache.mark = None
        return Fill([], {}, None, has_more=False)


def _merged(known: Sequence[Record] | chain[Record], versions: Mapping[UUID, Sequence[Record]]) -> list[Record]:
    by_id = {record.id: record for record in known}
    merged = [merge_all(by_id.get(id_), versions.get(id_, ())) for id_ in by_id.keys() | versions.keys()]
    return sorted(merged, key=attrgetter("position"))


def _stored_above(tenant: str, fill: Fill) -> list[Record]:
    """Return the archived records of ``fill.missing`` at or above the floor.

    A withdrawn version of a forgotten id was listed as new, so its archived record may be older.
    """
    stored = archive_reads.stored(tenant, fill.missing)
    return [record for record in stored if fill.floor is None or record.position >= fill.floor]


def _is_newer(held: Held, fresh: TenantCache) -> bool:
    known = fresh.held.get(held.position.id)
    is_in_reach = fresh.floor is None or held.position >= fresh.floor
    return is_in_reach if known is None else held.compressed.rank > known.compressed.rank
