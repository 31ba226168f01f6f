"""The geometry of a run's waterfall: which rectangle each phase gets, and which arrows lead back.

Pure functions of a parsed canonical body. Positions on the time axis are percentages of its width,
so a drawing scales without scaling its text; rows are counted from 0.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from trajectories.domain.clock import epoch_us
from trajectories.domain.outcomes import phase_group

MAX_LOOPS = 50
"""Arrows that are drawn. The page lists every loop."""
MAX_DEPTH = 6
_TICKS = 6
_NICE = (1, 2, 5)
_NICE_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200, 86_400)

Fields = Mapping[str, Any]


@dataclass(slots=True)
class Bar:
    """The rectangle of a phase: ``x`` and ``width`` in percent of the axis, ``row`` from the top.

    ``place`` is the phase's index in the record. ``run`` counts the phases of its name from 1.
    ``lane`` is above 0 where siblings ran at the same time. ``is_placed`` is false where the record
    does not say when the phase began, so that it begins where the one before it ended.
    """

    place: int
    row: int
    depth: int
    start_us: int
    duration_us: int | None
    outcome: str
    is_placed: bool
    run: int = 1
    runs: int = 1
    lane: int = 0
    is_parallel: bool = False
    is_critical: bool = False
    x: float = 0.0
    width: float = 0.0

    @property
    def end_us(self) -> int:
        return self.start_us + (self.duration_us or 0)

    @property
    def is_skipped(self) -> bool:
        return self.outcome == "skipped"

    @property
    def end_x(self) -> float:
        return round(self.x + self.width, 3)


@dataclass(frozen=True, slots=True)
class Arrow:
    """A feedback loop, from the end of a bar back to the end of an earlier one."""

    source: Bar
    target: Bar
    reason: str | None


@dataclass(frozen=True, slots=True)
class Tick:
    x: float
    at_us: int


@dataclass(frozen=True, slots=True)
class Waterfall:
    """A drawing. Bars are in rows: a phase is above those that are part of it.

    ``timing`` is ``times`` (each phase has a time), ``some`` or ``order`` (none has). ``span_us``
    is the length of the axis, which begins at ``origin_us`` (microseconds since 1970; None without
    times).
    """

    bars: Sequence[Bar]
    arrows: Sequence[Arrow]
    ticks: Sequence[Tick]
    timing: str
    span_us: int
    origin_us: int | None
    critical_us: int = field(default=0)

    @property
    def rows(self) -> int:
        return len(self.bars)


def layout(fields: Fields) -> Waterfall:
    """Return the drawing of a parsed canonical body."""
    phases: Sequence[Fields] = fields["phases"]
    tree = _Tree(phases)
    bars = [_bar(place, row, tree.depth[place], phases[place]) for row, place in enumerate(tree.order)]
    by_place = {bar.place: bar for bar in bars}
    timing = _place_in_time(tree, by_place, phases)
    _count_runs(by_place, phases)
    for siblings in tree.groups():
        _set_lanes([by_place[place] for place in siblings])
    origin, span = _axis(bars, fields, timing)
    for bar in bars:
        bar.x = round(100 * (bar.start_us - origin) / span, 3)
        bar.width = round(100 * (bar.duration_us or 0) / span, 3)
    critical_us = _mark_critical(tree, by_place, phases)
    return Waterfall(
        bars,
        list(_arrows(fields, by_place, phases)),
        list(_ticks(span)),
        timing,
        span,
        None if timing == "order" else origin,
        critical_us,
    )


class _Tree:
    """The nesting of the phases by ``parent_phase_id``. An unknown parent and a circle do not
    count."""

    def __init__(self, phases: Sequence[Fields]) -> None:
        place_of: dict[str, int] = {}
        for place, phase in enumerate(phases):
            if "phase_id" in phase:
                place_of.setdefault(phase["phase_id"], place)
        self.place_of = place_of
        self.parent = [self._parent(place, phase) for place, phase in enumerate(phases)]
        for place in range(len(phases)):
            if self._is_in_circle(place):
                self.parent[place] = None
        self.children: dict[int | None, list[int]] = defaultdict(list)
        for place, parent in enumerate(self.parent):
            self.children[parent].append(place)
        self.depth = dict(self._walk(None, 0))
        self.order = list(self.depth)

    def groups(self) -> Iterable[list[int]]:
        return self.children.values()

    def _parent(self, place: int, phase: Fields) -> int | None:
        parent = self.place_of.get(phase.get("parent_phase_id", ""))
        return None if parent == place else parent

    def _is_in_circle(self, place: int) -> bool:
        seen, at = {place}, self.parent[place]
        while at is not None and at not in seen:
            seen.add(at)
            at = self.parent[at]
        return at == place

    def _walk(self, parent: int | None, depth: int) -> Iterator[tuple[int, int]]:
        stack = [(place, depth) for place in reversed(self.children[parent])]
        while stack:
            place, depth = stack.pop()
            yield place, depth
            stack += [(child, depth + 1) for child in reversed(self.children.get(place, ()))]


def _bar(place: int, row: int, depth: int, phase: Fields) -> Bar:
    start, end = _us(phase.get("started_at")), _us(phase.get("ended_at"))
    duration = None if "duration_ms" not in phase else round(phase["duration_ms"] * 1000)
    if duration is None and start is not None and end is not None:
        duration = max(0, end - start)
    if start is None and end is not None and duration is not None:
        start = end - duration
    is_placed = start is not None
    return Bar(place, row, min(depth, MAX_DEPTH), start or 0, duration, phase.get("outcome", "unknown"), is_placed)


def _us(text: str | None) -> int | None:
    return None if text is None else epoch_us(datetime.fromisoformat(text))


def _place_in_time(tree: _Tree, bars: Mapping[int, Bar], phases: Sequence[Fields]) -> str:
    """Give a start to the bars that have none, and return the kind of timing.

    They begin when the last phase that they depend on has ended, else where the sibling before them
    has, else with their parent.
    """
    ran = [bar for bar in bars.values() if not bar.is_skipped]
    count = sum(bar.is_placed for bar in ran)
    first = min((bar.start_us for bar in bars.values() if bar.is_placed), default=0)

    def place(parent: int | None, cursor: int) -> int:
        """Place the children of ``parent`` from ``cursor`` on, and return their end."""
        last = cursor
        for child in tree.children.get(parent, ()):
            bar = bars[child]
            if not bar.is_placed:
                needed = [bars[at].end_us for at in _needed(tree, phases[child]) if at < child]
                bar.start_us = max(needed, default=cursor)
            end = place(child, bar.start_us)
            if bar.duration_us is None and tree.children.get(child) and not bar.is_skipped:
                bar.duration_us = max(0, end - bar.start_us)
            cursor = bar.end_us
            last = max(last, bar.end_us)
        return last

    place(None, first)
    return "times" if ran and count == len(ran) else "some" if count else "order"


def _needed(tree: _Tree, phase: Fields) -> list[int]:
    return [tree.place_of[id_] for id_ in phase.get("depends_on", ()) if id_ in tree.place_of]


def _count_runs(bars: Mapping[int, Bar], phases: Sequence[Fields]) -> None:
    by_group: dict[str, list[Bar]] = defaultdict(list)
    for place, phase in enumerate(phases):
        by_group[phase_group(phase["phase_name"])].append(bars[place])
    for runs in by_group.values():
        for number, bar in enumerate(runs, 1):
            bar.run, bar.runs = number, len(runs)


def _set_lanes(siblings: Sequence[Bar]) -> None:
    """Put siblings that overlap into lanes: each into the first one that is free."""
    ends: list[tuple[int, Bar]] = []
    for bar in sorted(
        (bar for bar in siblings if bar.duration_us and not bar.is_skipped), key=lambda bar: bar.start_us
    ):
        lane = next((lane for lane, (end, _) in enumerate(ends) if end <= bar.start_us), len(ends))
        for end, other in ends:
            if end > bar.start_us:
                bar.is_parallel = other.is_parallel = True
        ends[lane : lane + 1] = [(bar.end_us, bar)]
        bar.lane = lane


def _axis(bars: Sequence[Bar], fields: Fields, timing: str) -> tuple[int, int]:
    """Return where the axis begins, and its length, at least a microsecond."""
    starts, ends = [bar.start_us for bar in bars], [bar.end_us for bar in bars]
    if timing != "order":
        starts += [at for at in (_us(fields.get("started_at")),) if at is not None]
        ends += [at for at in (_us(fields.get("ended_at")),) if at is not None]
    origin = min(starts, default=0)
    return origin, max(1, max(ends, default=0) - origin)


def _mark_critical(tree: _Tree, bars: Mapping[int, Bar], phases: Sequence[Fields]) -> int:
    """Mark the chain of phases that decided when the run ended, and return its length.

    It is followed back from the phase that ended last: to the last of those that it depends on,
    else to the last that had ended when it began. A marked phase has a chain of its own parts.
    """
    total = 0
    waiting: list[int | None] = [None]
    while waiting:
        parent = waiting.pop()
        ran = [bars[place] for place in tree.children.get(parent, ()) if not bars[place].is_skipped]
        bar = max(ran, key=lambda one: (one.end_us, one.duration_us or 0, one.place), default=None)
        while bar is not None and not bar.is_critical:
            bar.is_critical = True
            waiting.append(bar.place)
            if parent is None:
                total += bar.duration_us or 0
            bar = _before(bar, ran, set(_needed(tree, phases[bar.place])))
    return total


def _before(bar: Bar, ran: Sequence[Bar], needed: set[int]) -> Bar | None:
    candidates = [one for one in ran if one.place in needed] or [
        one for one in ran if one.end_us <= bar.start_us and (one.end_us, one.place) < (bar.end_us, bar.place)
    ]
    return max(candidates, key=lambda one: (one.end_us, one.duration_us or 0, one.place), default=None)


def _arrows(fields: Fields, bars: Mapping[int, Bar], phases: Sequence[Fields]) -> Iterator[Arrow]:
    """Yield the loops whose two phases are known. Where a name repeats, the last one that ended
    before the phase ran again is meant: each loop of a pair of names takes the next repetition."""
    place_of = {phase["phase_id"]: place for place, phase in enumerate(phases) if "phase_id" in phase}
    places: dict[str, list[int]] = defaultdict(list)
    for place, phase in enumerate(phases):
        if phase.get("outcome") != "skipped":
            places[phase_group(phase["phase_name"])].append(place)
    taken: dict[tuple[str, str], int] = defaultdict(int)
    for loop in fields.get("feedback_loops", ())[:MAX_LOOPS]:
        source, target = place_of.get(loop.get("from_phase_id", "")), place_of.get(loop.get("to_phase_id", ""))
        names = phase_group(loop.get("from_phase", "")), phase_group(loop.get("to_phase", ""))
        if source is None and (sources := places.get(names[0])):
            source = sources[min(taken[names], len(sources) - 1)]
            taken[names] += 1
        if target is None and source is not None:
            target = max((place for place in places.get(names[1], ()) if place < source), default=None)
        if source is not None and target is not None and source != target:
            yield Arrow(bars[source], bars[target], loop.get("reason"))


def _ticks(span_us: int) -> Iterator[Tick]:
    step = _step(span_us / _TICKS)
    at = 0
    while at <= span_us:
        yield Tick(round(100 * at / span_us, 3), at)
        at += step


def _step(least_us: float) -> int:
    """Return a round number of microseconds, at least ``least_us``."""
    for seconds in _NICE_SECONDS:
        if least_us > 500_000 and seconds * 1_000_000 >= least_us:
            return seconds * 1_000_000
    if least_us > 500_000:
        days = 1
        while days * 86_400_000_000 < least_us:
            days *= 2
        return days * 86_400_000_000
    power = 1
    while True:
        for nice in _NICE:
            if nice * power >= least_us:
                return nice * power
        power *= 10
