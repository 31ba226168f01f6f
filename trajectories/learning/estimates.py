"""Estimates of actions at a phase: success, cost and value, from the sums of choices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter
from typing import NamedTuple

from trajectories.domain.choice_sums import Cells, PhaseCells, Sums
from trajectories.domain.choices import MODEL
from trajectories.domain.clock import DAY_US
from trajectories.domain.query import parse_query
from trajectories.domain.record import NANO_USD
from trajectories.domain.stats import bucket_start
from trajectories.learning.context import CandidateModel, RecommendationRequest
from trajectories.learning.posterior import Drawn, Evidence, Posterior, posterior

MILLION = 1_000_000
Weight = Callable[[int], float]


class Estimate(NamedTuple):
    """The posterior of a success rate, and the known outcomes behind it.

    ``own``: outcomes of the same project and type of request. ``all``: outcomes of the phase,
    those of other projects and types included. Counts are before decay.
    """

    posterior: Posterior
    own: int
    all: int
    name: str

    @property
    def drawn_from(self) -> Drawn:
        return Drawn(self.posterior, self.name)

    @property
    def draws(self) -> tuple[float, ...]:
        return self.drawn_from.draws


@dataclass(frozen=True)
class PhaseEstimates:
    """Estimates for one decision."""

    request: RecommendationRequest
    cells: Cells
    now_us: int
    _remembered: dict[tuple[str, str | None, str | None], Estimate] = field(default_factory=dict)

    def success(self, model: str, after: str | None) -> Estimate:
        """Return the success rate of a model at the phase, ``after`` another one has failed there."""
        return self._estimate(MODEL, model, after)

    def of_runs(self, kind: str) -> Estimate:
        """Return the success rate of runs in which the phase RAN, or was SKIPPED."""
        return self._estimate(kind, None, None)

    def cost_usd(self, candidate: CandidateModel, after: str | None = None) -> float | None:
        """Return the expected cost of the phase with a model: given, by price, or the mean of what
        is recorded at the narrowest level that has any."""
        if candidate.cost_usd is not None:
            return candidate.cost_usd
        if candidate.input_usd_per_mtok is not None and candidate.output_usd_per_mtok is not None:
            total = _added(self._of(MODEL, candidate.model).values())
            if not total.metered:
                total = self._of_any_model
            if total.metered:
                tokens = (total.input_tokens * candidate.input_usd_per_mtok) + (
                    total.output_tokens * candidate.output_usd_per_mtok
                )
                return tokens / total.metered / MILLION
        of_model = self._of(MODEL, candidate.model).items()
        for level in (2, 1, 0):
            narrow = [(at, one) for at, one in of_model if at.level == level]
            for groups in ([one for at, one in narrow if at.after == after], [one for _, one in narrow]):
                if costs := sum(one.costs for one in groups):
                    return sum(one.cost_nano_usd for one in groups) / costs / NANO_USD
        return None

    @cached_property
    def _weight(self) -> Weight:
        request, this_week = self.request, bucket_start(self.now_us, "week")
        given = {} if request.since is None else {"since": request.since}
        bounds = parse_query(given, self.now_us).on_position
        since_us = bucket_start(bounds[0].value, "week") if bounds else 0

        def weight(week: int) -> float:
            if week < since_us:
                return 0.0
            age_days = 0.0 if week > this_week else (this_week - week) / DAY_US
            return 1.0 if request.half_life_days is None else 0.5 ** (age_days / request.half_life_days)

        return weight

    @cached_property
    def _phase_cells(self) -> PhaseCells:
        cells = self.cells
        return cells if isinstance(cells, PhaseCells) else PhaseCells(self.request.group).plus(cells.items())

    def _of(self, kind: str, model: str | None) -> Mapping[_At, _Group]:
        return self._groups.get((kind, model), {})

    @cached_property
    def _groups(self) -> Mapping[tuple[str, str | None], Mapping[_At, _Group]]:
        """Add the cells up to what estimates depend on, over weeks: by kind and model, and then by
        what failed before and level."""
        request, by_week = self.request, dict[tuple[str, str | None, _At, int], Sums]()
        models = {candidate.model for candidate in request.candidates}
        if request.floor is not None and request.floor.model is not None:
            models.add(request.floor.model)
        for level, cells in enumerate(self._phase_cells.levels(request.request_type, request.project, models)):
            for choice, sums in cells.items():
                place = choice.kind, choice.model, _At(choice.after, level), choice.week
                by_week[place] = by_week[place].plus(sums) if place in by_week else sums
        found: dict[tuple[str, str | None], dict[_At, list[_Group]]] = defaultdict(lambda: defaultdict(list))
        # Sorted, so that the last bits of sums, which seed the draws, do not depend on the order of
        # records.
        for place in sorted(by_week, key=itemgetter(3)):
            kind, model, at, week = place
            weight = self._weight(week)
            if weight > 0:
                found[kind, model][at].append(_weighted(by_week[place], weight))
        return {of: {at: _added(groups[at]) for at in sorted(groups, key=_order)} for of, groups in found.items()}

    @cached_property
    def _of_any_model(self) -> _Group:
        weeks = (
            (sums, self._weight(week))
            for (kind, week), sums in sorted(self._phase_cells.by_week.items())
            if kind == MODEL
        )
        return _added(_weighted(sums, weight) for sums, weight in weeks if weight > 0)

    def _estimate(self, kind: str, model: str | None, after: str | None) -> Estimate:
        asked = kind, model, after
        if asked not in self._remembered:
            groups = self._of(kind, model).items()
            same = [(at.level, one) for at, one in groups if at.after == after]
            # After a failure, other models' failures are the wider levels; a first choice has none.
            others = [(at.level, one) for at, one in groups if after is not None and at.after not in (None, after)]
            levels = [*_levels(others), *_levels(same)]
            own = sum(one.known for level, one in same if level == 2)
            known, name = sum(one.known for _, one in same), f"{kind} {model} {after}"
            self._remembered[asked] = Estimate(posterior(levels), own, known, name)
        return self._remembered[asked]


class _At(NamedTuple):
    """The model that failed before, and the level: 2 for the same project and type of request, 1 for
    the same type, 0 for others."""

    after: str | None
    level: int


def _order(at: _At) -> tuple[str, int]:
    return at.after or "", at.level


class _Group(NamedTuple):
    """Sums of cells of one level; ``successes`` and ``weight`` are those of known outcomes after
    decay."""

    successes: float = 0.0
    weight: float = 0.0
    known: int = 0
    costs: int = 0
    cost_nano_usd: int = 0
    metered: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


def _weighted(sums: Sums, weight: float) -> _Group:
    _, known, score, *others = sums
    return _Group(weight * score / 2, weight * known, known, *others)


def _added(groups: Iterable[_Group]) -> _Group:
    return _Group(*map(sum, zip(*groups, strict=True)))


def _levels(groups: Iterable[tuple[int, _Group]]) -> Iterator[Evidence]:
    found = [[0.0, 0.0] for _ in range(3)]
    for level, one in groups:
        found[level][0] += one.successes
        found[level][1] += one.weight
    for successes, weight in found:
        yield Evidence(successes, weight - successes)
