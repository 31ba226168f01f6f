"""The phases of a run in few bytes, from which many runs are summed without reading their phases.

Words are digests of 48 bits. Runs with the same words and as many phases have one *shape*, so their
numbers are columns, and each column is summed at once. What a digest stands for is read from one run
that has it. Little-endian:

- the shape: widths of the numbers (2 bytes, 2 bits each), number of phases (2), digest of the words of
  the run (6), and of each phase (6);
- the low 32 bits of the revision that it was made of (4);
- the numbers: by how much cost and duration of the run are above the sum over its phases, and below
  it; then NUMBERS of each phase.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import chain
from operator import add, itemgetter
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
    Cell,
    Summary,
    phase_tallies,
    tally_run,
)

RUN_WORDS = ("request_type", "source", "project", "policy", "outcome", "build_passed", "tests_passed")
PHASE_WORDS = ("phase", "model", "selection_method", "outcome", "credited", "presence", "fit")
NUMBERS = tuple(measure.column for measure in MEASURES)
TOTALS = (*NUMBERS, "unattributed_nano_usd")
"""Columns of a run: what NUMBERS of its phases add up to, unless it has a cost or duration of its
own, and by how much its cost is above that."""
BUCKETS = tuple(f"{measure.column}_bucket" for measure in TRAJECTORY_MEASURES)
ROW = ("packed_phases", "revision", "pk", *BUCKETS)
"""The columns of a run that sums need, in this order. The start of its bucket in the series follows,
any number without a series."""

Words: TypeAlias = tuple[Any, ...]
"""Values of RUN_WORDS and whether those of TOTALS are known, or of PHASE_WORDS and NUMBERS."""
ShapeKey: TypeAlias = tuple[bytes, int]
"""A shape, and a start."""

_DIGEST = 6
_RUN_AT, _PHASES_AT = 4, 4 + _DIGEST
_BUCKETS_AT, _START_AT = ROW.index(BUCKETS[0]), len(ROW)
_DURATION_BUCKET_AT = ROW.index("duration_us_bucket")
_EACH = len(NUMBERS)
_OWN = 4
"""Numbers of a run that are not of its phases."""
_FORMATS = ("", "H", "I", "Q")
_UNITS = (0, 1, 2, 4)
"""Units of 16 bits that a number of each format takes."""
_REVISION, _REVISION_MASK = Struct("<I"), 2**32 - 1
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
        None if ``totals`` do not follow from the phases.
    """
    digests, numbers = [digest_of(run, totals)], [0] * _OWN
    for words, values in phases:
        digests.append(digest_of(words, values))
        numbers += [value or 0 for value in values]
    columns = [numbers[_OWN + at :: _EACH] for at in range(_EACH)]
    cost, duration, *tokens = [(total or 0) - sum(column) for total, column in zip(totals, columns, strict=False)]
    if any(tokens) or (totals[-1] is not None and totals[-1] != cost):
        return None
    numbers[:_OWN] = max(cost, 0), max(-cost, 0), max(duration, 0), max(-duration, 0)
    highest = (*numbers[:_OWN], *[max(column, default=0) for column in columns])
    code = sum(_format_of(number) << 2 * at for at, number in enumerate(highest))
    count = len(phases).to_bytes(2, "little")
    shape = b"%b%b%b" % (code.to_bytes(2, "little"), count, b"".join(digests))
    layout = _layout_of(code, len(phases))
    stored = [number for number, units in zip(numbers, layout.units, strict=True) if units]
    return b"%b%b%b" % (shape, _REVISION.pack(revision & _REVISION_MASK), layout.struct.pack(*stored))


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
    """Of the numbers of a shape: all of them, and the units of 16 bits that each takes."""

    struct: Struct
    units: Sequence[int]


@lru_cache(1 << 10)
def _layout_of(code: int, phases: int) -> _Layout:
    each = [code >> 2 * at & 3 for at in range(_OWN + _EACH)]
    formats = each[:_OWN] + each[_OWN:] * phases
    return _Layout(Struct("<" + "".join([_FORMATS[one] for one in formats])), [_UNITS[one] for one in formats])


class Shape(NamedTuple):
    """Runs with the same words, in the same bucket of the series: their rows and numbers."""

    rows: list[tuple[Any, ...]]
    numbers: list[bytes]


def by_shape(rows: Iterable[tuple[Any, ...]]) -> tuple[dict[ShapeKey, Shape], list[int]]:
    """Return runs by shape and start, and the primary keys of those that are not packed, or were
    replaced by a release that does not pack."""
    shapes, others = dict[ShapeKey, Shape](), list[int]()
    find, revision_at = shapes.get, _REVISION.unpack_from
    for row in rows:
        data = row[0]
        if data is None:
            others.append(row[2])
            continue
        at = _PHASES_AT + _DIGEST * (data[2] | data[3] << 8)
        if revision_at(data, at)[0] != row[1] & _REVISION_MASK:
            others.append(row[2])
            continue
        key = data[:at], row[_START_AT]
        if (shape := find(key)) is None:
            shape = shapes[key] = Shape([], [])
        shape.rows.append(row)
        shape.numbers.append(data[at + 4 :])
    return shapes, others


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
        self._buckets = [Counter[int | None]() for _ in BUCKETS]
        self._durations = Counter[tuple[int, int | None]]()

    def add(self, shapes: Mapping[ShapeKey, Shape]) -> None:
        """Add at most 65,536 runs."""
        for (shape, start), (rows, numbers) in shapes.items():
            run, phases = digests_in(shape)
            over_cost, under_cost, over_duration, under_duration, *sums = _sums_of(shape, numbers)
            cost, duration, *tokens = [sum(sums[at::_EACH]) for at in range(_EACH)]
            own_cost = over_cost - under_cost
            totals = (len(rows), cost + own_cost, duration + over_duration - under_duration, *tokens, own_cost)
            _add_to(self._runs, (run, start), totals)
            for at, phase in enumerate(phases):
                _add_to(self._phases, (run, phase), (*totals[:2], *sums[_EACH * at : _EACH * (at + 1)]))
        columns = [*zip(*chain.from_iterable([shape.rows for shape in shapes.values()]), strict=True)]
        if columns:
            for counts, column in zip(self._buckets, columns[_BUCKETS_AT:_START_AT], strict=True):
                counts.update(column)
            if self._has_series:
                self._durations.update(zip(columns[_START_AT], columns[_DURATION_BUCKET_AT], strict=True))

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
        for buckets, counts in zip(found.buckets.values(), self._buckets, strict=True):
            for bucket, count in counts.items():
                if bucket is not None:
                    buckets[bucket] += count
        for (start, bucket), count in self._durations.items():
            if bucket is not None:
                found.durations_of(start)[bucket] += count


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


def _sums_of(shape: bytes, numbers: Sequence[bytes]) -> Sequence[int]:
    """Return the sum of each number over the runs of a shape."""
    layout = _layout_of(int.from_bytes(shape[:2], "little"), int.from_bytes(shape[2:4], "little"))
    sums = iter(layout.struct.unpack(numbers[0]) if len(numbers) == 1 else _joined(_unit_sums(numbers), layout.units))
    return [next(sums) if units else 0 for units in layout.units]


def _joined(sums: Iterable[int], units: Iterable[int]) -> Iterable[int]:
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
