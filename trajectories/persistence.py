"""The persist side: write a batch to Redis, then the archive, then newer versions to Redis.

The functions keep no state between calls. Every step may be repeated and may run twice at once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from uuid import UUID

from trajectories.domain.clock import DAY_US, SECOND_US
from trajectories.domain.record import Record, tombstone
from trajectories.models import AuditEntry, Trajectory
from trajectories.signals import trajectory_archived, trajectory_deleted
from trajectories.storage import archive_files, archive_outcomes, archive_reads, counting, rollup_rebuild
from trajectories.storage.archive_errors import ArchiveError
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
    """Write ``records`` to Redis and the archive.

    Raises:
        RedisError: Redis is unavailable or refuses writes; nothing was written to the archive.
        ArchiveError: the archive is unavailable. In both cases the relay sends the
            batch again.
    """
    tier = store.redis_tier
    server = tier.server()
    batch = tier.open_batch(list(map(_key, records)))
    tombstones = [record for record in records if record.is_tombstone]
    tier.delete(tombstones)
    # Outcomes reach Redis from the archive, which knows the runs that they are about.
    alive = [record for record in records if record.is_visible]
    held = dict(zip(map(_key, alive), tier.merge(alive, from_authority=False), strict=True))
    store.expect(archive_reads.identity())  # after Redis, which serves reads while the archive is unavailable
    stored, deleted, _, erased, due = _mirror_or_quarantine(store, records)
    _send_signals(stored, deleted)
    # Redis may not have known yet that some of them are deleted.
    tier.delete(deleted)
    _erase(tier, erased)
    if tier.server() == server:
        # The archive had this id already; Redis did not, or got its versions in another order.
        stored = [
            r for r in stored if r.outcomes or (r.stamp, r.digest, r.revision, r.recorded_at_us) != held.get(_key(r))
        ]
    # Otherwise Redis was wiped meanwhile, and may have been rebuilt before the archive had these.
    if stored:
        tier.merge(stored, from_authority=True)
    tier.close_batch(batch)
    with suppress(ArchiveError):  # the batch is complete; the next one continues
        for tenant in due:
            counting.count(tenant)


def delete(store: Store, tombstones: Sequence[Record]) -> DeletedCounts:
    """Delete ids from the archive permanently, and return the counts of removed rows.

    Raises:
        ArchiveError: the archive is unavailable; the relay sends the tombstones
            later.
    """
    mirrored = mirror(tombstones)
    _send_signals([], mirrored.deleted)
    if mirrored.erased:
        _erase(store.redis_tier, mirrored.erased)
    return mirrored.gone


def prune(store: Store, tenant: str, before_us: int, limit: int) -> int:
    """Delete up to ``limit`` records from before ``before_us`` permanently; return the count.

    0 means that no such record is left.

    Raises:
        RedisError, ArchiveError: that tier is unavailable; repeat the same call to
            continue.
    """
    ids = archive_reads.ids_before(tenant, before_us, limit)
    if ids:
        stamp = store.now_us()
        persist(store, [tombstone(tenant, id_, stamp) for id_ in ids])
    return len(ids)


def retain(store: Store, batches: int) -> bool:
    """Delete expired records and tombstones in at most ``batches`` batches; return whether done."""
    conf, now_us = store.conf, store.now_us()
    for tenant in archive_reads.tenants():
        days = conf.retention_days.get(tenant, conf.retention_days.get("*"))
        gone = 0
        while days is not None and batches > 0 and (some := prune(store, tenant, now_us - days * DAY_US, PRUNE_BATCH)):
            gone, batches = gone + some, batches - 1
        if gone:
            AuditEntry.objects.note("delete", "retention", {tenant: gone})
        if batches <= 0:
            return False
    forget_tombstones(store)
    archive_reads.forget_audit(now_us - conf.audit_keep_s * SECOND_US)
    return True


def forget_tombstones(store: Store) -> None:
    """Remove tombstones older than ``tombstone_keep_s``, and outcomes whose run has not come by
    then."""
    before_us = store.now_us() - store.conf.tombstone_keep_s * SECOND_US
    while archive_reads.forget_tombstones(before_us, PRUNE_BATCH):
        pass
    while archive_outcomes.forget_waiting(before_us, PRUNE_BATCH):
        pass


def roll_up(records: int) -> None:
    """Continue the roll-ups of tenants that lack changes, until they have about ``records`` more."""
    archive_files.refresh_statistics()
    for tenant in rollup_rebuild.behind():
        records = rollup_rebuild.catch_up(tenant, records)


def settle(store: Store) -> int:
    """Complete the Redis part of batches whose workers did not finish; return their number.

    Records of these batches that the archive does not have are sent again in a batch of their own.
    """
    tier = store.redis_tier
    batches = tier.open_batches(store.conf.settle_after_s, _SETTLE_BATCHES)
    for name, ids in batches.items():
        lacking: list[Record] = []
        for tenant, group in groupby(sorted(ids), key=lambda pair: pair[0]):
            of_tenant = [id_ for _, id_ in group]
            if archive_reads.erased_of([tenant]):
                tier.erase(tenant, of_tenant)
            else:
                stored = archive_reads.stored(tenant, {*of_tenant, *archive_outcomes.runs_of(tenant, of_tenant)})
                # The worker may have ended between its commit and its signals.
                _send_signals(stored, archive_reads.tombstones_of(tenant, of_tenant))
                tier.merge(stored, from_authority=True)
                # Readers of Redis see newer versions, and stats must know that the archive lacks them.
                ranks = {record.id: record.rank for record in stored}
                held = tier.find_many(tenant, of_tenant)
                lacking += [record for record in held if record.id not in ranks or record.rank > ranks[record.id]]
        if lacking:
            tier.open_batch(list(map(_key, lacking)))
        tier.close_batch(name)
    return len(batches)


def _send_signals(archived: Iterable[Record], deleted: Iterable[Record]) -> None:
    """Send the signals of a committed batch; read neither argument if nothing listens."""
    for signal, records in ((trajectory_archived, archived), (trajectory_deleted, deleted)):
        if signal.has_listeners(Trajectory):
            for tenant, group in groupby(sorted(map(_key, records)), key=itemgetter(0)):
                signal.send_robust(sender=Trajectory, tenant=tenant, ids=[id_ for _, id_ in group])


def _erase(tier: RedisTier, erased: Sequence[Record]) -> None:
    for tenant, of_tenant in groupby(erased, key=lambda record: record.tenant):
        tier.erase(tenant, [record.id for record in of_tenant])


def replay(store: Store, quarantined_pk: int) -> bool:
    """Retry a version that the archive refused; return whether it is archived, now or meanwhile.

    Raises:
        RedisError: Redis is unavailable; nothing was tried.
        ArchiveError: the archive is unavailable.
    """
    record = refused(quarantined_pk)
    if record is None:
        return True
    tier = store.redis_tier
    batch = tier.open_batch([_key(record)])
    stored = release(quarantined_pk, record)
    _send_signals(stored, [])
    tier.merge(stored, from_authority=True)
    tier.close_batch(batch)
    return bool(stored)


def _key(record: Record) -> tuple[str, UUID]:
    return record.tenant, record.id


def rebuild(store: Store) -> int:
    """Write the archive's unexpired records to Redis, begin a new epoch and return their number.

    The replication id is read first. If the server is replaced meanwhile, the epoch names a server
    that no longer exists, and no process trusts it.

    Raises:
        RedisError, ArchiveError: that tier is unavailable; the next caller may begin
            at once.
    """
    try:
        return _rebuild(store)
    except (RedisError, ArchiveError):
        with suppress(RedisError):
            store.redis_tier.release(REBUILDING)
        raise


def _rebuild(store: Store) -> int:
    tier = store.redis_tier
    tier.drop_unnamed_keys()
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
    """Write to the archive; on data errors bisect the batch and quarantine the refused records."""
    try:
        return mirror(records)
    except RefusedRecord as error:
        if len(records) > 1:
            middle = len(records) // 2
            left, right = (_mirror_or_quarantine(store, half) for half in (records[:middle], records[middle:]))
            return left.plus(right)
        logger.exception("Quarantined: %s of tenant %s.", records[0].id, records[0].tenant)
        # Withdraw first: a quarantined record is not sent again, so no later run would withdraw it.
        if records[0].is_visible:
            store.redis_tier.withdraw(records[0], has_older=holds(records[0]))
        quarantine(records[0], str(error))
        return WriteResult([], [], DeletedCounts(), [])
