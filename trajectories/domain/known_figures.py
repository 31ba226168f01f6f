"""Figures of groups, kept from one answer to the next.

Most groups of a tenant are the same after a new record, and figures of a group take longer than its
sums. Figures are found by the sums that they were made from, so none can be out of date.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Figures: TypeAlias = dict[str, Any]
_Cell: TypeAlias = list[int]


class KnownFigures:
    """The figures of one answer. Threads may replace them at any time."""

    def __init__(self) -> None:
        self.by_sums: dict[Any, Any] = {}


class Recalled:
    """The figures of an answer that is being made: those of ``known`` where the sums are equal.

    The caller must not change them. ``keep`` puts them in the place of ``known``.
    """

    def __init__(self, known: KnownFigures | None) -> None:
        self._known, self._before = known, known.by_sums if known else {}
        self._now: dict[Any, Any] = {}

    def of(self, kind: str, figures: Callable[[_Cell], Figures]) -> Callable[[_Cell], Figures]:
        """Return ``figures``, which are called once for equal cells.

        Args:
            kind: the name of ``figures``, with everything that decides its result besides a cell.
        """
        if self._known is None:
            return figures

        def recalled(cell: _Cell) -> Figures:
            key = kind, *cell
            found: Figures | None = self._before.get(key)
            self._now[key] = found = figures(cell) if found is None else found
            return found

        return recalled

    def of_start(
        self,
        start: int,
        cell: _Cell,
        durations: Mapping[int, int],
        figures: Callable[[int, _Cell, Mapping[int, int]], Figures],
    ) -> Figures:
        """Return ``figures`` of a bucket of a series.

        Args:
            durations: counts that nothing changes in place, so the same object is the same counts.
        """
        found = self._before.get(start)
        if found is None or found[0] != cell or found[1] is not durations:
            found = cell, durations, figures(start, cell, durations)
        self._now[start] = found
        made: Figures = found[2]
        return made

    def keep(self) -> None:
        if self._known is not None:
            self._known.by_sums = self._now
