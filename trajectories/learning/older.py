"""Sums of the records that the archive has and the hot cache has not."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple
from uuid import UUID

from trajectories.domain.choice_sums import Part, PhaseCells, add, part_of
from trajectories.domain.record import Position, facets_of
from trajectories.services.rolled_up import WAITING_CHUNK, chunks
from trajectories.storage import archive_reads, archive_writes, choice_reads
from trajectories.storage.archive_errors import ArchiveError
from trajectories.storage.archive_snapshot import snapshot as archive_snapshot
from trajectories.storage.redis_tier import RedisError
from trajectories.storage.store import Store
from trajectories.storage.tenant_cache import Snapshot

MAX_UNDER_WAY = 2_000
"""Records that the archive lacks a version of, up to which older ones are read."""


class Older(NamedTuple):
    """Sums by phase, of all archived records but those with ids in ``apart``.

    Records with these ids are not counted, or wait, or are under way: the archive does not have
    them as the hot cache has, so the caller adds those that it holds.
    """

    cells: dict[str, PhaseCells]
    apart: set[UUID]


def read_older(store: Store, tenant: str, snapshot: Snapshot) -> Older | None:
    """Return the sums of the archived records, from roll-ups.

    Few bodies are read: of records that are not counted and not in ``snapshot``, and of those that
    the archive lacks a version of.

    Returns:
        None if the archive is unavailable or far behind, or the roll-ups lack changes.
    """
    try:
        with store.outbox.snapshot():
            ids = {*store.outbox.waiting_ids(tenant)} | _under_way(store, tenant)
            if len(ids) > MAX_UNDER_WAY:
                return None
            with archive_snapshot(store.conf.archive_statement_timeout_s, archive_writes.alias()):
                found = choice_reads.read(tenant)
                if found is None:
                    return None
                missing = [
                    id_
                    for id_, position in found.later.items()
                    if id_ not in ids and id_ not in snapshot.by_id and not _is_above(position, snapshot)
                ]
                parts = [
                    *((part, -1) for part in _parts(tenant, ids - found.later.keys())),
                    *((part, 1) for part in _parts(tenant, missing)),
                ]
    except ArchiveError:
        return None
    cells = found.cells
    for part, times in parts:
        add(cells, part, times)
    return Older(cells, ids | found.later.keys())


def _is_above(position: Position, snapshot: Snapshot) -> bool:
    """Return whether a record came after the snapshot was taken: the next one has it."""
    return snapshot.floor is not None and position >= snapshot.floor


def _parts(tenant: str, ids: Collection[UUID]) -> Iterator[Part]:
    for chunk in chunks([*ids], WAITING_CHUNK):
        for record in archive_reads.stored(tenant, chunk):
            yield part_of(facets_of(record.body, record.outcomes), record.body, record.recorded_at_us)


def _under_way(store: Store, tenant: str) -> set[UUID]:
    """Return the ids that a worker may still write, as far as Redis knows.

    Without Redis the answer is not complete in any case, and says so.
    """
    try:
        return store.redis_tier.under_way(tenant) or set()
    except RedisError:
        return set()
