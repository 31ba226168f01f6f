"""The read side: one answer out of all tiers.

At and above the hot cache's floor the hot cache answers. Below it the archive does, except for ids of which this host's
outbox has a version that the archive may not have yet: these come from the outbox and replace what the archive says.
The outbox is always read before the archive, so a record on its way from one to the other is seen at least once.
"""

from __future__ import annotations

import hashlib
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from heapq import merge as merge_sorted
from itertools import chain, islice
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from trajectories.conf import read_settings
from trajectories.exceptions import ArchiveUnavailable, ExportBehind, InvalidInput, NotFound
from trajectories.query import Query
from trajectories.record import Position, Record, facets_of, merge, rfc3339
from trajectories.stats import Summary
from trajectories.tiers import archive
from trajectories.tiers.hot import View, hot
from trajectories.tiers.outbox import now_us, outbox
from trajectories.tiers.redis import RedisError, redis_tier

_EXPORT_PAGE = 100
"""At 1 MiB a record the most that an export holds at a time is 100 MiB."""
_ARCHIVE_PAGE_MIN = 20
_SUBTRACT_CHUNK = 500
_WAIT_S = 0.02


class Page(NamedTuple):
    """Records by position, newest first. ``is_complete``: every tier that this page needed has answered."""

    records: list[Record]
    next_position: Position | None
    tiers: list[str]
    is_complete: bool


def list_(tenant: str, query: Query, *, after: Position | None, limit: int) -> Page:
    """The next page behind ``after`` (None: the newest), at most ``limit`` records and ``list_max_bytes`` bytes.

    Raises:
        ArchiveUnavailable: 503; nothing of this page could be read without the archive, and it is away.
    """
    view = hot().view(tenant)
    found = list(islice(_from_hot(view, query, after), limit + 1))
    tiers, is_complete = _tiers(view), view.is_filled and view.is_following
    is_cut = False
    if len(found) <= limit and view.floor is not None:
        below = view.floor if after is None else min(view.floor, after)
        try:
            found += _below_floor(tenant, view, query, below, limit + 1 - len(found))
            tiers.append("archive")
        except archive.ArchiveError as error:
            if not found:
                raise ArchiveUnavailable(
                    "What lies below the hot cache cannot be read: the archive is away."
                ) from error
            is_complete, is_cut = False, True
    return _page(found, limit, tiers, is_complete=is_complete, is_cut=is_cut)


def retrieve(tenant: str, id_: UUID) -> Record:
    """One record.

    Raises:
        NotFound: 404; the tenant has no such record.
        ArchiveUnavailable: 503; the archive would have to say.
    """
    view = hot().view(tenant)
    if held := view.by_id.get(id_):
        return held.record
    row, has_all = outbox().find(tenant, id_), view.is_filled and view.floor is None
    try:
        stored = None if has_all else _from_redis(view, tenant, id_) or archive.find(tenant, id_)
    except archive.ArchiveError as error:
        if row is None:
            raise ArchiveUnavailable("The record is not in the hot cache and the archive is away.") from error
        stored = None
    found = merge(stored, row, is_settled=False) if row else stored
    if found is None:
        raise NotFound(f"There is no trajectory {id_}.", param="id")
    return found


def stats(tenant: str, query: Query) -> dict[str, Any]:
    """The summary of all matching records as JSON values: ``stats.Summary.as_json``, and the window that it is of."""
    view = hot().view(tenant)
    summary = Summary()
    for held in view.held:
        if query.matches(held.position.recorded_at_us, held.facets):
            summary.add(held.facets)
    tiers, is_complete = _tiers(view), view.is_filled and view.is_following
    if view.floor is not None:
        replaced = list(outbox().waiting_ids(tenant))
        for record in _waiting(tenant, view, query, view.floor):
            summary.add(facets_of(record.body))
        try:
            summary.merge(_archived_summary(tenant, query, view.floor, replaced))
            tiers.append("archive")
        except archive.ArchiveError:
            is_complete = False
    return summary.as_json() | {"window": _window(query, tiers, is_complete=is_complete)}


def export(tenant: str, query: Query, *, after: UUID | None, has_end: bool) -> Iterator[bytes]:
    """Every matching record as a line of JSON, in the order in which the archive first got them.

    The first page is read before this returns, so what is wrong from the beginning is an error and not a broken stream.

    Args:
        after: id of the last line that the client has; the export goes on behind it.
        has_end: add a last line ``{"end": {"count", "cursor", "sha256"}}``: the lines of this response, the id to go on
            behind, and the SHA-256 of their bytes, newlines included.

    Raises:
        InvalidInput: 400; ``after`` is not an id of this tenant.
        ExportBehind: 503; earlier records of this host have not reached the archive within ``export_wait_s``.
        ArchiveUnavailable: 503. Later, in the middle, what the database raises ends the stream without its end.
    """
    _wait_until_archived(tenant)
    try:
        after_seq = 0 if after is None else archive.seq_of(tenant, after)
        if after_seq is None:
            raise InvalidInput(f"There is no trajectory {after} to go on behind.", code="invalid_cursor", param="after")
        up_to_seq = archive.last_seq(tenant)
        pages = _export_pages(tenant, query, after_seq, up_to_seq)
        first = next(pages, [])
    except archive.ArchiveError as error:
        raise ArchiveUnavailable("Exports come out of the archive, and it is away.") from error
    return _export_lines(chain([first], pages), after, has_end=has_end)


# List and stats below the floor.


def _below_floor(tenant: str, view: View, query: Query, below: Position, count: int) -> list[Record]:
    waiting = list(islice(_waiting(tenant, view, query, below), count))
    archived = _archived(tenant, view, query, below, count)
    newest_first = merge_sorted(waiting, archived, key=lambda record: record.position, reverse=True)
    found: dict[UUID, Record] = {}
    for record in newest_first:
        if len(found) == count:
            break
        # Waiting comes first among equals, and never lies lower than the archive's version of the same id.
        found.setdefault(record.id, record)
    return list(found.values())


def _waiting(tenant: str, view: View, query: Query, below: Position) -> Iterator[Record]:
    for record in outbox().waiting_below(tenant, below):
        if record.id not in view.by_id and query.matches(record.recorded_at_us, facets_of(record.body)):
            yield record


def _archived(tenant: str, view: View, query: Query, below: Position, count: int) -> Iterator[Record]:
    size = max(count, _ARCHIVE_PAGE_MIN)
    page: list[Record] | None = None
    while page is None or len(page) == size:
        page = archive.newest(tenant, query, below, size)
        replaced = set(outbox().waiting_ids(tenant, among=[record.id for record in page]))
        for record in page:
            if record.id not in replaced and record.id not in view.by_id:
                yield record
        if page:
            below = page[-1].position


def _archived_summary(tenant: str, query: Query, below: Position, replaced: list[UUID]) -> Summary:
    """What the archive has below ``below``, less the ids in ``replaced``: taken away instead of left out, as they may be many."""
    with archive.snapshot():
        summary = archive.summary(tenant, query, below)
        for start in range(0, len(replaced), _SUBTRACT_CHUNK):
            chunk = replaced[start : start + _SUBTRACT_CHUNK]
            summary.merge(archive.summary(tenant, query, below, only=chunk), times=-1)
    return summary


def _from_hot(view: View, query: Query, after: Position | None) -> Iterator[Record]:
    end = len(view.held) if after is None else bisect_left(view.held, after, key=lambda held: held.position)
    for at in range(end - 1, -1, -1):
        held = view.held[at]
        if query.matches(held.position.recorded_at_us, held.facets):
            yield held.record


def _page(found: list[Record], limit: int, tiers: list[str], *, is_complete: bool, is_cut: bool) -> Page:
    """``found`` cut to the limits; one record more than ``limit`` says that there are more."""
    records: list[Record] = []
    size = 0
    for record in found[:limit]:
        size += len(record.body)
        if records and size > read_settings().list_max_bytes:
            break
        records.append(record)
    has_more = is_cut or len(records) < len(found)
    return Page(records, records[-1].position if has_more else None, tiers, is_complete)


def _tiers(view: View) -> list[str]:
    return ["hot", "redis"] if view.is_following else ["hot"]


def _window(query: Query, tiers: list[str], *, is_complete: bool) -> dict[str, Any]:
    bounds = {condition.lookup: rfc3339(condition.value).decode() for condition in query.on_position}
    return {
        "from": bounds.get("at_least"),
        "to": bounds.get("below"),
        "tiers": tiers,
        "as_of": rfc3339(now_us()).decode(),
        "complete": is_complete,
    }


def _from_redis(view: View, tenant: str, id_: UUID) -> Record | None:
    try:
        return redis_tier().find(tenant, id_) if view.is_following else None
    except RedisError:
        return None


# Export.


def _wait_until_archived(tenant: str) -> None:
    up_to_n = outbox().last_n()
    until = time.monotonic() + read_settings().export_wait_s
    while outbox().has_waiting(tenant, up_to_n):
        if time.monotonic() >= until:
            raise ExportBehind(
                "Earlier records of this host have not reached the archive yet; an export would lack them."
            )
        time.sleep(_WAIT_S)


def _export_pages(tenant: str, query: Query, after_seq: int, up_to_seq: int) -> Iterator[list[Record]]:
    while page := archive.exported(tenant, query, after_seq, up_to_seq, _EXPORT_PAGE):
        yield [exported.record for exported in page]
        after_seq = page[-1].seq


def _export_lines(pages: Iterable[list[Record]], after: UUID | None, *, has_end: bool) -> Iterator[bytes]:
    digest, count, cursor = hashlib.sha256(), 0, after
    for page in pages:
        lines = b"".join(record.json() + b"\n" for record in page)
        digest.update(lines)
        count, cursor = count + len(page), page[-1].id if page else cursor
        yield lines
    if has_end:
        yield orjson.dumps({"end": {"count": count, "cursor": cursor, "sha256": digest.hexdigest()}}) + b"\n"
