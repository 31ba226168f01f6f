"""The phases of a run in few bytes, from which many runs are summed without reading their phases.

Words are digests of 48 bits. Runs with the same words and as many phases have one *shape*, so their
numbers are columns, and each column is summed at once. What a digest stands for is read from one run
that has it. Little-endian:

- the shape: number of phases (1 byte), widths of the numbers (2, 2 bits each), digest of the words of
  the run (6), and of each phase (6);
- the low 32 bits of the revision that it was made of (4);
- the buckets of the measures of the run (2 each);
- the numbers: by how much cost and duration of the run are above the sum over its phases, and below
  it; then NUMBERS of each phase.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import chain, compress
from operator import add, eq, itemgetter
from struct import Struct
from typing import Any, NamedTuple, TypeAlias

import orjson

from trajectories.domain.record import Facets, PhaseFacets
from trajectories.domain.stats import (
    COSTED_AT,
    MEASURES,
    MEASURES_AT,
    PHASE_MEASURES_AT,
    PHASE_WIDTH,
    PRESENCES,
    TRAJECTORY_MEASURES,
    WIDTH,
    ZERO_BUCKET,
    Cell,
    Summary,
    bucket_of,
    phase_tallies,
    tally_run,
)

RUN_WORDS = ("request_type", "source", "project", "policy", "outcome", "build_passed", "tests_passed")
PHASE_WORDS = ("phase", "model", "selection_method", "outcome", "credited", "presence", "fit")
NUMBERS = tuple(measure.column for measure in MEASURES)
TOTALS = (*NUMBERS, "unattributed_nano_usd")
"""Columns of a run: what NUMBERS of its phases add up to, unless it has a cost or duration of its
own, and by how much its cost is above that."""
ROW = ("packed_phases", "revision", "pk")
"""The columns of a run that ``by_shape`` reads. The start of its bucket follows in a series."""

Words: TypeAlias = tuple[Any, ...]
"""Values of RUN_WORDS and whether those of TOTALS are known, or of PHASE_WORDS and NUMBERS."""
ShapeKey: TypeAlias = tuple[bytes, int]
"""A shape, and the start of a bucket of the series; 0 without a series."""

_DIGEST = 6
_RUN_AT, _PHASES_AT = 3, 3 + _DIGEST
_ENDS = [_PHASES_AT + _DIGEST * phases for phases in range(256)]
"""Where the shape of a run with so many phases ends."""
_MEASURES = tuple(measure.column for measure in TRAJECTORY_MEASURES)
_HEAD = f"I{len(_MEASURES)}H"
"""Revision and buckets."""
_HEAD_UNITS = 2 + len(_MEASURES)
_UNKNOWN, _FIRST_BUCKET = 0, 1 - ZERO_BUCKET
"""A bucket that is not known, and what is added to one that is."""
_EACH = len(NUMBERS)
_OWN = 4
"""Numbers of a run that are not of its phases."""
_FORMATS = ("", "H", "I", "Q")
_UNITS = (0, 1, 2, 4)
"""Units of 16 bits that a number of each format takes."""
_REVISION_MASK = 2**32 - 1
_words_of_run = itemgetter(*map(Facets._fields.index, RUN_WORDS))
_words_of_phase = itemgetter(*map(PhaseFacets._fields.index, PHASE_WORDS))


def packed(
    revision: int, run: Words, totals: Sequence[int | None], phases: Sequence[tuple[Words, Sequence[int | None]]]
) -> bytes | None:
    """Pack a run.

    Args:
        run: values of RUN_WORDS.
        totals: values of TOTALS.
        phases: of each the values of PHASE_WORDS and of NUMBERS.

    Returns:
        None if ``totals`` do not follow from the phases, these are more than 255, or a number has more
        than 64 bits, which the archive will refuse.
    """
    digests, numbers = [digest_of(run, totals)], [0] * _OWN
    for words, values in phases:
        digests.append(digest_of(words, values))
        numbers += [value or 0 for value in values]
    columns = [numbers[_OWN + at :: _EACH] for at in range(_EACH)]
    cost, duration, *tokens = [(total or 0) - sum(column) for total, column in zip(totals, columns, strict=False)]
    if any(tokens) or (totals[-1] is not None and totals[-1] != cost) or len(phases) >= len(_ENDS):
        return None
    numbers[:_OWN] = max(cost, 0), max(-cost, 0), max(duration, 0), max(-duration, 0)
    highest = (*numbers[:_OWN], *[max(column, default=0) for column in columns])
    if max(highest) >= 1 << 64:
        return None
    code = sum(_format_of(number) << 2 * at for at, number in enumerate(highest))
    shape = b"%c%b%b" % (len(phases), code.to_bytes(2, "little"), b"".join(digests))
    layout = _layout_of(code, len(phases))
    stored = [number for number, units in zip(numbers, layout.units, strict=True) if units]
    known = [total for total in totals[2:_EACH] if total is not None]
    measures = (*totals[:_EACH], sum(known) if known else None)
    buckets = [_UNKNOWN if value is None else bucket_of(value) + _FIRST_BUCKET for value in measures]
    return shape + layout.struct.pack(revision & _REVISION_MASK, *buckets, *stored)


def packed_of(facets: Facets, revision: int) -> bytes | None:
    """Pack the facets of a run."""
    totals = (*facets.measures[:_EACH], facets.unattributed_nano_usd)
    phases = [(_words_of_phase(phase), phase.measures) for phase in facets.phases]
    return packed(revision, _words_of_run(facets), totals, phases)


def digest_of(words: Words, values: Iterable[int | None]) -> bytes:
    """Return the digest of words and of which values are known."""
    return _digest(with_known(words, values))


def with_known(words: Words, values: Iterable[int | None]) -> Words:
    return (*words, *[value is not None for value in values])


@lru_cache(1 << 12)
def _digest(words: Words) -> bytes:
    return blake2b(orjson.dumps(words), digest_size=_DIGEST).digest()


def _format_of(highest: int) -> int:
    return 0 if not highest else 1 if highest < 1 << 16 else 2 if highest < 1 << 32 else 3


class _Layout(NamedTuple):
    """What follows a shape: all of it, its head alone, and the units of 16 bits of each number."""

    struct: Struct
    head: Struct
    units: Sequence[int]


@lru_cache(1 << 10)
def _layout_of(code: int, phases: int) -> _Layout:
    each = [code >> 2 * at & 3 for at in range(_OWN + _EACH)]
    formats = each[:_OWN] + each[_OWN:] * phases
    units = [_UNITS[one] for one in formats]
    struct, head = "".join([_FORMATS[one] for one in formats]), f"{2 * sum(units)}x"
    return _Layout(Struct(f"<{_HEAD}{struct}"), Struct(f"<{_HEAD}{head}"), units)


def _layout_in(shape: bytes) -> _Layout:
    return _layout_of(shape[1] | shape[2] << 8, shape[0])


class Shape(NamedTuple):
    """Runs with the same words, in the same bucket of the series: their primary keys, what follows
    their shape, and their buckets by measure."""

    pks: Sequence[int]
    packed: Sequence[bytes]
    buckets: Sequence[Sequence[int]]


def by_shape(rows: Iterable[tuple[Any, ...]]) -> tuple[dict[ShapeKey, Shape], list[int]]:
    """Return runs by shape and start, and the primary keys of those that are not packed, or that a
    release that does not pack has replaced."""
    found, others = dict[Any, list[tuple[Any, ...]]](), list[int]()
    find, ends = found.get, _ENDS
    for row in rows:
        data = row[0]
        if data is None:
            others.append(row[2])
            continue
        key = data[: ends[data[0]]] if len(row) == 3 else (data[: ends[data[0]]], row[3])
        if (of_shape := find(key)) is None:
            of_shape = found[key] = []
        of_shape.append(row)
    shapes = dict[ShapeKey, Shape]()
    for key, of_shape in found.items():
        head, start = (key, 0) if isinstance(key, bytes) else key
        shape, are_current = _shape_of(head, of_shape)
        if not all(are_current):
            others += [row[2] for row, is_current in zip(of_shape, are_current, strict=True) if not is_current]
            if not any(are_current):
                continue
            shape, _ = _shape_of(head, [*compress(of_shape, are_current)])
        shapes[head, start] = shape
    return shapes, others


def _shape_of(head: bytes, rows: Sequence[tuple[Any, ...]]) -> tuple[Shape, Sequence[bool]]:
    """Return the runs of a shape, and of each whether it is packed at its revision."""
    at, layout = len(head), _layout_in(head)
    data, of_rows, pks, *_ = zip(*rows, strict=True)
    packed = [one[at:] for one in data]
    revisions, *buckets = zip(*layout.head.iter_unpack(b"".join(packed)), strict=True)
    return Shape(pks, packed, buckets), [*map(eq, revisions, map(_REVISION_MASK.__and__, of_rows))]


def digests_in(shape: bytes) -> tuple[bytes, list[bytes]]:
    """Return the digest of the words of a run, and those of its phases."""
    return shape[_RUN_AT:_PHASES_AT], [shape[at : at + _DIGEST] for at in range(_PHASES_AT, len(shape), _DIGEST)]


class ShapeSums:
    """Sums of runs by the digests of their words: all that a ``Summary`` has but late outcomes.

    Args:
        has_series: the starts of runs are those of a series.
    """

    def __init__(self, *, has_series: bool) -> None:
        self._has_series = has_series
        self._runs: dict[tuple[bytes, int], list[int]] = {}
        self._phases: dict[tuple[bytes, bytes], list[int]] = {}
        self._buckets: defaultdict[int, list[Counter[int]]] = defaultdict(lambda: [Counter() for _ in _MEASURES])

    def add(self, shapes: Mapping[ShapeKey, Shape]) -> None:
        """Add at most 65,536 runs."""
        by_start = defaultdict[int, list[Shape]](list)
        for (head, start), shape in shapes.items():
            by_start[start].append(shape)
            run, phases = digests_in(head)
            over_cost, under_cost, over_duration, under_duration, *sums = _sums_of(_layout_in(head), shape.packed)
            cost, duration, *tokens = [sum(sums[at::_EACH]) for at in range(_EACH)]
            own_cost = over_cost - under_cost
            totals = (len(shape.pks), cost + own_cost, duration + over_duration - under_duration, *tokens, own_cost)
            _add_to(self._runs, (run, start), totals)
            for at, phase in enumerate(phases):
                _add_to(self._phases, (run, phase), (*totals[:2], *sums[_EACH * at : _EACH * (at + 1)]))
        for start, of_start in by_start.items():
            for at, counts in enumerate(self._buckets[start]):
                counts.update(chain.from_iterable([shape.buckets[at] for shape in of_start]))

    def add_to(self, found: Summary, words: Mapping[bytes, Words]) -> None:
        """Add the sums to a summary.

        Args:
            words: by digest, of every run and phase that was added.
        """
        for (run, start), (count, *sums) in self._runs.items():
            cells = [found.trajectories.setdefault(words[run][:4], [0] * WIDTH)]
            if self._has_series:
                cells.append(found.series.setdefault(start, [0] * WIDTH))
            for cell in cells:
                _add_runs(cell, words[run], count, sums)
        for (run, phase), (count, cost, *sums) in self._phases.items():
            _add_phases(found, words[run], words[phase], count, cost, sums)
        for start, of_measures in self._buckets.items():
            for column, counts in zip(_MEASURES, of_measures, strict=True):
                del counts[_UNKNOWN]
                into = [found.buckets[column]]
                if self._has_series and column == "duration_us" and counts:
                    into.append(found.durations_of(start))
                for buckets in into:
                    for bucket, count in counts.items():
                        buckets[bucket - _FIRST_BUCKET] += count


def _add_to(sums: dict[Any, list[int]], key: Any, values: Sequence[int]) -> None:
    known = sums.get(key)
    sums[key] = [*values] if known is None else [*map(add, known, values)]


def _add_runs(cell: Cell, words: Words, count: int, sums: Sequence[int]) -> None:
    outcome, build_passed, tests_passed, *known = words[4:]
    tally_run(cell, outcome, build_passed, tests_passed, count)
    if outcome == "success" and known[0]:
        cell[COSTED_AT] += count
    *measures, (is_in, input_tokens), (is_out, output_tokens), unattributed = zip(known, sums, strict=True)
    tokens = (is_in or is_out, input_tokens + output_tokens)
    of_columns = (*measures, (is_in, input_tokens), (is_out, output_tokens), tokens, unattributed)
    _add_known(cell, MEASURES_AT, count, of_columns)


def _add_phases(found: Summary, run: Words, words: Words, count: int, cost: int, sums: Sequence[int]) -> None:
    phase, model, method, outcome, credited, presence, fit, *known = words
    request_type, run_outcome, has_cost = run[0], run[4], run[len(RUN_WORDS)]
    cell = found.phases.setdefault((phase, model, method, request_type), [0] * PHASE_WIDTH)
    cell[0] += count
    for at in phase_tallies(outcome, credited, presence, fit, run_outcome):
        cell[at] += count
    _add_known(cell, PHASE_MEASURES_AT, count, zip(known, sums, strict=True))
    if presence in PRESENCES and has_cost:
        costs = found.skip_costs.setdefault((phase, request_type), [0] * 4)
        _add_known(costs, 2 * PRESENCES.index(presence), count, [(True, cost)])


def _add_known(cell: Cell, at: int, count: int, columns: Iterable[tuple[bool, int]]) -> None:
    """Add number and sum of the values of each column to ``cell``, from ``at`` on."""
    for is_known, value in columns:
        if is_known:
            cell[at] += count
            cell[at + 1] += value
        at += 2


def _sums_of(layout: _Layout, rows: Sequence[bytes]) -> Sequence[int]:
    """Return the sum of each number over the runs of a shape."""
    if len(rows) == 1:
        of_one = layout.struct.unpack(rows[0])[1 + len(_MEASURES) :]
        return _spread(of_one, layout.units)
    return _spread(_joined(_unit_sums(rows)[_HEAD_UNITS:], layout.units), layout.units)


def _spread(stored: Iterable[int], units: Iterable[int]) -> Sequence[int]:
    """Return the stored numbers, and 0 for each that takes no bytes."""
    left = iter(stored)
    return [next(left) if count else 0 for count in units]


def _joined(sums: Iterable[int], units: Iterable[int]) -> Iterator[int]:
    """Yield the numbers whose units of 16 bits have these sums."""
    left = iter(sums)
    for count in units:
        if count:
            yield sum([next(left) << 16 * at for at in range(count)])


def _unit_sums(rows: Sequence[bytes]) -> Sequence[int]:
    """Return the sum of each 16 bits over at most 65,536 rows of one length.

    All rows are one long number. Its every second 16 bits have 16 free bits above them, and so have
    the others when it is shifted; then its halves are added until one row is left.
    """
    size = len(rows[0])
    if size % 4:  # the free bits need units in pairs
        size += 2
        together = b"\0\0".join(rows)
    else:
        together = b"".join(rows)
    every, data = (
        int.from_bytes(b"\xff\xff\0\0" * (size // 4 * len(rows)), "little"),
        int.from_bytes(together, "little"),
    )
    sums: list[tuple[int, ...]] = []
    for lanes in (data & every, data >> 16 & every):
        left = len(rows)
        while left > 1:
            left = (left + 1) // 2
            bits = 8 * size * left
            lanes = (lanes & (1 << bits) - 1) + (lanes >> bits)
        sums.append(Struct(f"<{size // 4}I").unpack(lanes.to_bytes(size, "little")))
    return [*chain.from_iterable(zip(*sums, strict=True))]
