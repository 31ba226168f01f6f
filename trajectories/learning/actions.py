"""The actions of a decision, each with draws of its success and value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import permutations
from typing import Any, TypeAlias

from trajectories.domain.choices import RAN, SKIPPED
from trajectories.learning.context import QualityFloor, RecommendationRequest
from trajectories.learning.estimates import Estimate, PhaseEstimates
from trajectories.learning.posterior import Drawn, interval_of

Scan: TypeAlias = Callable[[Iterable[Any]], Iterator[Any]]


@dataclass(frozen=True, slots=True)
class Action:
    """Run a model, run a plan of two, or skip (``model`` is None).

    - ``draws``: of the success of the phase; of the run where the phase is skipped.
    - ``mean``: the mean of the posterior. ``interval``: its equal-tailed 95 % interval, of a plan
      that of its draws.
    - ``cost_usd``: expected. ``worst_usd``: with the second model of a plan.
    - ``estimate``: of the model, of the second one after the first in a plan, or of runs that skip.
    - ``refusal``: why it may not be chosen, or None.
    """

    model: str | None
    then: str | None
    draws: Sequence[float]
    mean: float
    interval: tuple[float, float]
    cost_usd: float | None
    worst_usd: float | None
    estimate: Estimate
    refusal: str | None = None

    @property
    def name(self) -> str:
        if self.model is None:
            return "skip the phase"
        return f"use {self.model}" + ("" if self.then is None else f", then {self.then} after a failed check")

    @property
    def instruction(self) -> str:
        return self.name[0].upper() + self.name[1:]


def actions_of(request: RecommendationRequest, estimates: PhaseEstimates, scan: Scan = iter) -> list[Action]:
    """Return the actions of a decision: models in the order given, plans, skip.

    A plan's second model is dearer than its first, as far as both costs are known. After a failure
    in this run there are no plans: the second model is chosen now.
    """
    after = request.after
    singles = [_single(request, estimates, at, after) for at in range(len(request.candidates))]
    found = list(singles)
    if request.allow_escalation and after is None:
        found += _plans(request, estimates, singles, scan)
    if request.allow_skip:
        found.append(_skip(estimates, singles))
    by_model = {action.model: action for action in singles}
    return [_checked(action, request, by_model, estimates, after) for action in found]


def _single(request: RecommendationRequest, estimates: PhaseEstimates, at: int, after: str | None) -> Action:
    candidate = request.candidates[at]
    estimate, cost = estimates.success(candidate.model, after), estimates.cost_usd(candidate, after)
    posterior = estimate.posterior
    return Action(candidate.model, None, estimate.draws, posterior.mean, posterior.interval(), cost, cost, estimate)


def _plans(
    request: RecommendationRequest, estimates: PhaseEstimates, singles: Sequence[Action], scan: Scan
) -> Iterator[Action]:
    candidates = {candidate.model: candidate for candidate in request.candidates}
    for first, second in scan(permutations(singles, 2)):
        if first.cost_usd is not None and second.cost_usd is not None and first.cost_usd >= second.cost_usd:
            continue
        assert first.model is not None and second.model is not None  # noqa: S101, PT018  for the type checker
        estimate = estimates.success(second.model, first.model)
        more = estimates.cost_usd(candidates[second.model], first.model)
        known = first.cost_usd is not None and more is not None
        drawn, mean, interval = _plan(*(one.drawn_from for one in (first.estimate, estimate, second.estimate)))
        yield Action(
            first.model,
            second.model,
            drawn,
            mean,
            interval,
            (first.cost_usd or 0) + (1 - first.mean) * (more or 0) if known else None,
            (first.cost_usd or 0) + (more or 0) if known else None,
            estimate,
        )


@lru_cache(maxsize=512)  # global because it is a pure function; bounded, 8 MB; needs no reset
def _plan(first: Drawn, after: Drawn, alone: Drawn) -> tuple[Sequence[float], float, tuple[float, float]]:
    """Return draws, mean and interval of the success of a plan, by those of its parts."""
    high = after.posterior.interval()[1]
    drawn = _either(zip(first.draws, after.draws, alone.draws, strict=True), high)
    (mean,) = _either([(first.posterior.mean, after.posterior.mean, alone.posterior.mean)], high)
    return drawn, mean, interval_of(sorted(drawn))


def _either(parts: Iterable[tuple[float, float, float]], high: float) -> list[float]:
    """Return the successes of a plan, by those of its first model, of its second one after a failure,
    and of that one alone.

    A plan solves what its second model solves alone, unless the first one's failure spoils it
    (Fréchet's bound). The bound holds up to ``high``, the most that the second model's success after
    a failure may be: outcomes that show a lower one count more.
    """
    # Without calls of min and max, since there are 512 for each of up to 380 plans.
    return [
        both
        if (both := first + (1 - first) * after) >= alone or both >= (most := first + (1 - first) * high)
        else (alone if alone < most else most)
        for first, after, alone in parts
    ]


def _skip(estimates: PhaseEstimates, singles: Sequence[Action]) -> Action:
    """Return the action that skips the phase.

    Runs that skipped were often the easy ones, so their success is compared with that of runs in
    which the phase ran, and the difference is added to that of the best model.
    """
    skipped, ran = estimates.of_runs(SKIPPED), estimates.of_runs(RAN)
    best = [max(drawn) for drawn in zip(*(action.draws for action in singles), strict=True)]
    changed = zip(best, skipped.draws, ran.draws, strict=True)
    drawn = [min(1.0, max(0.0, p + without - with_)) for p, without, with_ in changed]
    posterior = skipped.posterior
    return Action(None, None, drawn, posterior.mean, posterior.interval(), 0.0, 0.0, skipped)


def _checked(
    action: Action,
    request: RecommendationRequest,
    by_model: Mapping[str | None, Action],
    estimates: PhaseEstimates,
    after: str | None,
) -> Action:
    refusal = _refusal(action, request)
    if refusal is None and request.floor is not None:
        refusal = _below_floor(action, request.floor, estimates, after)
    if refusal is None:
        return action
    return replace(action, refusal=refusal)


def _refusal(action: Action, request: RecommendationRequest) -> str | None:
    if action.model is None and not action.estimate.all:
        return "No run with a known outcome has skipped this phase."
    if action.estimate.all < request.min_samples:
        return f"{action.estimate.all} known outcomes, and min_samples is {request.min_samples}."
    if request.budget_usd is None:
        return None
    if action.worst_usd is None:
        return "Its cost is unknown, and there is a budget; give cost_usd."
    if action.worst_usd > request.budget_usd:
        return f"It may cost {action.worst_usd:.4g} USD, and the budget is {request.budget_usd:.4g} USD."
    return None


def _below_floor(action: Action, floor: QualityFloor, estimates: PhaseEstimates, after: str | None) -> str | None:
    if floor.model is not None:
        if action.model == floor.model:
            return None  # alone or with a second model, it is as good as itself
        least: Sequence[float] = estimates.success(floor.model, after).draws
    else:
        least = [floor.success or 0.0] * len(action.draws)
    kept = sum(p >= q - floor.margin for p, q in zip(action.draws, least, strict=True)) / len(action.draws)
    if kept >= floor.confidence:
        return None
    than = f"as good as {floor.model}" if floor.model is not None else f"at a success of {floor.success:.3g}"
    return f"It is {than} with {kept:.0%}, and {floor.confidence:.0%} are asked for."
