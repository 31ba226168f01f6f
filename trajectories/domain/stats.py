"""Summaries of many trajectories: exact sums, mergeable in any order, identical in every tier.

A summary is made of cells. A trajectory's cell is (request_type, source, project, policy), a
phase's cell is (phase, model, selection_method, request_type). Every group shown is a sum of cells.
Cost is in nano-USD and time in microseconds, both integers. Percentiles come from logarithmic
buckets: DDSketch (Masson, Rim, Lee, VLDB 2019) without its collapsing.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import accumulate
from operator import add
from typing import Any, NamedTuple

from trajectories.domain import late_stats
from trajectories.domain.cell_groups import Cell as Cell
from trajectories.domain.cell_groups import Cells as Cells
from trajectories.domain.cell_groups import Groups, total
from trajectories.domain.clock import DAY_US, utc
from trajectories.domain.contract_types import FITS, OUTCOMES, PHASE_OUTCOMES
from trajectories.domain.credit import CREDITED
from trajectories.domain.known_figures import KnownFigures, Recalled
from trajectories.domain.late_outcomes import MICRO
from trajectories.domain.outcomes import NOT_RUN
from trajectories.domain.rates import rate
from trajectories.domain.rates import value_per_dollar as value_per_dollar
from trajectories.domain.rates import wilson as wilson
from trajectories.domain.record import NANO_USD, Facets

RELATIVE_ERROR = 0.01
"""Maximum relative error of a percentile, compared with the value at its rank."""
MAX_GROUPS = 1_000

_GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_LOG_GAMMA = math.log(_GAMMA)
ZERO_BUCKET = -1
"""Bucket of the value 0. Values are integers, so the smallest other bucket is 0 (that of 1)."""


def bucket_of(value: int) -> int:
    """Return the bucket number of ``value``, an integer of at least 0.

    Bucket b > -1 holds (gamma**(b-1), gamma**b].
    """
    return math.ceil(math.log(value) / _LOG_GAMMA) if value > 0 else ZERO_BUCKET


def bucket_value(bucket: int) -> float:
    """Return the value that stands for those of a bucket; at most ``RELATIVE_ERROR`` off."""
    return 0.0 if bucket == ZERO_BUCKET else 2 * _GAMMA**bucket / (_GAMMA + 1)


class Tally(NamedTuple):
    """A count, and the conditions on columns under which a trajectory or phase counts in it."""

    name: str
    where: Mapping[str, Any]


class Measure(NamedTuple):
    """A column that is summed. The stored integer divided by its unit is the value shown."""

    name: str
    column: str
    divisor: int


PRESENCES = ("ran", "skipped")
MEASURES = (
    Measure("cost_usd", "cost_nano_usd", NANO_USD),
    Measure("duration_ms", "duration_us", 1000),
    Measure("input_tokens", "input_tokens", 1),
    Measure("output_tokens", "output_tokens", 1),
)
TRAJECTORY_MEASURES = (*MEASURES, Measure("tokens", "tokens", 1))
TRAJECTORY_SUMS = (*TRAJECTORY_MEASURES, Measure("unattributed_cost_usd", "unattributed_nano_usd", NANO_USD))
"""The last one may be negative, so it has no percentiles."""
TRAJECTORY_TALLIES = (
    *(Tally(outcome, {"outcome": outcome}) for outcome in OUTCOMES),
    *(
        Tally(f"{check}_{value}", {check: value})
        for check in ("build_passed", "tests_passed")
        for value in (True, False)
    ),
    Tally("success_of_known_cost", {"outcome": "success", "cost_nano_usd__isnull": False}),
)
RAN = tuple(outcome for outcome in PHASE_OUTCOMES if outcome not in NOT_RUN)
PHASE_TALLIES = (
    *(Tally(outcome, {"outcome": outcome}) for outcome in PHASE_OUTCOMES),
    *(Tally(f"credited_{outcome}", {"credited": outcome}) for outcome in CREDITED),
    *(Tally(f"run_{outcome}", {"outcome__in": RAN, "trajectory__outcome": outcome}) for outcome in CREDITED),
    *(
        Tally(f"{presence}_in_{outcome}", {"presence": presence, "trajectory__outcome": outcome})
        for presence in PRESENCES
        for outcome in OUTCOMES
    ),
    *(Tally(f"fit_{word}", {"fit": word}) for word in FITS),
)
LATE_TALLIES = tuple(Tally(*tally) for tally in late_stats.LATE_TALLIES)
LATE_MEASURES = (Measure("value", "value_micro", MICRO),)
TRAJECTORY_KEY = ("request_type", "source", "project", "policy")
PHASE_KEY = ("phase", "model", "selection_method", "request_type")
SKIP_KEY = ("phase", "request_type")
BUCKETS: Mapping[str, tuple[int, int]] = {"day": (DAY_US, 0), "week": (7 * DAY_US, 4 * DAY_US)}
"""Width and offset of the buckets of a series. Weeks begin on Monday, as 1970-01-05 did."""

_OUTCOME_AT = {outcome: 1 + index for index, outcome in enumerate(OUTCOMES)}
_PHASE_AT = {tally.name: 1 + index for index, tally in enumerate(PHASE_TALLIES)}
_CREDIT_AT = {"checks": _PHASE_AT["credited_success"], "phase_outcome": 1, "run_outcome": _PHASE_AT["run_success"]}
"""Where the three tallies of each rule begin."""
_BUILD_AT = 1 + len(OUTCOMES)
_TESTS_AT = _BUILD_AT + 2
COSTED_AT = _TESTS_AT + 2
MEASURES_AT = 1 + len(TRAJECTORY_TALLIES)
PHASE_MEASURES_AT = 1 + len(PHASE_TALLIES)
WIDTH = MEASURES_AT + 2 * len(TRAJECTORY_SUMS)
PHASE_WIDTH = PHASE_MEASURES_AT + 2 * len(MEASURES)


@dataclass(slots=True)
class Summary:
    """Cells and buckets of some trajectories.

    A cell has the count, then the tallies in order, then known and sum of each measure in order.
    Addition and subtraction are exact, so the order of parts does not matter.

    - ``bucket``: day or week; the cells of ``series`` and the buckets of their durations are then
      kept too, by the start of the bucket.
    - ``marginals``: cells of further trajectories by one column of TRAJECTORY_KEY at a time, each
      column with all of them.
    - ``skip_costs``: known and sum of the cost of runs where a phase ran and where it was skipped,
      by phase and request type.
    - ``durations``: copies share its counts; ``durations_of`` is for changes.
    - ``figures``: those of earlier answers; None keeps none. Copies share them.
    """

    bucket: str | None = None
    trajectories: Cells = field(default_factory=dict)
    marginals: dict[str, Cells] = field(default_factory=dict)
    phases: Cells = field(default_factory=dict)
    series: dict[int, Cell] = field(default_factory=dict)
    durations: dict[int, defaultdict[int, int]] = field(default_factory=dict)
    skip_costs: Cells = field(default_factory=dict)
    late: Cells = field(default_factory=dict)
    late_phases: Cells = field(default_factory=dict)
    buckets: dict[str, defaultdict[int, int]] = field(
        default_factory=lambda: {m.column: defaultdict(int) for m in TRAJECTORY_MEASURES}
    )
    figures: KnownFigures | None = field(default=None, repr=False, compare=False)

    def copy(self) -> Summary:
        """Return an equal summary. A change of one does not change the other."""
        return replace(
            self,
            trajectories=_copied(self.trajectories),
            marginals={column: _copied(cells) for column, cells in self.marginals.items()},
            phases=_copied(self.phases),
            series={start: cell[:] for start, cell in self.series.items()},
            durations=self.durations.copy(),
            skip_costs=_copied(self.skip_costs),
            late=_copied(self.late),
            late_phases=_copied(self.late_phases),
            buckets={column: counts.copy() for column, counts in self.buckets.items()},
        )

    def add(self, facets: Facets, recorded_at_us: int, *, times: int = 1) -> None:
        """Add one trajectory, or subtract it with ``times=-1``."""
        _add_trajectory(self.trajectories.setdefault(facets.cell, [0] * WIDTH), facets, times)
        if self.bucket is not None:
            at_us = recorded_at_us if facets.started_at_us is None else facets.started_at_us
            start = bucket_start(at_us, self.bucket)
            _add_trajectory(self.series.setdefault(start, [0] * WIDTH), facets, times)
            if facets.duration_us is not None:
                self.durations_of(start)[bucket_of(facets.duration_us)] += times
        for buckets, value in zip(self.buckets.values(), facets.measures, strict=True):
            if value is not None:
                buckets[bucket_of(value)] += times
        self.add_phases(facets, times=times)
        for key, cell in late_stats.cells_of(facets.late, facets.phases):
            _merge_cells(self.late if len(key) == 1 else self.late_phases, {key: cell}, times)

    def add_phases(self, facets: Facets, *, times: int = 1) -> None:
        """Add the phases of one trajectory to the cells of phases alone."""
        for phase in facets.phases:
            cell = self.phases.setdefault((*phase.cell, facets.request_type), [0] * PHASE_WIDTH)
            cell[0] += times
            for at in phase_tallies(phase.outcome, phase.credited, phase.presence, phase.fit, facets.outcome):
                cell[at] += times
            _add_measures(cell, PHASE_MEASURES_AT, phase.measures, times)
            if phase.presence in PRESENCES and facets.cost_nano_usd is not None:
                costs = self.skip_costs.setdefault((phase.phase, facets.request_type), [0] * 4)
                _add_measures(costs, 2 * PRESENCES.index(phase.presence), (facets.cost_nano_usd,), times)

    def merge(self, other: Summary, *, times: int = 1) -> None:
        """Add the counts of ``other``, or subtract them with ``times=-1``."""
        _merge_cells(self.trajectories, other.trajectories, times)
        for column, cells in other.marginals.items():
            _merge_cells(self.marginals.setdefault(column, {}), cells, times)
        _merge_cells(self.phases, other.phases, times)
        _merge_cells(self.series, other.series, times)
        _merge_cells(self.skip_costs, other.skip_costs, times)
        for start, counts in other.durations.items():
            _merge_counts(self.durations_of(start), counts, times)
        _merge_cells(self.late, other.late, times)
        _merge_cells(self.late_phases, other.late_phases, times)
        for column, counts in other.buckets.items():
            _merge_counts(self.buckets[column], counts, times)

    def add_to_series(self, start: int, cell: Cell, durations: Mapping[int, int]) -> None:
        """Add the cell of some trajectories, and the buckets of their durations, to a bucket of the
        series."""
        self.series[start] = _plus(self.series[start], cell) if start in self.series else cell
        _merge_counts(self.durations_of(start), durations, 1)

    def durations_of(self, start: int) -> defaultdict[int, int]:
        """Return the buckets of durations of a bucket of the series, to be changed: a copy, since
        others may share them."""
        known = self.durations.get(start)
        self.durations[start] = own = defaultdict(int) if known is None else known.copy()
        return own

    def by_column(self) -> dict[str, Cells]:
        """Return the cells of all trajectories by each column of TRAJECTORY_KEY."""
        of_runs, found = Groups(TRAJECTORY_KEY, self.trajectories), {}
        of_runs.by(*_FEW_RUN_GROUPS)
        for column in TRAJECTORY_KEY:
            found[column] = {**self.marginals.get(column, {})}
            for value, cell in of_runs.by(column).items():
                found[column][value] = _plus(found[column][value], cell) if value in found[column] else cell
        return found

    @property
    def total(self) -> Cell:
        """Return the cell of all trajectories."""
        marginal: Cells = min(self.marginals.values(), key=len, default={})
        return total([*self.trajectories.values(), *marginal.values()], WIDTH)

    def as_json(self, credit_rule: str = "checks") -> dict[str, Any]:
        """Return the API's values, without ``window``. Unknown is None, never 0.

        Args:
            credit_rule: one of ``credit.RULES``; the rule of ``credited_success_rate`` and
                ``value_per_dollar``.
        """
        of_phases = Groups(PHASE_KEY, self.phases)
        of_phases.by(*_FEW_PHASE_GROUPS)
        phases = of_phases.total(PHASE_WIDTH)
        shown: dict[str, Any] = _trajectory_figures(self.total)
        for measure in TRAJECTORY_MEASURES:
            shown[measure.name] |= _percentiles(self.buckets[measure.column], measure.divisor)
        shown["phases"] = {
            "count": phases[0],
            "outcomes": _tallies(phases, PHASE_OUTCOMES),
            "skip_rate": _skip_rate(phases),
        }
        shown["credit_rule"] = credit_rule
        others: dict[str, Any] = {}
        figures = Recalled(self.figures)
        of_runs = figures.of("runs", _trajectory_figures)
        for column, cells in self.by_column().items():
            name = f"by_{column}"
            shown[name], others[name] = _groups(Groups((column,), cells), (column,), of_runs)
        by_rule = figures.of(credit_rule, partial(_phase_figures, credit_rule=credit_rule))
        for name, columns in PHASE_GROUPS.items():
            shown[name], others[name] = _groups(of_phases, columns, by_rule)
        skips = {key: cell + self.skip_costs.get(key, [0] * 4) for key, cell in of_phases.by(*SKIP_KEY).items()}
        of_skips = figures.of("skips", _skip_figures)
        shown["skips"], others["skips"] = _groups(Groups(SKIP_KEY, skips), SKIP_KEY, of_skips)
        for name, cells, key in (
            ("late_outcomes", self.late, late_stats.LATE_KEY),
            ("late_outcomes_by_phase_model", self.late_phases, late_stats.LATE_PHASE_KEY),
        ):
            shown[name], others[name] = _groups(Groups(key, cells), key, partial(late_stats.figures, rate=rate))
        if self.bucket is not None:
            shown["series"], others["series"] = self._series(figures)
        figures.keep()
        return shown | {"other": {name: figures for name, figures in others.items() if figures}}

    def _series(self, figures: Recalled) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
        """Return the newest MAX_GROUPS buckets, oldest first, and the sum of the older ones."""
        ordered = sorted((start, cell) for start, cell in self.series.items() if cell[0])
        older, newest = ordered[:-MAX_GROUPS], ordered[-MAX_GROUPS:]
        shown = [
            figures.of_start(start, cell, self.durations.get(start, _NO_COUNTS), _bucket_figures)
            for start, cell in newest
        ]
        return shown, _other(len(older), total([cell for _, cell in older], WIDTH), _trajectory_figures)


_NO_COUNTS: Mapping[int, int] = {}
PHASE_GROUPS: dict[str, tuple[str, ...]] = {
    "by_phase": ("phase",),
    "by_model": ("model",),
    "by_selection_method": ("selection_method",),
    "by_phase_model": ("phase", "model", "selection_method"),
}
_FEW_RUN_GROUPS = ("request_type", "source", "policy")
_FEW_PHASE_GROUPS = ("phase", "selection_method", "request_type")
"""The columns without project, and without model, of which a tenant may have thousands. The other
groupings are sums of these few groups."""


def bucket_start(at_us: int, bucket: str) -> int:
    """Return the start of the day or week of ``at_us``, in microseconds since 1970."""
    width, offset = BUCKETS[bucket]
    return at_us - (at_us - offset) % width


def _add_trajectory(cell: Cell, facets: Facets, times: int) -> None:
    tally_run(cell, facets.outcome, facets.build_passed, facets.tests_passed, times)
    if facets.outcome == "success" and facets.cost_nano_usd is not None:
        cell[COSTED_AT] += times
    _add_measures(cell, MEASURES_AT, facets.sums, times)


def tally_run(cell: Cell, outcome: str, build_passed: bool | None, tests_passed: bool | None, times: int) -> None:
    """Count runs in the tallies that words alone decide: all but the one of COSTED_AT."""
    cell[0] += times
    cell[_OUTCOME_AT[outcome]] += times
    if build_passed is not None:
        cell[_BUILD_AT if build_passed else _BUILD_AT + 1] += times
    if tests_passed is not None:
        cell[_TESTS_AT if tests_passed else _TESTS_AT + 1] += times


@cache
def phase_tallies(
    outcome: str, credited: str, presence: str | None, fit: str | None, run_outcome: str
) -> tuple[int, ...]:
    """Return the places of the tallies in which such a phase counts; a few hundred combinations."""
    names = [outcome, f"credited_{credited}", f"{presence}_in_{run_outcome}", f"fit_{fit}"]
    if outcome in RAN:
        names.append(f"run_{run_outcome}")
    return tuple(_PHASE_AT[name] for name in names if name in _PHASE_AT)


def _merge_cells(mine: dict[Any, Cell], theirs: Mapping[Any, Cell], times: int) -> None:
    for key, cell in theirs.items():
        counted = cell if times == 1 else [times * value for value in cell]
        # A copy, because ``add`` changes cells in place.
        mine[key] = _plus(mine[key], counted) if key in mine else list(counted)


def _merge_counts(mine: defaultdict[int, int], theirs: Mapping[int, int], times: int) -> None:
    for bucket, count in theirs.items():
        mine[bucket] += times * count


def _add_measures(cell: Cell, at: int, values: Iterable[Any], times: int) -> None:
    for value in values:
        if value is not None:
            cell[at] += times
            cell[at + 1] += times * value
        at += 2


def _plus(one: Cell, other: Cell) -> Cell:
    return list(map(add, one, other))


def _copied(cells: Cells) -> Cells:
    return {key: cell[:] for key, cell in cells.items()}


def _groups(
    groups: Groups, columns: tuple[str, ...], figures: Callable[[Cell], dict[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Return the groups by ``columns``, largest first, and the sum of those beyond MAX_GROUPS."""
    largest, others, rest = groups.largest(MAX_GROUPS, *columns)
    shown = [dict(zip(columns, names, strict=True)) | figures(cell) for names, cell in largest]
    return shown, _other(others, rest, figures)


def _other(groups: int, rest: Cell, figures: Callable[[Cell], dict[str, Any]]) -> dict[str, Any] | None:
    return {"groups": groups} | figures(rest) if groups else None


def _trajectory_figures(cell: Cell) -> dict[str, Any]:
    success, failure, partial, _ = cell[1:_BUILD_AT]
    build_passed, build_failed, tests_passed, tests_failed = cell[_BUILD_AT:COSTED_AT]
    costed, nano_usd = cell[COSTED_AT], cell[MEASURES_AT + 1]
    return {
        "count": cell[0],
        "outcomes": _tallies(cell, OUTCOMES),
        "success_rate": rate(success, success + failure + partial),
        "build_pass_rate": rate(build_passed, build_passed + build_failed),
        "test_pass_rate": rate(tests_passed, tests_passed + tests_failed),
        "cost_per_success_usd": nano_usd / (costed * NANO_USD) if costed else None,
    } | _measures(cell, MEASURES_AT, TRAJECTORY_SUMS)


def _bucket_figures(start: int, cell: Cell, durations: Mapping[int, int]) -> dict[str, Any]:
    figures = {"start": utc(start).date().isoformat()} | _trajectory_figures(cell)
    figures["duration_ms"] |= _percentiles(durations, 1000)
    return figures


def _phase_figures(cell: Cell, *, credit_rule: str) -> dict[str, Any]:
    credited = _rate_at(cell, _CREDIT_AT[credit_rule])
    measures = _measures(cell, PHASE_MEASURES_AT, MEASURES)
    return {
        "count": cell[0],
        "outcomes": _tallies(cell, PHASE_OUTCOMES),
        "fits": {word: cell[_PHASE_AT[f"fit_{word}"]] for word in FITS},
        "success_rate": _rate_at(cell, 1),
        "credited_success_rate": credited,
        "skip_rate": _skip_rate(cell),
        "value_per_dollar": value_per_dollar(credited["low"], measures["cost_usd"]["mean"]),
    } | measures


def _skip_figures(cell: Cell) -> dict[str, Any]:
    """Return, for runs where the phase ran and where it was skipped, how these ended and what they
    cost."""
    shown = {}
    for number, presence in enumerate(PRESENCES):
        at = _PHASE_AT[f"{presence}_in_success"]
        ended = {"runs": sum(cell[at : at + len(OUTCOMES)]), "success_rate": _rate_at(cell, at)}
        shown[presence] = ended | _measures(cell, PHASE_WIDTH + 2 * number, MEASURES[:1])
    return shown


def _rate_at(cell: Cell, at: int) -> dict[str, Any]:
    """Return the rate of three tallies: success, failure, partial."""
    return rate(cell[at], sum(cell[at : at + 3]))


def _tallies(cell: Cell, names: tuple[str, ...]) -> dict[str, int]:
    return dict(zip(names, cell[1 : 1 + len(names)], strict=True))


def _skip_rate(cell: Cell) -> float | None:
    return cell[_PHASE_AT["skipped"]] / cell[0] if cell[0] else None


def _measures(cell: Cell, at: int, measures: tuple[Measure, ...]) -> dict[str, Any]:
    shown = {}
    for measure in measures:
        known, total = cell[at : at + 2]
        shown[measure.name] = {
            "known": known,
            "sum": in_unit(total, measure.divisor) if known else None,
            "mean": total / (known * measure.divisor) if known else None,
        }
        at += 2
    return shown


def in_unit(value: int, divisor: int) -> float | int:
    return value // divisor if value % divisor == 0 else value / divisor


def _percentiles(buckets: Mapping[int, int], divisor: int) -> dict[str, float | None]:
    known = sum(buckets.values())
    if not known:
        return {f"p{p}": None for p in _PERCENTILES}
    ordered = sorted(buckets)
    # How many values are in each bucket or below it.
    counts = list(accumulate(map(buckets.__getitem__, ordered)))
    at_ranks = (bisect_left(counts, -(-p * known // 100)) for p in _PERCENTILES)
    return {f"p{p}": bucket_value(ordered[at]) / divisor for p, at in zip(_PERCENTILES, at_ranks, strict=True)}


_PERCENTILES = (50, 90, 95, 99)
