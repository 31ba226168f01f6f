"""Stats from roll-ups: what is archived, and the versions that the archive lacks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from uuid import UUID
from weakref import ref

import orjson

from trajectories.domain.query import Query
from trajectories.domain.record import Record, facets_of, merge_all
from trajectories.domain.stats import Summary
from trajectories.services.read_shares import Share
from trajectories.services.remembered import Answer, Version
from trajectories.storage import archive_reads, archive_writes, rollup_reads
from trajectories.storage.archive_errors import ArchiveError
from trajectories.storage.archive_snapshot import mapped
from trajectories.storage.archive_snapshot import snapshot as archive_snapshot
from trajectories.storage.redis_tier import RedisError
from trajectories.storage.rollup_sums import KeptSums
from trajectories.storage.rollup_tails import Tails
from trajectories.storage.store import Store
from trajectories.storage.tenant_cache import Snapshot

FEW = 500
"""Records in memory that are summarized without roll-ups and without a share of the process."""
_SAMPLE = 500
_SAMPLE_MIN = 50
_MOST = 0.6
"""Share of the sample from which on the records that do not match are subtracted. The hot ones of
these are read from the archive, which costs more than to read them from memory."""
WAITING_CHUNK = 200
"""Ids that the outbox and the archive are asked for at once."""


def if_matching(query: Query, record: Record) -> Iterator[Record]:
    if not record.is_visible:
        return
    if query.matches(record.recorded_at_us, facets_of(record.body, record.outcomes)):
        yield record


def version_of(store: Store, tenant: str, snapshot: Snapshot) -> Version | None:
    """Return the version of the tenant's records; None if they may change without a new version."""
    if snapshot.floor is None:
        return Version(ref(snapshot.version), None, None)
    # A version that waits here is merged by its stamp, and a repeat in the archive changes stamps alone.
    if store.outbox.waiting_ids(tenant):
        return None
    try:
        return Version(ref(snapshot.version), snapshot.floor, archive_reads.last_changed(tenant))
    except ArchiveError:
        return None


def rolled_up(
    store: Store, tenant: str, snapshot: Snapshot, query: Query, share: Share, rule: str | None, bucket: str | None
) -> Answer | None:
    """Answer from roll-ups of the archive; return None if the records must be read.

    So they must where few are held, where what the archive lacks is unknown, or where roll-ups do
    not cover a filter that matches few.
    """
    is_small = snapshot.floor is None and len(snapshot.held) <= FEW
    if is_small or not snapshot.is_complete:
        return None
    is_covered = rollup_reads.covers(query)
    if not is_covered and not _matches_most(snapshot, query):
        return None
    if not is_covered or rollup_reads.cuts_days(query):
        share.take()
    try:
        with store.outbox.snapshot(), nullcontext() if is_covered else mapped(archive_writes.alias()):
            found = _summary_of_rollups(store, tenant, snapshot, query, bucket)
    except (ArchiveError, RedisError):
        return None
    if found is None:
        return None
    summary, version = found
    return Answer(version, json_of(summary, rule), True, has_archive=True, computed_from="rollups")


def json_of(summary: Summary, rule: str | None) -> bytes:
    """Return stats by a credit rule in JSON; with None, how many records there are."""
    return orjson.dumps(summary.total[0] if rule is None else summary.as_json(rule))


def _matches_most(snapshot: Snapshot, query: Query) -> bool:
    """Return whether filters that roll-ups do not cover match most records of those that they do.

    Then it takes less to subtract the others. A sample of what is hot decides; the answer is the
    same either way.
    """
    if snapshot.floor is None:
        return False  # everything is in memory, which is faster than the archive's smaller part
    of = rollup_reads.covered_part(query).among()(snapshot.held[:: max(1, len(snapshot.held) // _SAMPLE)])
    found = query.among()(of)
    return len(of) >= _SAMPLE_MIN and len(found) > _MOST * len(of)


def _summary_of_rollups(
    store: Store, tenant: str, snapshot: Snapshot, query: Query, bucket: str | None
) -> tuple[Summary, Version | None] | None:
    """Return the sums of what is archived, with the winning versions of ids that are under way.

    These ids wait in this host's outbox, or a worker has their batch in hand: Redis and so the hot
    cache may have versions that the archive does not have yet.
    """
    ids = {*store.outbox.waiting_ids(tenant)}
    under_way = store.redis_tier.under_way(tenant)
    if under_way is None:
        return None
    with archive_snapshot(store.conf.archive_statement_timeout_s, archive_writes.alias()):
        version = version_of(store, tenant, snapshot)
        summary = store.part(KeptSums).summary(tenant, query, bucket=bucket, tails=store.part(Tails))
        if summary is None:
            return None
        for chunk in chunks([*ids | under_way], WAITING_CHUNK):
            summary.merge(rollup_reads.summary_of(tenant, query, chunk, bucket=bucket), times=-1)
            for record in _winners(store, tenant, snapshot, chunk):
                for matching in if_matching(query, record):
                    summary.add(facets_of(matching.body, matching.outcomes), matching.recorded_at_us)
    return summary, version


def _winners(store: Store, tenant: str, snapshot: Snapshot, ids: Sequence[UUID]) -> Iterator[Record]:
    """Yield the winning versions of ``ids``, as a read of hot cache and archive would show them."""
    waiting = store.outbox.waiting_versions(tenant, ids)
    unseen = [id_ for id_ in ids if id_ not in snapshot.by_id]
    stored = {record.id: record for record in archive_reads.stored(tenant, unseen)} if unseen else {}
    for id_ in ids:
        held, known = snapshot.by_id.get(id_), stored.get(id_)
        if held is not None:
            yield held.record
        elif id_ in waiting:
            record = merge_all(known, waiting[id_])
            # One above the floor arrived after the snapshot was taken.
            if snapshot.floor is not None and record.position < snapshot.floor:
                yield record
        elif known is not None and snapshot.floor is not None and known.position < snapshot.floor:
            yield known


def chunks(ids: Sequence[UUID], size: int) -> Iterator[Sequence[UUID]]:
    return (ids[start : start + size] for start in range(0, len(ids), size))
