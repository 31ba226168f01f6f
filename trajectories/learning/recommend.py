"""Recommendations: what to do at a phase, with the probability of that choice.

Thompson sampling on Beta posteriors (Thompson, Biometrika 25, 1933) with a weight on cost. The
share of draws in which an action is best is its probability, and the choice is drawn from these
probabilities. So the propensity is exact, whatever the number of draws.
"""

from __future__ import annotations

import hashlib
import random
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

import orjson

from trajectories.domain.choice_sums import Cells
from trajectories.domain.choices import RAN, RECOMMENDATION
from trajectories.domain.contract_types import MAX_INT
from trajectories.domain.text import counted
from trajectories.learning.actions import Action, Scan, actions_of
from trajectories.learning.cells import learned
from trajectories.learning.context import RecommendationRequest
from trajectories.learning.estimates import PhaseEstimates
from trajectories.learning.posterior import DRAWS
from trajectories.services.read_shares import ReadShares
from trajectories.storage.store import Store

METHOD: Final = "thompson-sampling"


class Valued(NamedTuple):
    """An action with its value: success less the cost in units of success.

    - ``confidence``: the share of draws in which it is the best eligible action.
    - ``probability``: with which it is chosen.
    """

    action: Action
    value: float
    draws: Sequence[float]
    confidence: float = 0.0
    probability: float = 0.0


def recommend(store: Store, tenant: str, request: RecommendationRequest) -> dict[str, Any]:
    """Return the answer of ``POST /v1/agent/recommendations``
    (``learning_responses.Recommendation``).

    Raises:
        TooManyReads: 429; as ``cells.learned``.
    """
    known = learned(store, tenant)
    seed = secrets.randbelow(MAX_INT) if request.seed is None else request.seed
    with store.part(ReadShares).of(tenant) as share:
        answer = decide(request, known.by_phase.get(request.group, {}), store.now_us(), seed, share.scan)
    answer["complete"] = known.is_complete
    digest = hashlib.blake2b(orjson.dumps([tenant, answer, request.model_dump()]), digest_size=16).digest()
    identity = str(UUID(bytes=digest, version=5))
    if answer["choice"] is not None:
        answer["record"] = _record(answer, identity)
    return {"recommendation_id": identity, **answer}


def decide(request: RecommendationRequest, cells: Cells, now_us: int, seed: int, scan: Scan = iter) -> dict[str, Any]:
    """Return the answer for these cells, without id. The same arguments give the same answer.

    Args:
        scan: yields what it is given, and may let others work meanwhile.
    """
    estimates = PhaseEstimates(request, cells, now_us)
    valued = value_actions(request, actions_of(request, estimates, scan))
    eligible = [one for one in valued if one.action.refusal is None]
    choice = _drawn(eligible, seed)
    best = max(eligible, key=lambda one: one.value, default=None)
    models = [one for one in valued if one.action.model is not None and one.action.then is None]
    plans = [one for one in valued if one.action.then is not None]
    skips = [one for one in valued if one.action.model is None]
    by_model = _by_model(valued)
    return {
        "phase": request.group,
        "request_type": request.request_type,
        "project": request.project,
        "method": METHOD,
        "seed": seed,
        "draws": DRAWS,
        "choice": None if choice is None else _choice(choice, by_model),
        "best": None if best is None else _choice(best, by_model) | {"confidence": best.confidence},
        "candidates": [
            {"model": one.action.model, "probability": by_model[one.action.model]} | _figures(one) for one in models
        ],
        "plans": [
            {"model": one.action.model, "escalate_to": one.action.then, "probability": one.probability} | _figures(one)
            for one in plans
        ],
        "skip": None
        if not skips
        else {"probability": skips[0].probability} | _figures(skips[0]) | _runs_with(estimates),
        "reasoning": _reasoning(request, choice, best, valued),
    }


def value_actions(request: RecommendationRequest, actions: Sequence[Action]) -> list[Valued]:
    """Return the actions with their values and the probabilities with which each is chosen.

    The value is the success less the cost in units of success. Refused actions have probability 0.
    """
    price = _price(request, actions)
    dearest = max((action.cost_usd for action in actions if action.cost_usd is not None), default=0.0)
    found = []
    for action in actions:
        # An action of unknown cost is valued as the dearest one, so that it does not look free.
        penalty = price * (dearest if action.cost_usd is None else action.cost_usd)
        mean = action.mean if action.model is not None else sum(action.draws) / len(action.draws)
        found.append(Valued(action, mean - penalty, [p - penalty for p in action.draws] if penalty else action.draws))
    shares = _shares([one.draws for one in found if one.action.refusal is None])
    even, share_of = request.explore / max(1, len(shares)), iter(shares)
    return [
        one
        if one.action.refusal is not None
        else one._replace(confidence=(share := next(share_of)), probability=(1 - request.explore) * share + even)
        for one in found
    ]


def _shares(draws: Sequence[Sequence[float]]) -> list[float]:
    """Return the share of draws in which each action is best. Those that are best together, as often
    a plan and its second model alone, have equal parts of the draw."""
    wins = [0.0] * len(draws)
    for row in zip(*draws, strict=True):
        most = max(row)
        if (together := row.count(most)) == 1:
            wins[row.index(most)] += 1
        else:
            for at, value in enumerate(row):
                if value == most:
                    wins[at] += 1 / together
    return [count / DRAWS for count in wins]


def _price(request: RecommendationRequest, actions: Sequence[Action]) -> float:
    """Return the success that one USD takes away."""
    if request.success_value_usd is not None:
        return 1.0 / request.success_value_usd
    costs = [one.cost_usd for one in actions if one.then is None and one.cost_usd]
    return request.cost_weight / max(costs) if costs else 0.0


def _drawn(eligible: Sequence[Valued], seed: int) -> Valued | None:
    if not eligible:
        return None
    rng = random.Random(seed)  # noqa: S311  a reproducible choice, no secret
    return rng.choices(eligible, [one.probability for one in eligible])[0]


def _by_model(valued: Sequence[Valued]) -> dict[str | None, float]:
    """Return the probability that each model is asked first; None is skipping."""
    chances: dict[str | None, float] = {}
    for one in valued:
        chances[one.action.model] = min(1.0, chances.get(one.action.model, 0.0) + one.probability)
    return chances


def _choice(one: Valued, by_model: Mapping[str | None, float]) -> dict[str, Any]:
    return {
        "action": "skip" if one.action.model is None else "run",
        "model": one.action.model,
        "escalate_to": one.action.then,
        "probability": one.probability,
        "propensity": by_model[one.action.model],
        "expected_success": one.action.mean,
        "expected_cost_usd": one.action.cost_usd,
        "value": one.value,
    }


def _figures(one: Valued) -> dict[str, Any]:
    action = one.action
    return {
        "success": {"mean": action.mean, "low": action.interval[0], "high": action.interval[1]},
        "samples": action.estimate.all,
        "own_samples": action.estimate.own,
        "expected_cost_usd": action.cost_usd,
        "value": one.value,
        "eligible": action.refusal is None,
        "reason": action.refusal,
    }


def _runs_with(estimates: PhaseEstimates) -> dict[str, Any]:
    ran = estimates.of_runs(RAN)
    low, high = ran.posterior.interval()
    return {"success_where_ran": {"mean": ran.posterior.mean, "low": low, "high": high}, "ran_samples": ran.all}


def _reasoning(
    request: RecommendationRequest, choice: Valued | None, best: Valued | None, valued: Sequence[Valued]
) -> str:
    if choice is None or best is None:
        reasons = [f"{one.action.instruction}: {one.action.refusal}" for one in valued]
        return f"No action keeps the rules. {reasons[0]}"
    action, samples = choice.action, choice.action.estimate.all
    cost = "at an unknown cost" if action.cost_usd is None else f"for {action.cost_usd:.4g} USD"
    outcomes = counted(samples, "known outcome")
    if action.then is not None:
        outcomes += f" of {action.then} after {action.model} failed"
    success = "success of the run" if action.model is None else "credited success"
    said = f"{action.instruction}: {success} {action.mean:.0%} expected {cost}, from {outcomes}"
    return (
        f"{said}."
        if choice is best
        else f"{said}; this is to learn more, and the best so far is to {best.action.name}."
    )


def _record(answer: Mapping[str, Any], identity: str) -> dict[str, Any]:
    """Return the fields of the phase that record this decision."""
    choice = answer["choice"]
    skip = answer["skip"]
    runs = 1.0 if skip is None else 1.0 - skip["probability"]

    def given_run(probability: float) -> float:
        return min(1.0, probability / runs) if runs > 0 else 0.0

    fields: dict[str, Any] = {
        "model_selection_method": METHOD,
        "selection_rule": "recommendation",
        "candidates": [
            {
                "model": one["model"],
                "score": one["value"],
                "probability": given_run(one["probability"]),
                "eligible": one["eligible"] or one["probability"] > 0,
            }
            for one in answer["candidates"]
        ],
        "exploration": {"strategy": METHOD, "samples": DRAWS, "seed": answer["seed"]},
        "metadata": {RECOMMENDATION: {"id": identity, "model": choice["model"], "escalate_to": choice["escalate_to"]}},
    }
    if choice["model"] is not None:
        fields |= {"model": choice["model"], "selection_probability": given_run(choice["propensity"])}
    if skip is not None:
        fields["keep_probability"] = runs
    return fields
