"""Estimates of actions at a phase: success, cost and value, from the sums of choices."""

from __future__ import annotations

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
            total = _added(one for at, one in self._groups.items() if (at.kind, at.model) == (MODEL, candidate.model))
            if not total.metered:
                total = self._of_any_model
            if total.metered:
                tokens = (total.input_tokens * candidate.input_usd_per_mtok) + (
                    total.output_tokens * candidate.output_usd_per_mtok
                )
                return tokens / total.metered / MILLION
        of_model = {at: one for at, one in self._groups.items() if at.kind == MODEL and at.model == candidate.model}
        for level in (2, 1, 0):
            groups = {at: one for at, one in of_model.items() if at.level >= level}
            for total in (_added(one for at, one in groups.items() if at.after == after), _added(groups.values())):
                if total.costs:
                    return total.cost_nano_usd / total.costs / NANO_USD
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

    @cached_property
    def _groups(self) -> Mapping[_At, _Group]:
        """Add the cells up to what estimates depend on: by level, over weeks."""
        request, by_week = self.request, dict[tuple[_At, int], Sums]()
        models = {candidate.model for candidate in request.candidates}
        if request.floor is not None and request.floor.model is not None:
            models.add(request.floor.model)
        for level, found in enumerate(self._phase_cells.levels(request.request_type, request.project, models)):
            for choice, sums in found.items():
                place = _At(choice.kind, choice.model, choice.after, level), choice.week
                by_week[place] = by_week[place].plus(sums) if place in by_week else sums
        groups: dict[_At, _Group] = {}
        # Sorted, so that the last bits of sums, which seed the draws, do not depend on the order of
        # records.
        for at, week in sorted(by_week, key=itemgetter(1)):
            weight = self._weight(week)
            if weight > 0:
                groups.setdefault(at, _Group()).count(by_week[at, week], weight)
        places = sorted(groups, key=lambda at: (at.kind, at.model or "", at.after or "", at.level))
        return {at: groups[at] for at in places}

    @cached_property
    def _of_any_model(self) -> _Group:
        total = _Group()
        for (kind, week), sums in sorted(self._phase_cells.by_week.items()):
            if kind == MODEL and (weight := self._weight(week)) > 0:
                total.count(sums, weight)
        return total

    def _estimate(self, kind: str, model: str | None, after: str | None) -> Estimate:
        asked = kind, model, after
        if asked not in self._remembered:
            groups = {at: one for at, one in self._groups.items() if at.kind == kind and at.model == model}
            same = {at: one for at, one in groups.items() if at.after == after}
            # After a failure, other models' failures are the wider levels; a first choice has none.
            others = {at: one for at, one in groups.items() if after is not None and at.after not in (None, after)}
            levels = [*_levels(others), *_levels(same)]
            own = sum(one.known for at, one in same.items() if at.level == 2)
            known, name = sum(one.known for one in same.values()), f"{kind} {model} {after}"
            self._remembered[asked] = Estimate(posterior(levels), own, known, name)
        return self._remembered[asked]


class _At(NamedTuple):
    """``level``: 2 for the same project and type of request, 1 for the same type, 0 for others."""

    kind: str
    model: str | None
    after: str | None
    level: int


@dataclass(slots=True)
class _Group:
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

    def count(self, sums: Sums, weight: float) -> None:
        _, known, score, costs, cost_nano_usd, metered, input_tokens, output_tokens = sums
        self.successes += weight * score / 2
        self.weight += weight * known
        self.known += known
        self.costs += costs
        self.cost_nano_usd += cost_nano_usd
        self.metered += metered
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens


def _added(groups: Iterable[_Group]) -> _Group:
    total = _Group()
    for one in groups:
        for name in _Group.__slots__:
            setattr(total, name, getattr(total, name) + getattr(one, name))
    return total


def _levels(groups: Mapping[_At, _Group]) -> Iterator[Evidence]:
    for level in (0, 1, 2):
        total = _added(one for at, one in groups.items() if at.level == level)
        yield Evidence(total.successes, total.weight - total.successes)
