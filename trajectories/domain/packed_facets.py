"""Facets in a fifth of their memory, for the many records of a cache.

Runs of one orchestrator repeat their words: the words of a run and those of a phase are one tuple
each, a *key*, and equal keys can be one object. The numbers are bytes until they are needed.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Sequence
from itertools import chain
from sys import getsizeof
from typing import Any, NamedTuple, Protocol, TypeAlias

from trajectories.domain.late_outcomes import LateFacets
from trajectories.domain.record import Facets, PhaseFacets, Position

Key: TypeAlias = tuple[Any, ...]

_TRAJECTORY_KEY = slice(1, 9)
_NUMBERS = slice(9, 16)
_PHASE_KEY = slice(0, 10)
_PHASE_NUMBERS = slice(10, 14)
KEY_FIELDS: tuple[str, ...] = Facets._fields[1:9]
NUMBER_FIELDS: tuple[str, ...] = Facets._fields[9:16]
PHASE_KEY_FIELDS: tuple[str, ...] = PhaseFacets._fields[:10]
_MARSHAL_VERSION = 2
"""The last one without references between values, which cost more than they save here."""


class PackedFacets(NamedTuple):
    """The facets of one record. ``key`` has KEY_FIELDS, each of ``phases`` has PHASE_KEY_FIELDS."""

    summary: str
    key: Key
    phases: tuple[Key, ...]
    packed: bytes
    late: tuple[LateFacets, ...] = ()

    @property
    def numbers(self) -> tuple[int | None, ...]:
        """Return the values of NUMBER_FIELDS, then the four of each phase."""
        numbers: tuple[int | None, ...] = marshal.loads(self.packed)  # noqa: S302  made by this process
        return numbers

    def unpacked(self) -> Facets:
        numbers = self.numbers
        each = len(NUMBER_FIELDS)
        phases = tuple(
            PhaseFacets._make((*key, *numbers[at : at + 4]))
            for key, at in zip(self.phases, range(each, len(numbers), 4), strict=True)
        )
        return Facets._make((self.summary, *self.key, *numbers[:each], phases, self.late))


class Cached(Protocol):
    """A record as a cache holds it."""

    @property
    def position(self) -> Position: ...

    @property
    def packed(self) -> PackedFacets: ...


Step: TypeAlias = Callable[[list[Any]], list[Any]]
"""Returns those of some ``Cached`` that a filter leaves."""


class Keys:
    """The keys of the records of a cache, each once, with the number of its uses.

    ``size`` is their memory in bytes. Not thread-safe.
    """

    def __init__(self) -> None:
        self.size = 0
        self._uses: dict[Key, list[Any]] = {}

    def pack(self, facets: Facets) -> PackedFacets:
        """Return ``facets`` with keys of this object; ``release`` them later."""
        numbers = [*_part(facets, _NUMBERS)]
        for phase in facets.phases:
            numbers += _part(phase, _PHASE_NUMBERS)
        return PackedFacets(
            facets.request_summary_folded,
            self._use(_part(facets, _TRAJECTORY_KEY)),
            tuple([self._use(_part(phase, _PHASE_KEY)) for phase in facets.phases]),
            marshal.dumps(tuple(numbers), _MARSHAL_VERSION),
            facets.late,
        )

    def release(self, facets: PackedFacets) -> None:
        """Forget the keys of ``facets`` that nothing else uses."""
        for key in (facets.key, *facets.phases):
            entry = self._uses[key]
            entry[1] -= 1
            if not entry[1]:
                del self._uses[key]
                self.size -= _key_size(key)

    def _use(self, key: Key) -> Key:
        entry = self._uses.get(key)
        if entry is None:
            entry = self._uses[key] = [key, 0]
            self.size += _key_size(key)
        entry[1] += 1
        used: Key = entry[0]
        return used


def _part(of: Key, part: slice) -> Key:
    return of[part]


_ENTRY_BYTES = 208
"""Memory of an entry of ``Keys`` besides the key: list, its items, place in the dict."""


def _key_size(key: Key) -> int:
    size = _ENTRY_BYTES + getsizeof(key)
    for value in key:
        if value.__class__ is tuple:
            size += getsizeof(value) + sum(map(getsizeof, value))
        elif value.__class__ is str:
            size += getsizeof(value)
    return size


def packed_size(facets: PackedFacets) -> int:
    """Return the memory of ``facets`` without its keys, in bytes."""
    size = getsizeof(facets) + sum(map(getsizeof, (facets.summary, facets.phases, facets.packed)))
    if facets.late:
        size += getsizeof(facets.late) + sum(getsizeof(one) + sum(map(getsizeof, one)) for one in facets.late)
    return size


# Filters of records that share keys.


class _KnownKeys:
    """The keys that a test has seen, by identity, and those of them that match."""

    def __init__(self, test: Callable[[Any], bool]) -> None:
        self._test, self._seen = test, set[int]()
        self.matching = set[int]()

    def has_match(self, keys: Sequence[Any]) -> bool:
        numbers = set(map(id, keys))
        if not numbers <= self._seen:
            fresh = {id(key): key for key in keys if id(key) not in self._seen}
            self._seen |= fresh.keys()
            self.matching |= {number for number, key in fresh.items() if self._test(key)}
        return not numbers.isdisjoint(self.matching)


def with_key(test: Callable[[Any], bool]) -> Step:
    """Return what returns those of some records whose run has a key that passes ``test``."""
    known = _KnownKeys(test)

    def step(held: list[Any]) -> list[Any]:
        keys = [one.packed.key for one in held]
        if not known.has_match(keys):
            return []
        return [one for one, key in zip(held, keys, strict=True) if id(key) in known.matching]

    return step


def with_phase_key(test: Callable[[Any], bool]) -> Step:
    """Return what returns those of some records of which a phase has a key that passes ``test``."""
    known = _KnownKeys(test)

    def step(held: list[Any]) -> list[Any]:
        if not known.has_match([*chain.from_iterable([one.packed.phases for one in held])]):
            return []
        return [one for one in held if not known.matching.isdisjoint(map(id, one.packed.phases))]

    return step
