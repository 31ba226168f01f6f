"""The hot cache of one tenant: the records at its highest positions, in order, with facets."""

from __future__ import annotations

import marshal
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from sys import getsizeof
from typing import NamedTuple
from uuid import UUID

import orjson

from trajectories.domain.compression import compress, decompress
from trajectories.domain.late_outcomes import depend_on_run, facets_of_outcomes
from trajectories.domain.packed_facets import Keys, PackedFacets, packed_size
from trajectories.domain.record import LOWEST_ID, Facets, Position, Record, facets_of, merge, merge_all
from trajectories.storage.redis_tier import Change, FeedMark

_RECORD_BYTES = 400
"""Memory of a record besides version and facets: objects, numbers, entries of dict and lists. A
test and benchmarks/hot_memory.py compare the sum with tracemalloc."""


_MARSHAL_VERSION = 2


class Held(NamedTuple):
    """A record in the hot cache: its version with the body compressed, and its facets.

    ``record`` and ``unpacked`` make the values that they return anew.
    """

    tenant: str
    position: Position
    version: bytes
    packed: PackedFacets

    @property
    def record(self) -> Record:
        recorded_at_us, id_ = self.position
        stamp, digest, revision, body, *more = marshal.loads(self.version)  # noqa: S302  made by this process
        # Made at once: ``replace`` of the compressed one would take as long as decompressing it.
        return Record(self.tenant, id_, stamp, digest, revision, recorded_at_us, decompress(body), *more)

    @property
    def compressed(self) -> Record:
        """Return the record with its body compressed."""
        recorded_at_us, id_ = self.position
        stamp, digest, revision, *bodies = marshal.loads(self.version)  # noqa: S302  made by this process
        return Record(self.tenant, id_, stamp, digest, revision, recorded_at_us, *bodies)

    @property
    def facets(self) -> Facets:
        return self.packed.unpacked()

    @property
    def size(self) -> int:
        """Estimated memory in bytes, without the keys of the facets."""
        return _RECORD_BYTES + getsizeof(self.version) + packed_size(self.packed)


class HotVersion:
    """The identity of one version of the records. It lives as long as the cache or a read has them."""

    __slots__ = ("__weakref__",)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A tenant's records as one read sees them.

    ``held`` ascends by position. At and above ``floor`` nothing is missing; with None, nothing
    older exists.

    - ``is_filled``: the statement about ``floor`` holds for all records that this host can know.
    - ``is_following``: the change feed responded, so records that other hosts persisted are
      included.
    - ``is_trusted``: Redis has not lost records of other hosts that the archive may not have yet.

    ``version`` is the same object in snapshots with the same ``held``.
    """

    held: Sequence[Held]
    by_id: Mapping[UUID, Held]
    version: HotVersion
    floor: Position | None
    is_filled: bool
    is_following: bool
    is_trusted: bool

    @property
    def is_complete(self) -> bool:
        """Whether the snapshot has everything that any host has persisted."""
        return self.is_filled and self.is_following and self.is_trusted


@dataclass(slots=True)
class TenantCache:
    """The hot cache of one tenant. Its owner holds a lock around each call."""

    floor: Position | None = None
    is_filled: bool = False
    is_whole: bool = False
    """Filled to ``hot_max_records``. Otherwise the archive may have records that have room here."""
    mark: FeedMark | None = None
    polled_at: float = float("-inf")
    filled_at: float = float("-inf")
    held: dict[UUID, Held] = field(default_factory=dict)
    order: list[Held] = field(default_factory=list)
    _keys: Keys = field(default_factory=Keys)
    _records_size: int = 0
    _copies: tuple[list[Held], dict[UUID, Held], HotVersion] | None = None

    @property
    def size(self) -> int:
        """Estimated memory of all records in bytes. All counts: a record may be nothing but tools."""
        return self._records_size + self._keys.size

    @property
    def is_trusted(self) -> bool:
        """Whether Redis held everything that it should when this cache last checked."""
        return self.mark is not None and self.mark.is_trusted

    def snapshot(self, *, is_following: bool) -> Snapshot:
        """Return a snapshot for a read. Reads share the copies until the next change."""
        if self._copies is None:
            self._copies = list(self.order), dict(self.held), HotVersion()
        return Snapshot(*self._copies, self.floor, self.is_filled, is_following, self.is_trusted)

    def apply(self, record: Record, *, from_authority: bool) -> None:
        """Merge ``record``: replace, move, insert or remove its id; drop it below the floor."""
        held = self.held.get(record.id)
        if record.is_tombstone:
            if held:
                self.remove(record.id)
            return
        if held is None and record.is_addition:
            return  # the record is in another tier, or has yet to come; both are merged with the outbox's
        # The body stays compressed here: which version wins does not depend on it.
        known = held and held.compressed
        winner = merge(known, record, from_authority=from_authority)
        if known and winner.digest == known.digest:
            winner = replace(winner, body=known.body)
        if winner == known:
            return
        facets = _facets(held, winner) if held and known and winner.body is known.body else None
        if held:
            self.remove(record.id)
        if self.floor is not None and winner.position < self.floor:
            return
        if facets is None:
            facets = facets_of(winner.body, winner.outcomes)
            winner = replace(winner, body=compress(winner.body))
        values = winner.stamp, winner.digest, winner.revision, winner.body
        # Most records have no outcomes, and then these cost nothing.
        version = marshal.dumps((*values, winner.outcomes) if winner.outcomes else values, _MARSHAL_VERSION)
        self._insert(Held(winner.tenant, winner.position, version, self._keys.pack(facets)))

    def lacks(self, position: Position) -> bool:
        """Return whether a record of this position would come into the cache, and is not held yet."""
        return position.id not in self.held and (self.floor is None or position >= self.floor)

    def apply_changes(self, changes: Iterable[Change], waiting: Mapping[UUID, Sequence[Record]]) -> bool:
        """Merge changes of the feed.

        Args:
            waiting: versions of these ids that wait in this host's outbox. They may move an id
                below the floor.

        Returns:
            False if a withdrawal leaves a hole, because an older version may take its place.
        """
        has_hole = False
        for change in changes:
            if change.is_deletion:
                if change.id in self.held:
                    self.remove(change.id)
            elif change.record:
                self.apply(merge_all(change.record, waiting.get(change.id, ())), from_authority=True)
            elif (held := self.held.get(change.id)) and held.compressed.stamp <= (change.withdrawn_stamp or 0):
                self.remove(change.id)
                has_hole = True
        return not has_hole

    def remove(self, id_: UUID) -> None:
        self._copies = None
        held = self.held.pop(id_)
        del self.order[bisect_left(self.order, held.position, key=_position)]
        self._records_size -= held.size
        self._keys.release(held.packed)

    def raise_floor(self, position: Position) -> None:
        """Drop records below ``position``."""
        if self.floor is None or self.floor < position:
            while self.order and self.order[0].position < position:
                self.remove(self.order[0].position.id)
            self.floor = position

    def drop_lowest(self) -> None:
        self.remove(self.order[0].position.id)
        # Never lower the floor: the last entry may have been at it or above.
        self.floor = self.order[0].position if self.order else Position(2**62, LOWEST_ID)

    def shrink(self, max_records: int) -> None:
        while len(self.order) > max_records:
            self.drop_lowest()

    def _insert(self, held: Held) -> None:
        self._copies = None
        if not self.order or held.position > self.order[-1].position:
            self.order.append(held)
        else:
            self.order.insert(bisect_left(self.order, held.position, key=_position), held)
        self.held[held.position.id] = held
        self._records_size += held.size


def _facets(held: Held, winner: Record) -> Facets:
    """Return the facets of a version with the body of ``held``, which only moved or got outcomes."""
    if held.compressed.outcomes == winner.outcomes:
        return held.facets
    fields = orjson.loads(decompress(winner.body)) if depend_on_run(winner.outcomes) else {"phases": ()}
    return held.facets._replace(late=facets_of_outcomes(winner.outcomes, fields))


def _position(held: Held) -> Position:
    return held.position
