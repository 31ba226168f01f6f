"""Groups of cells: their sums by some columns of their keys, and the largest of them.

A client may record hundreds of thousands of different names, so what is done for each group is done
in C where it can be.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from heapq import nsmallest
from itertools import islice, repeat
from operator import itemgetter, sub
from typing import TypeAlias

Cell: TypeAlias = list[int]
"""Counts and sums, of which the first one is the count of the cell."""
Names: TypeAlias = tuple[str | None, ...]
Cells: TypeAlias = dict[Names, Cell]
_PART = 256
"""Cells that are summed together. Each column is a pass over all of them, so more would not stay in
the processor's cache: 100,000 at once take four times as long."""


class Groups:
    """Cells by the columns of their key, and grouped by some of these.

    A grouping is summed from the smallest one so far that has its columns. The caller must not
    change the cells.
    """

    def __init__(self, key: tuple[str, ...], cells: Cells) -> None:
        self._made = {key: cells}

    def by(self, *columns: str) -> Cells:
        found = self._made.get(columns)
        if found is None:
            of = min((one for one in self._made if {*columns} <= {*one}), key=lambda one: len(self._made[one]))
            found = self._made[columns] = _grouped(self._made[of], [of.index(column) for column in columns])
        return found

    def total(self, width: int) -> Cell:
        """Return the sum of all cells, which have ``width`` numbers each."""
        return next(iter(self.by().values()), [0] * width)

    def largest(self, most: int, *columns: str) -> tuple[list[tuple[Names, Cell]], int, Cell]:
        """Return the groups by ``columns`` with the highest counts, those of equal counts by name;
        how many others have a count, and the sum of these."""
        kept = {names: cell for names, cell in self.by(*columns).items() if cell[0]}
        ranks: list[list[int] | list[bool] | list[str]] = [[-cell[0] for cell in kept.values()]]
        for at in range(len(columns)):
            ranks.append([names[at] is None for names in kept])
            ranks.append([names[at] or "" for names in kept])
        # No two groups have the same names, so the cells are never compared.
        shown = [one[-2:] for one in nsmallest(most, zip(*ranks, kept, kept.values(), strict=True))]
        others = len(kept) - len(shown)
        if not others:
            return shown, 0, []
        width = len(shown[0][1])
        return shown, others, [*map(sub, self.total(width), total([cell for _, cell in shown], width))]


def total(cells: Collection[Cell], width: int) -> Cell:
    """Return the sum of cells, which may be one of them."""
    if len(cells) == 1:
        return next(iter(cells))
    if len(cells) > _PART:
        rest = iter(cells)
        cells = [total(part, width) for part in iter(lambda: [*islice(rest, _PART)], [])]
    return [*map(sum, zip(*cells, strict=True))] or [0] * width


def _grouped(cells: Cells, at: list[int]) -> Cells:
    groups = zip(*(map(itemgetter(place), cells) for place in at), strict=True) if at else repeat((), len(cells))
    found: Cells = {}
    more: dict[Names, list[Cell]] = defaultdict(list)
    for group, cell in zip(groups, cells.values(), strict=True):
        if group in found:
            more[group].append(cell)
        else:
            found[group] = cell
    return found | {group: total([found[group], *others], 0) for group, others in more.items()}
