"""The read side: one answer from all tiers.

The hot cache answers at and above its floor. Below the floor the archive answers, except for ids of
which this host's outbox has versions that may not be archived yet. These versions are merged into
the archive's answer, as the archive will merge them. The outbox is read before the archive, in one
snapshot, so a record on its way from one to the other is seen exactly once.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from heapq import merge as merge_sorted
from itertools import islice
from typing import Any, NamedTuple
from uuid import UUID
from weakref import ref

import orjson

from trajectories import metrics
from trajectories.domain.clock import rfc3339
from trajectories.domain.packed_sums import PackedSums
from trajectories.domain.query import Query
from trajectories.domain.record import Facets, Position, Record, facets_of, merge, merge_all
from trajectories.domain.stats import Summary
from trajectories.exceptions import ArchiveUnavailable, NotFound
from trajectories.services.read_shares import ReadShares, Share
from trajectories.services.remembered import Answer, RememberedAnswers, Version
from trajectories.services.rolled_up import FEW, WAITING_CHUNK, chunks, if_matching, json_of, rolled_up, version_of
from trajectories.storage import archive_reads
from trajectories.storage.archive_errors import ArchiveError
from trajectories.storage.archive_snapshot import mapped
from trajectories.storage.archive_snapshot import snapshot as archive_snapshot
from trajectories.storage.redis_tier import RedisError
from trajectories.storage.store import Store
from trajectories.storage.tenant_cache import Held, Snapshot

_ARCHIVE_PAGE_MIN = 20
PART = 256
"""Records of the hot cache that a filter looks at together: at most half a millisecond."""


class Page(NamedTuple):
    """Records by position, newest first.

    - ``is_complete``: every tier needed here has answered.
    - ``facets``: those of the records that the hot cache holds.
    """

    records: list[Record]
    next_position: Position | None
    tiers: list[str]
    is_complete: bool
    facets: HeldFacets


class HeldFacets:
    """The facets of the records of a page that the hot cache holds, unpacked when asked for."""

    def __init__(self, records: Sequence[Record], held: Mapping[UUID, Held]) -> None:
        self._digests = {record.id: record.digest for record in records}
        self._held = held

    def get(self, id_: UUID) -> Facets | None:
        held = self._held.get(id_)
        # A merged version of an id may differ from the one that the cache holds.
        return held.facets if held and held.compressed.digest == self._digests[id_] else None


def list_(
    store: Store, tenant: str, query: Query, *, after: Position | None, limit: int, share: Share | None = None
) -> Page:
    """Return the page after ``after`` (None: the newest one).

    A page has at most ``limit`` records and ``list_max_bytes`` bytes.

    Args:
        share: that of a longer read, which this page is a part of.

    Raises:
        ArchiveUnavailable: 503; the archive is unavailable, and no other tier has records of this
            page.
        TooManyReads: 429; as many long reads of this tenant are running as it may have.
    """
    snapshot = store.hot_cache.snapshot(tenant)
    tiers, is_complete = _tiers(snapshot), snapshot.is_complete
    is_cut = False
    with nullcontext(share) if share else store.part(ReadShares).of(tenant) as share:
        found, is_enough = _taken(_from_hot(snapshot, query, after, share), limit, store.conf.list_max_bytes)
        is_below = not is_enough and snapshot.floor is not None
        metrics.hot_reads.labels("miss" if is_below else "hit").inc()
        if is_below and snapshot.floor is not None:
            below = snapshot.floor if after is None else min(snapshot.floor, after)
            if query.on_trajectory or query.on_phase:
                share.take()
            try:
                found += _below_floor(store, tenant, snapshot, query, below, limit + 1 - len(found))
                tiers.append("archive")
            except ArchiveError as error:
                if not found:
                    raise ArchiveUnavailable("Older records cannot be read: the archive is unavailable.") from error
                is_complete, is_cut = False, True
    return _page(store, snapshot, found, limit, tiers, is_complete=is_complete, is_cut=is_cut)


def retrieve(store: Store, tenant: str, id_: UUID) -> Record:
    """Return one record.

    Raises:
        NotFound: 404; the tenant has no such record.
        ArchiveUnavailable: 503; only the archive can answer, and it is unavailable.
    """
    snapshot = store.hot_cache.snapshot(tenant)
    held = snapshot.by_id.get(id_)
    metrics.hot_reads.labels("hit" if held else "miss").inc()
    if held:
        return held.record
    versions, has_all = store.outbox.versions(tenant, id_), snapshot.is_filled and snapshot.floor is None
    try:
        stored = None if has_all else _from_redis(store, snapshot, tenant, id_) or archive_reads.find(tenant, id_)
    except ArchiveError as error:
        if not versions:
            raise ArchiveUnavailable("The record is not in the hot cache, and the archive is unavailable.") from error
        stored = None
    found = merge_all(stored, versions) if stored or versions else None
    if found is None or not found.is_visible:
        raise NotFound(f"There is no trajectory {id_}.", param="id")
    return found


def newest(store: Store, tenant: str, id_: UUID) -> Record:
    """Return the newest version of a record that this host can know, to make the next one of it.

    Redis is asked even if the hot cache has the record, which may be ``feed_poll_s`` old.

    Raises:
        NotFound, ArchiveUnavailable: as ``retrieve``.
    """
    known = retrieve(store, tenant, id_)
    elsewhere = _from_redis(store, store.hot_cache.snapshot(tenant), tenant, id_)
    return known if elsewhere is None else merge(known, elsewhere, from_authority=True)


def stats(
    store: Store, tenant: str, query: Query, *, credit_rule: str | None = None, bucket: str | None = None
) -> dict[str, Any]:
    """Return ``stats_json`` as a value."""
    shown: dict[str, Any] = orjson.loads(stats_json(store, tenant, query, credit_rule=credit_rule, bucket=bucket))
    return shown


def stats_json(
    store: Store, tenant: str, query: Query, *, credit_rule: str | None = None, bucket: str | None = None
) -> bytes:
    """Return ``stats.Summary.as_json`` of all matching records, and the window that it covers, as
    JSON.

    The same question is answered from memory as long as the tenant's records have not changed.

    Args:
        credit_rule: one of ``credit.RULES``; None is the rule of the settings.
        bucket: day or week, for a series; None is no series.

    Raises:
        TooManyReads: 429; as for ``list_``.
    """
    rule = credit_rule or store.conf.credit_rule
    snapshot = store.hot_cache.snapshot(tenant)
    metrics.hot_reads.labels("hit" if snapshot.floor is None else "miss").inc()
    found = _answer(store, tenant, snapshot, query, rule, bucket)
    tiers = _tiers(snapshot) + ["archive"] * found.has_archive
    is_complete = snapshot.is_complete and found.is_complete
    window = _window(store, query, tiers, is_complete=is_complete) | {"computed_from": found.computed_from}
    # The answer is an object with fields, so its last one is added without parsing the others.
    return b'%b,"window":%b}' % (found.json[:-1], orjson.dumps(window))


def count(store: Store, tenant: str, query: Query) -> int:
    """Return how many records match, as ``stats`` counts them, without its groups.

    Raises:
        TooManyReads: 429; as for ``list_``.
    """
    snapshot = store.hot_cache.snapshot(tenant)
    if snapshot.floor is not None:
        return int(_answer(store, tenant, snapshot, query, None, None).json)
    with store.part(ReadShares).of(tenant) as share:
        among = query.among()
        return sum(len(among(part)) for part in share.scan(_parts(snapshot, len(snapshot.held))))


def _answer(
    store: Store, tenant: str, snapshot: Snapshot, query: Query, rule: str | None, bucket: str | None
) -> Answer:
    """Return the answer to a question about all matching records.

    Args:
        rule: the credit rule of stats; None is the question how many there are.
    """
    # Everything that decides the answer, besides the records, belongs to the question.
    answers, question = store.part(RememberedAnswers), (tenant, query, rule, bucket)
    version = version_of(store, tenant, snapshot)
    found = answers.find(question, version)
    if found is None:
        with store.part(ReadShares).of(tenant) as share:
            found = rolled_up(store, tenant, snapshot, query, share, rule, bucket)
            if found is None:
                if snapshot.floor is not None or len(snapshot.held) > FEW:
                    share.take()
                # Another read may have asked the same while this one waited.
                found = answers.find(question, version)
            found = found or _summarized(store, tenant, snapshot, query, share, rule, bucket)
        answers.keep(question, found)
    return found


# List and stats below the floor.


def _below_floor(
    store: Store, tenant: str, snapshot: Snapshot, query: Query, below: Position, count: int
) -> list[Record]:
    found: dict[UUID, Record] = {}
    with store.outbox.snapshot():
        waiting = islice(_waiting(store, tenant, snapshot, query, below), count)
        # Fetch the first outbox record before the archive is queried: the outbox is read first.
        archived = _archived(store, tenant, snapshot, query, below, count)
        for record in merge_sorted(waiting, archived, key=lambda record: record.position, reverse=True):
            if len(found) == count:
                break
            found.setdefault(record.id, record)
    return list(found.values())


def _waiting(store: Store, tenant: str, snapshot: Snapshot, query: Query, below: Position) -> Iterator[Record]:
    """Yield pending outbox records, unless the archive puts them lower; ordered by position."""
    waiting = (record for record in store.outbox.waiting_below(tenant, below) if record.id not in snapshot.by_id)
    while chunk := list(islice(waiting, WAITING_CHUNK)):
        ids = [record.id for record in chunk]
        stored, versions = archive_reads.find_many(tenant, ids), store.outbox.waiting_versions(tenant, ids)
        for own in chunk:
            known = stored.get(own.id)
            if known is None or known.position >= own.position:
                yield from if_matching(query, merge_all(known, versions[own.id]))


def _archived(
    store: Store, tenant: str, snapshot: Snapshot, query: Query, below: Position, count: int
) -> Iterator[Record]:
    """Yield the archive's records except those that ``_waiting`` yields; ordered by position."""
    size = max(count, _ARCHIVE_PAGE_MIN)
    page: list[Record] | None = None
    while page is None or len(page) == size:
        page = archive_reads.newest(tenant, query, below, size)
        versions = store.outbox.waiting_versions(tenant, [record.id for record in page])
        for record in page:
            if record.id in snapshot.by_id:
                continue
            own = versions.get(record.id)
            if own is None:
                yield record
            elif _is_above(own, record):
                yield from if_matching(query, merge_all(record, own))
        if page:
            below = page[-1].position


def _is_above(waiting: Sequence[Record], archived: Record) -> bool:
    """Return whether the position of ``archived`` is the one that the id has: no run that waits has a
    lower one. Additions have none."""
    positions = [one.position for one in waiting if not one.is_addition]
    return not positions or positions[-1] > archived.position


def _summarized(
    store: Store, tenant: str, snapshot: Snapshot, query: Query, share: Share, rule: str | None, bucket: str | None
) -> Answer:
    summary, is_complete = Summary(bucket), True
    version: Version | None = Version(ref(snapshot.version), None, None)
    among = query.among()
    with PackedSums(summary) as add:
        for part in share.scan(_parts(snapshot, len(snapshot.held))):
            for held in among(part):
                add(held.packed, held.position.recorded_at_us)
    if snapshot.floor is not None:
        with store.outbox.snapshot():
            try:
                below, version = _summary_below(store, tenant, snapshot, query, snapshot.floor, bucket)
            except ArchiveError:
                below = _waiting_summary(store, tenant, snapshot, query, snapshot.floor, bucket)
                version, is_complete = None, False
        summary.merge(below)
    has_archive = snapshot.floor is not None and is_complete
    return Answer(version, json_of(summary, rule), is_complete, has_archive=has_archive)


def _summary_below(
    store: Store, tenant: str, snapshot: Snapshot, query: Query, floor: Position, bucket: str | None
) -> tuple[Summary, Version | None]:
    """Summarize the records below ``floor``; return their version too.

    Pending ids are subtracted from the archive's counts, since they may be many for a filter. Their
    merged versions are then added.
    """
    waiting = store.outbox.waiting_ids(tenant)
    with mapped(), archive_snapshot(store.conf.archive_statement_timeout_s):
        version = version_of(store, tenant, snapshot)
        summary = archive_reads.summary(tenant, query, floor, bucket=bucket)
        for chunk in chunks(waiting, WAITING_CHUNK):
            summary.merge(archive_reads.summary(tenant, query, floor, only=chunk, bucket=bucket), times=-1)
            unseen = [id_ for id_ in chunk if id_ not in snapshot.by_id]
            stored = archive_reads.find_many(tenant, unseen)
            for id_, versions in store.outbox.waiting_versions(tenant, unseen).items():
                for record in if_matching(query, merge_all(stored.get(id_), versions)):
                    # A record above the floor arrived after the snapshot was taken.
                    if record.position < floor:
                        summary.add(facets_of(record.body, record.outcomes), record.recorded_at_us)
    return summary, version


def _waiting_summary(
    store: Store, tenant: str, snapshot: Snapshot, query: Query, floor: Position, bucket: str | None
) -> Summary:
    """Summarize what this host knows below ``floor`` while the archive is unavailable."""
    summary = Summary(bucket)
    for own in store.outbox.waiting_below(tenant, floor):
        if own.id not in snapshot.by_id:
            for record in if_matching(query, own):
                summary.add(facets_of(record.body, record.outcomes), record.recorded_at_us)
    return summary


def _from_hot(snapshot: Snapshot, query: Query, after: Position | None, share: Share) -> Iterator[Record]:
    end = len(snapshot.held) if after is None else bisect_left(snapshot.held, after, key=lambda held: held.position)
    among = query.among()
    for part in share.scan(_parts(snapshot, end)):
        yield from (held.record for held in reversed(among(part)))


def _parts(snapshot: Snapshot, end: int) -> Iterator[Sequence[Held]]:
    """Yield the records in memory before ``end`` by parts, the newest part first."""
    return (snapshot.held[max(0, at - PART) : at] for at in range(end, 0, -PART))


def _taken(records: Iterator[Record], limit: int, max_bytes: int) -> tuple[list[Record], bool]:
    """Return the records of a page and one more; and whether these are enough, or more were needed.

    Records of the hot cache are decompressed one by one, so those beyond the page's bytes are not.
    """
    found: list[Record] = []
    size = 0
    for record in records:
        found.append(record)
        size += len(record.body) + len(record.outcomes)
        if len(found) > limit or (size > max_bytes and len(found) > 1):
            return found, True
    return found, False


def _page(
    store: Store,
    snapshot: Snapshot,
    found: list[Record],
    limit: int,
    tiers: list[str],
    *,
    is_complete: bool,
    is_cut: bool,
) -> Page:
    """Cut ``found`` to the limits; one record more than ``limit`` means that more records exist."""
    records: list[Record] = []
    size = 0
    for record in found[:limit]:
        size += len(record.body) + len(record.outcomes)
        if records and size > store.conf.list_max_bytes:
            break
        records.append(record)
    has_more = is_cut or len(records) < len(found)
    facets = HeldFacets(records, snapshot.by_id)
    return Page(records, records[-1].position if has_more else None, tiers, is_complete, facets)


def _tiers(snapshot: Snapshot) -> list[str]:
    return ["hot", "redis"] if snapshot.is_following else ["hot"]


def _window(store: Store, query: Query, tiers: list[str], *, is_complete: bool) -> dict[str, Any]:
    bounds = {condition.lookup: rfc3339(condition.value).decode() for condition in query.on_position}
    return {
        "from": bounds.get("at_least"),
        "to": bounds.get("below"),
        "tiers": tiers,
        "as_of": rfc3339(store.now_us()).decode(),
        "complete": is_complete,
    }


def _from_redis(store: Store, snapshot: Snapshot, tenant: str, id_: UUID) -> Record | None:
    try:
        return store.redis_tier.find(tenant, id_) if snapshot.is_following else None
    except RedisError:
        return None
