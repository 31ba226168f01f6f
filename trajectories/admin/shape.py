"""The geometry of a run's graph: a box for each phase, from top to bottom in the order of the work.

Pure functions of a drawing of ``waterfall.layout``. Lengths are pixels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trajectories.admin.waterfall import Arrow, Bar, Waterfall

BOX_WIDTH, BOX_HEIGHT = 190, 44
_GAP_X, _GAP_Y = 24, 28
_LOOP_WIDTH = 70
_MARGIN = 8


@dataclass(frozen=True, slots=True)
class Box:
    """The box of a phase; ``level`` is its distance from the beginning of the run."""

    bar: Bar
    level: int
    x: int
    y: int

    @property
    def middle_x(self) -> int:
        return self.x + BOX_WIDTH // 2

    @property
    def bottom(self) -> int:
        return self.y + BOX_HEIGHT


@dataclass(frozen=True, slots=True)
class Edge:
    """A line as the ``d`` of an SVG path. ``kind`` is ``then``, ``part`` or ``loop``."""

    kind: str
    path: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    boxes: Sequence[Box]
    edges: Sequence[Edge]
    width: int
    height: int


def graph(fields: Mapping[str, Any], drawing: Waterfall) -> Shape:
    """Return boxes and lines: what had to end before, what a phase is part of, and what was sent
    back."""
    bars = {bar.place: bar for bar in drawing.bars}
    before, part_of = _before(fields["phases"], bars)
    levels: dict[int, int] = {}
    for place in sorted(bars):
        # Only earlier phases count, so a circle ends.
        known = [levels[at] for at in (*before[place], *part_of[place]) if at in levels]
        levels[place] = max(known, default=-1) + 1
    by_level: dict[int, list[int]] = defaultdict(list)
    for place, level in levels.items():
        by_level[level].append(place)
    widest = max(map(len, by_level.values()), default=0)
    inner = max(0, widest * (BOX_WIDTH + _GAP_X) - _GAP_X)
    boxes = {place: box for row in by_level.values() for place, box in _row(row, levels, bars, inner)}
    edges = [*_edges("then", before, boxes), *_edges("part", part_of, boxes), *_loops(drawing.arrows, boxes, inner)]
    height = 2 * _MARGIN + max(0, len(by_level) * (BOX_HEIGHT + _GAP_Y) - _GAP_Y)
    return Shape(list(boxes.values()), edges, inner + 2 * _MARGIN + (_LOOP_WIDTH if drawing.arrows else 0), height)


def _before(
    phases: Sequence[Mapping[str, Any]], bars: Mapping[int, Bar]
) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """Return, for each phase, those that came just before it, and the one that it is part of."""
    place_of = {phase["phase_id"]: place for place, phase in enumerate(phases) if "phase_id" in phase}
    before: dict[int, list[int]] = {place: [] for place in bars}
    part_of: dict[int, list[int]] = {place: [] for place in bars}
    siblings: dict[int | None, list[int]] = defaultdict(list)
    for place, phase in enumerate(phases):
        parent = place_of.get(phase.get("parent_phase_id", ""))
        if parent is not None and parent < place:
            part_of[place] = [parent]
        siblings[parent].append(place)
    for group in siblings.values():
        # Where most phases name what they depend on, the others depend on none. Elsewhere they follow
        # all that is before them, unless they began beside it.
        is_declared = 2 * sum("depends_on" in phases[place] for place in group) > len(group)
        for number, place in enumerate(group):
            if "depends_on" in phases[place] or is_declared:
                given = (place_of.get(id_) for id_ in phases[place].get("depends_on", ()))
                before[place] = [at for at in given if at is not None and at < place]
            else:
                before[place] = _ends(place, group[:number], before, bars)
    return before, part_of


def _ends(place: int, earlier: Sequence[int], before: Mapping[int, list[int]], bars: Mapping[int, Bar]) -> list[int]:
    """Return those of ``earlier`` that had ended when the phase began, and that none of them
    followed."""
    ended = [at for at in earlier if not bars[place].is_parallel or bars[at].end_us <= bars[place].start_us]
    followed = {at for one in ended for at in before[one]}
    return [at for at in ended if at not in followed]


def _row(
    row: Sequence[int], levels: Mapping[int, int], bars: Mapping[int, Bar], inner: int
) -> Iterator[tuple[int, Box]]:
    left = _MARGIN + (inner - (len(row) * (BOX_WIDTH + _GAP_X) - _GAP_X)) // 2
    for column, place in enumerate(row):
        level = levels[place]
        y = _MARGIN + level * (BOX_HEIGHT + _GAP_Y)
        yield place, Box(bars[place], level, left + column * (BOX_WIDTH + _GAP_X), y)


def _edges(kind: str, before: Mapping[int, Sequence[int]], boxes: Mapping[int, Box]) -> Iterator[Edge]:
    for place, earlier in before.items():
        for at in earlier:
            a, b = boxes[at], boxes[place]
            middle = (a.bottom + b.y) // 2
            yield Edge(kind, f"M{a.middle_x} {a.bottom}C{a.middle_x} {middle} {b.middle_x} {middle} {b.middle_x} {b.y}")


def _loops(arrows: Sequence[Arrow], boxes: Mapping[int, Box], inner: int) -> Iterator[Edge]:
    for number, arrow in enumerate(arrows):
        a, b = boxes[arrow.source.place], boxes[arrow.target.place]
        # Beside each other, so that each can be followed; a fifth begins at the first again.
        right = _MARGIN + inner + 16 + 12 * (number % 4)
        ax, ay, bx, by = a.x + BOX_WIDTH, a.y + BOX_HEIGHT // 2, b.x + BOX_WIDTH, b.y + BOX_HEIGHT // 2
        yield Edge("loop", f"M{ax} {ay}H{right}V{by}H{bx}", arrow.reason)
