"""The persist side: a batch goes into Redis, then into the archive, and what the archive knows better goes back to Redis.

Nothing here remembers anything between calls; every step may be repeated and may run twice at once.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from itertools import groupby
from uuid import UUID

from trajectories.domain.clock import DAY_US, SECOND_US
from trajectories.domain.record import Record, tombstone
from trajectories.storage import archive_reads
from trajectories.storage.archive_writes import (
    DeletedCounts,
    RefusedRecord,
    WriteResult,
    holds,
    mirror,
    quarantine,
    refused,
    release,
)
from trajectories.storage.redis_tier import REBUILDING, RedisError, RedisTier
from trajectories.storage.store import Store

logger = logging.getLogger(__name__)

_REBUILD_PAGE = 500
_SETTLE_BATCHES = 100
REBUILD_CLAIM_S = 60.0
PRUNE_BATCH = 500


def persist(store: Store, records: Sequence[Record]) -> None:
    """Bring Redis and the archive up to ``records``.

    Raises:
        RedisError: Redis is away or refuses writes; nothing went into the archive.
        archive_reads.ArchiveError: the archive is away. In both cases the relay sends the batch again.
    """
    tier = store.redis_tier
    server = tier.server()
    batch = tier.open_batch(list(map(_key, records)))
    tombstones = [record for record in records if record.is_tombstone]
    tier.delete(tombstones)
    alive = [record for record in records if not record.is_tombstone]
    held = dict(zip(map(_key, alive), tier.merge(alive, from_authority=False), strict=True))
    stored, deleted, _, erased = _mirror_or_quarantine(store, records)
    # Of some of them Redis may not have known yet that they are deleted.
    tier.delete(deleted)
    _erase(tier, erased)
    if tier.server() == server:
        # The archive has seen this id before, and Redis had not or in another order.
        stored = [r for r in stored if (r.stamp, r.digest, r.revision, r.recorded_at_us) != held[_key(r)]]
    # Otherwise it was wiped meanwhile, and may have been rebuilt before the archive had these.
    if stored:
        tier.merge(stored, from_authority=True)
    tier.close_batch(batch)


def delete(store: Store, tombstones: Sequence[Record]) -> DeletedCounts:
    """Delete ids from the archive, for good; what was removed there.

    Raises:
        archive_reads.ArchiveError: the archive is away; the relay brings the tombstones later.
    """
    mirrored = mirror(tombstones)
    if mirrored.erased:
        _erase(store.redis_tier, mirrored.erased)
    return mirrored.gone


def prune(store: Store, tenant: str, before_us: int, limit: int) -> int:
    """Delete, for good, some of what was recorded before; how many. 0: there is nothing left.

    Raises:
        RedisError, archive_reads.ArchiveError: one of the two is away; the same call again goes on.
    """
    ids = archive_reads.ids_before(tenant, before_us, limit)
    if ids:
        stamp = store.now_us()
        persist(store, [tombstone(tenant, id_, stamp) for id_ in ids])
    return len(ids)


def retain(store: Store, batches: int) -> bool:
    """Delete what is past ``retention_days``, and tombstones past their time, in at most so many batches; whether that was all."""
    conf, now_us = store.conf, store.now_us()
    for tenant in archive_reads.tenants():
        days = conf.retention_days.get(tenant, conf.retention_days.get("*"))
        while days is not None and prune(store, tenant, now_us - days * DAY_US, PRUNE_BATCH):
            batches -= 1
            if batches <= 0:
                return False
    forget_tombstones(store)
    return True


def forget_tombstones(store: Store) -> None:
    """Let go of tombstones past their time."""
    before_us = store.now_us() - store.conf.tombstone_keep_s * SECOND_US
    while archive_reads.forget_tombstones(before_us, PRUNE_BATCH):
        pass


def settle(store: Store) -> int:
    """Tell Redis what the archive made of batches whose workers did not come to it; how many there were.

    What the archive does not have of them is under way again, in a batch of its own.
    """
    tier = store.redis_tier
    batches = tier.open_batches(store.conf.settle_after_s, _SETTLE_BATCHES)
    for name, ids in batches.items():
        for tenant, group in groupby(sorted(ids), key=lambda pair: pair[0]):
            of_tenant = [id_ for _, id_ in group]
            if archive_reads.erased_of([tenant]):
                tier.erase(tenant, of_tenant)
            else:
                tier.merge(archive_reads.stored(tenant, of_tenant), from_authority=True)
        tier.close_batch(name)
    return len(batches)


def _erase(tier: RedisTier, erased: Sequence[Record]) -> None:
    for tenant, of_tenant in groupby(erased, key=lambda record: record.tenant):
        tier.erase(tenant, [record.id for record in of_tenant])


def replay(store: Store, quarantined_pk: int) -> bool:
    """Try a version that the archive has refused once more; whether it has taken it, now or meanwhile.

    Raises:
        RedisError: Redis is away; nothing was tried.
        archive_reads.ArchiveError: the archive is away.
    """
    record = refused(quarantined_pk)
    if record is None:
        return True
    tier = store.redis_tier
    batch = tier.open_batch([_key(record)])
    stored = release(quarantined_pk, record)
    tier.merge(stored, from_authority=True)
    tier.close_batch(batch)
    return bool(stored)


def _key(record: Record) -> tuple[str, UUID]:
    return record.tenant, record.id


def rebuild(store: Store) -> int:
    """Write the archive's records that have life left back into Redis and begin a new epoch; how many.

    The replication id is read first: if the server is replaced meanwhile, the epoch names one that is gone, and nobody
    trusts it.

    Raises:
        RedisError, archive_reads.ArchiveError: one of the two is away; whoever comes next may begin at once.
    """
    try:
        return _rebuild(store)
    except (RedisError, archive_reads.ArchiveError):
        with suppress(RedisError):
            store.redis_tier.release(REBUILDING)
        raise


def _rebuild(store: Store) -> int:
    tier = store.redis_tier
    replication_id, is_whole = tier.replication_id(), tier.hold_rebuild(REBUILD_CLAIM_S, is_begun=False)
    revision = store.now_us() - store.conf.redis_ttl_s * SECOND_US
    pk = count = 0
    while page := archive_reads.revised_since(revision, pk, _REBUILD_PAGE):
        tier.merge([record for _, record in page], from_authority=True)
        pk, count = page[-1][0], count + len(page)
        is_whole = is_whole and tier.hold_rebuild(REBUILD_CLAIM_S, is_begun=True)
    pk, since = 0, store.now_us() - store.conf.tombstone_keep_s * SECOND_US
    while tombstones := archive_reads.tombstones_since(since, pk, _REBUILD_PAGE):
        tier.delete([record for _, record in tombstones])
        pk = tombstones[-1][0]
        is_whole = is_whole and tier.hold_rebuild(REBUILD_CLAIM_S, is_begun=True)
    if is_whole and tier.hold_rebuild(REBUILD_CLAIM_S, is_begun=True):
        tier.begin_epoch(replication_id)
        logger.info("Redis rebuilt from the archive: %d records.", count)
    else:
        logger.warning("Redis was wiped while it was rebuilt; the next attempt follows.")
    return count


def _mirror_or_quarantine(store: Store, records: Sequence[Record]) -> WriteResult:
    """Only data errors bisect a batch; what stays alone with one is quarantined and leaves Redis."""
    try:
        return mirror(records)
    except RefusedRecord as error:
        if len(records) > 1:
            middle = len(records) // 2
            left, right = (_mirror_or_quarantine(store, half) for half in (records[:middle], records[middle:]))
            return left.plus(right)
        logger.exception("Quarantined: %s of tenant %s.", records[0].id, records[0].tenant)
        # In this order: once it is in quarantine nobody sends it again, so nobody would withdraw it.
        store.redis_tier.withdraw(records[0], has_older=holds(records[0]))
        quarantine(records[0], str(error))
        return WriteResult([], [], DeletedCounts(), [])
