"""A shelf of the hot cache: the records of one tenant at the highest positions, in order, with their facets."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from trajectories.domain.record import Facets, Position, Record, facets_of, merge
from trajectories.storage.redis_tier import FeedMark

LOWEST_ID = UUID(int=0)
# Estimates of what CPython holds beside the body, checked against tracemalloc by benchmarks/hot_memory.py.
_RECORD_BYTES = 1_400
_PHASE_BYTES = 780


class Held(NamedTuple):
    """A record in the hot cache."""

    position: Position
    record: Record
    facets: Facets
    size: int


@dataclass(slots=True)
class TenantCache:
    """The hot cache of one tenant."""

    floor: Position | None = None
    is_filled: bool = False
    mark: FeedMark | None = None
    polled_at: float = float("-inf")
    filled_at: float = float("-inf")
    held: dict[UUID, Held] = field(default_factory=dict)
    order: list[Held] = field(default_factory=list)
    shown: tuple[list[Held], dict[UUID, Held]] | None = None
    size: int = 0

    def show(self) -> tuple[list[Held], dict[UUID, Held]]:
        """Copies of ``order`` and ``held`` that reads share until the next change."""
        if self.shown is None:
            self.shown = list(self.order), dict(self.held)
        return self.shown

    def apply(self, record: Record, *, from_authority: bool) -> None:
        known = self.held.get(record.id)
        if record.is_tombstone:
            if known:
                self.remove(record.id)
            return
        stands = merge(known and known.record, record, from_authority=from_authority)
        if known and stands == known.record:
            return
        if known:
            self.remove(record.id)
        if self.floor is not None and stands.position < self.floor:
            return
        # The body decides the facets, so a version that only moved keeps them.
        facets = known.facets if known and known.record.body is stands.body else facets_of(stands.body)
        self._insert(Held(stands.position, stands, facets, _size(stands, facets)))

    def remove(self, id_: UUID) -> None:
        self.shown = None
        held = self.held.pop(id_)
        del self.order[bisect_left(self.order, held.position, key=_position)]
        self.size -= held.size

    def raise_floor(self, position: Position) -> None:
        """Let go of what lies below ``position``."""
        if self.floor is None or self.floor < position:
            while self.order and self.order[0].position < position:
                self.remove(self.order[0].record.id)
            self.floor = position

    def drop_lowest(self) -> None:
        self.remove(self.order[0].record.id)
        # Never below: an entry at or above the floor may have been the last one.
        self.floor = self.order[0].position if self.order else Position(2**62, LOWEST_ID)

    def shrink(self, max_records: int) -> None:
        while len(self.order) > max_records:
            self.drop_lowest()

    def _insert(self, held: Held) -> None:
        self.shown = None
        if not self.order or held.position > self.order[-1].position:
            self.order.append(held)
        else:
            self.order.insert(bisect_left(self.order, held.position, key=_position), held)
        self.held[held.record.id] = held
        self.size += held.size


def _position(held: Held) -> Position:
    return held.position


def _size(record: Record, facets: Facets) -> int:
    return _RECORD_BYTES + len(record.body) + len(facets.request_summary_folded) + _PHASE_BYTES * len(facets.phases)
