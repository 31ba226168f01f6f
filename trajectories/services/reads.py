"""The read side: one answer from all tiers.

The hot cache answers at and above its floor. Below the floor the archive answers, except for ids of
which this host's outbox has versions that may not be archived yet. These versions are merged into
the archive's answer, as the archive will merge them. The outbox is read before the archive, in one
snapshot, so a record on its way from one to the other is seen exactly once.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Generator, Iterable, Iterator, Mapping
from heapq import merge as merge_sorted
from itertools import chain, islice
from typing import Any, NamedTuple
from uuid import UUID

from trajectories import metrics
from trajectories.domain.clock import rfc3339
from trajectories.domain.query import Query
from trajectories.domain.record import Facets, Position, Record, facets_of, merge, merge_all
from trajectories.domain.stats import Summary
from trajectories.exceptions import ArchiveUnavailable, ExportBehind, NotFound
from trajectories.models import AuditEntry
from trajectories.storage import archive_reads
from trajectories.storage.archive_errors import ArchiveError
from trajectories.storage.redis_tier import RedisError
from trajectories.storage.store import Store
from trajectories.storage.tenant_cache import Snapshot

_EXPORT_PAGE = 100
"""At 1 MiB a record, an export holds at most 100 MiB at a time."""
_ARCHIVE_PAGE_MIN = 20
_WAITING_CHUNK = 200
_WAIT_S = 0.02


class Page(NamedTuple):
    """Records by position, newest first.

    - ``is_complete``: every tier needed here has answered.
    - ``facets``: those of the records that the hot cache holds.
    """

    records: list[Record]
    next_position: Position | None
    tiers: list[str]
    is_complete: bool
    facets: Mapping[UUID, Facets]


def list_(store: Store, tenant: str, query: Query, *, after: Position | None, limit: int) -> Page:
    """Return the page after ``after`` (None: the newest one).

    A page has at most ``limit`` records and ``list_max_bytes`` bytes.

    Raises:
        ArchiveUnavailable: 503; the archive is unavailable, and no other tier has records of this
            page.
    """
    snapshot = store.hot_cache.snapshot(tenant)
    found = list(islice(_from_hot(snapshot, query, after), limit + 1))
    tiers, is_complete = _tiers(snapshot), snapshot.is_complete
    is_cut = False
    is_below = len(found) <= limit and snapshot.floor is not None
    metrics.hot_reads.labels("miss" if is_below else "hit").inc()
    if is_below and snapshot.floor is not None:
        below = snapshot.floor if after is None else min(snapshot.floor, after)
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
    if found is None or found.is_tombstone:
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
    """Return ``stats.Summary.as_json`` of all matching records, and the window that it covers.

    Args:
        credit_rule: one of ``credit.RULES``; None is the rule of the settings.
        bucket: day or week, for a series; None is no series.
    """
    snapshot = store.hot_cache.snapshot(tenant)
    summary = Summary(bucket)
    for held in snapshot.held:
        if query.matches(held.position.recorded_at_us, held.facets):
            summary.add(held.facets, held.position.recorded_at_us)
    tiers, is_complete = _tiers(snapshot), snapshot.is_complete
    metrics.hot_reads.labels("hit" if snapshot.floor is None else "miss").inc()
    if snapshot.floor is not None:
        with store.outbox.snapshot():
            try:
                summary.merge(_summary_below(store, tenant, snapshot, query, snapshot.floor, bucket))
                tiers.append("archive")
            except ArchiveError:
                is_complete = False
                summary.merge(_waiting_summary(store, tenant, snapshot, query, snapshot.floor, bucket))
    return summary.as_json(credit_rule or store.conf.credit_rule) | {
        "window": _window(store, query, tiers, is_complete=is_complete)
    }


class Pages(NamedTuple):
    """The records of an export, page by page. ``up_to_seq``: where it ends, whatever comes later."""

    up_to_seq: int
    pages: Generator[list[Record], None, None]


def export_pages(
    store: Store,
    tenant: str,
    query: Query,
    *,
    after: UUID | None = None,
    up_to_seq: int | None = None,
    actor: str = "code",
) -> Pages:
    """Return every matching record, in the order of first arrival in the archive.

    The first page is read before this returns, so an early failure is an error response and not a
    broken stream.

    Args:
        after: id of the last record that the caller has; the export continues after it.
        up_to_seq: of the export that is continued; by default it ends with what is archived now.
        actor: who exports, for the audit trail. The entry is written when the pages end, also
            when they are not read to the end.

    Raises:
        NotFound: 404; ``after`` is not an id of this tenant.
        ExportBehind: 503; earlier records of this host have not reached the archive within
            ``export_wait_s``.
        ArchiveUnavailable: 503. After the first page, a database error ends the pages.
    """
    wait_until_archived(store, tenant)
    try:
        after_seq = 0 if after is None else archive_reads.seq_of(tenant, after)
        if after_seq is None:
            raise NotFound(f"Invalid cursor: there is no trajectory {after}.", code="invalid_cursor", param="after")
        up_to_seq = archive_reads.last_seq(tenant) if up_to_seq is None else up_to_seq
        pages = _export_pages(tenant, query, after_seq, up_to_seq)
        first = next(pages, [])
    except ArchiveError as error:
        raise ArchiveUnavailable("Exports are read from the archive, which is unavailable.") from error
    return Pages(up_to_seq, _noted(tenant, actor, chain([first], pages)))


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
    while chunk := list(islice(waiting, _WAITING_CHUNK)):
        ids = [record.id for record in chunk]
        stored, versions = archive_reads.find_many(tenant, ids), store.outbox.waiting_versions(tenant, ids)
        for own in chunk:
            known = stored.get(own.id)
            if known is None or known.position >= own.position:
                yield from _if_matching(query, merge_all(known, versions[own.id]))


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
            elif own[-1].position > record.position:
                yield from _if_matching(query, merge_all(record, own))
        if page:
            below = page[-1].position


def _if_matching(query: Query, record: Record) -> Iterator[Record]:
    if record.is_tombstone:
        return
    if query.matches(record.recorded_at_us, facets_of(record.body)):
        yield record


def _summary_below(
    store: Store, tenant: str, snapshot: Snapshot, query: Query, floor: Position, bucket: str | None
) -> Summary:
    """Summarize the records below ``floor``.

    Pending ids are subtracted from the archive's counts, since they may be many for a filter. Their
    merged versions are then added.
    """
    waiting = store.outbox.waiting_ids(tenant)
    with archive_reads.snapshot(store.conf.archive_statement_timeout_s):
        summary = archive_reads.summary(tenant, query, floor, bucket=bucket)
        for start in range(0, len(waiting), _WAITING_CHUNK):
            chunk = waiting[start : start + _WAITING_CHUNK]
            summary.merge(archive_reads.summary(tenant, query, floor, only=chunk, bucket=bucket), times=-1)
            unseen = [id_ for id_ in chunk if id_ not in snapshot.by_id]
            stored = archive_reads.find_many(tenant, unseen)
            for id_, versions in store.outbox.waiting_versions(tenant, unseen).items():
                for record in _if_matching(query, merge_all(stored.get(id_), versions)):
                    # A record above the floor arrived after the snapshot was taken.
                    if record.position < floor:
                        summary.add(facets_of(record.body), record.recorded_at_us)
    return summary


def _waiting_summary(
    store: Store, tenant: str, snapshot: Snapshot, query: Query, floor: Position, bucket: str | None
) -> Summary:
    """Summarize what this host knows below ``floor`` while the archive is unavailable."""
    summary = Summary(bucket)
    for own in store.outbox.waiting_below(tenant, floor):
        if own.id not in snapshot.by_id:
            for record in _if_matching(query, own):
                summary.add(facets_of(record.body), record.recorded_at_us)
    return summary


def _from_hot(snapshot: Snapshot, query: Query, after: Position | None) -> Iterator[Record]:
    end = len(snapshot.held) if after is None else bisect_left(snapshot.held, after, key=lambda held: held.position)
    for at in range(end - 1, -1, -1):
        held = snapshot.held[at]
        if query.matches(held.position.recorded_at_us, held.facets):
            yield held.record


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
        size += len(record.body)
        if records and size > store.conf.list_max_bytes:
            break
        records.append(record)
    has_more = is_cut or len(records) < len(found)
    # A merged version of an id may differ from the one that the cache holds.
    facets = {r.id: held.facets for r in records if (held := snapshot.by_id.get(r.id)) and held.record is r}
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


# Export.


def wait_until_archived(store: Store, tenant: str) -> None:
    """Wait until every current row of this host is archived.

    Raises:
        ExportBehind: 503; the rows are not archived within ``export_wait_s``.
    """
    up_to_n = store.outbox.last_n()
    until = time.monotonic() + store.conf.export_wait_s
    while store.outbox.has_waiting(tenant, up_to_n):
        if time.monotonic() >= until:
            raise ExportBehind(
                "Earlier records of this host have not reached the archive yet; this answer would lack them."
            )
        time.sleep(_WAIT_S)


def _export_pages(tenant: str, query: Query, after_seq: int, up_to_seq: int) -> Iterator[list[Record]]:
    while page := archive_reads.exported(tenant, query, after_seq, up_to_seq, _EXPORT_PAGE):
        yield [exported.record for exported in page]
        after_seq = page[-1].seq


def _noted(tenant: str, actor: str, pages: Iterable[list[Record]]) -> Generator[list[Record], None, None]:
    count = 0
    try:
        for page in pages:
            count += len(page)
            yield page
    finally:
        AuditEntry.objects.note("export", actor, {tenant: count})
