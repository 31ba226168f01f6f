"""Estimates of actions at a phase: success, cost and value, from the sums of choices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from trajectories.domain.clock import DAY_US
from trajectories.domain.query import parse_query
from trajectories.domain.record import NANO_USD
from trajectories.domain.stats import bucket_start
from trajectories.learning.cells import Cells, Key, Sums
from trajectories.learning.choices import MODEL
from trajectories.learning.context import CandidateModel, RecommendationRequest
from trajectories.learning.posterior import Evidence, Posterior, draws, posterior

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
    def draws(self) -> tuple[float, ...]:
        return draws(*self.posterior, self.name)


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
            own = [key for key, _ in self._rows if key.model == candidate.model and self.cells[key].metered]
            for keys in (own, [key for key, _ in self._rows if key.kind == MODEL]):
                total = _total(self.cells[key] for key in keys)
                if total.metered:
                    tokens = (total.input_tokens * candidate.input_usd_per_mtok) + (
                        total.output_tokens * candidate.output_usd_per_mtok
                    )
                    return tokens / total.metered / MILLION
        rows = [key for key, _ in self._rows if key.kind == MODEL and key.model == candidate.model]
        for level in (2, 1, 0):
            for keys in ([key for key in rows if key.after == after], rows):
                total = _total(self.cells[key] for key in keys if self._level(key) >= level)
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
            # Records below the hot cache have no week of their own; they count as of this one, and
            # their limit bounds them.
            age_days = 0.0 if week == 0 or week > this_week else (this_week - week) / DAY_US
            return 1.0 if request.half_life_days is None else 0.5 ** (age_days / request.half_life_days)

        return weight

    @cached_property
    def _rows(self) -> list[tuple[Key, float]]:
        weighted = ((key, self._weight(key.week)) for key in self.cells)
        return [(key, weight) for key, weight in weighted if weight > 0]

    def _level(self, key: Key) -> int:
        """Return 2 for the same project and type, 1 for the same type, 0 for others."""
        request = self.request
        if request.request_type is not None and key.request_type != request.request_type:
            return 0
        return 2 if request.project is None or key.project == request.project else 1

    def _estimate(self, kind: str, model: str | None, after: str | None) -> Estimate:
        asked = kind, model, after
        if asked not in self._remembered:
            rows = [row for row in self._rows if row[0].kind == kind and row[0].model == model]
            name = f"{kind} {model} {after}"
            self._remembered[asked] = self._of_rows(rows, after, name)
        return self._remembered[asked]

    def _of_rows(self, rows: list[tuple[Key, float]], after: str | None, name: str) -> Estimate:
        same = [row for row in rows if row[0].after == after]
        # After a failure, other models' failures are the wider levels; a first choice has none.
        others = [row for row in rows if row[0].after not in (None, after)] if after is not None else []
        levels = [*self._levels(others), *self._levels(same)]
        own = _total(self.cells[key] for key, _ in same if self._level(key) == 2).known
        return Estimate(posterior(levels), own, _total(self.cells[key] for key, _ in same).known, name)

    def _levels(self, rows: list[tuple[Key, float]]) -> Iterator[Evidence]:
        for level in (0, 1, 2):
            successes = known = 0.0
            for key, weight in rows:
                if self._level(key) == level:
                    successes += weight * self.cells[key].score / 2
                    known += weight * self.cells[key].known
            yield Evidence(successes, known - successes)


def _total(sums: Iterable[Sums]) -> Sums:
    total = Sums()
    for one in sums:
        total = total.plus(one)
    return total
