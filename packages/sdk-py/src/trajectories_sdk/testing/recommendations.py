"""Recommendations of the test server: planned by a test, else by chance. It has learned nothing."""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from trajectories_sdk.advising import ALERTS, EVALUATIONS, RECOMMENDATIONS
from trajectories_sdk.testing.refusals import Refusal

LEARNING: Final = (RECOMMENDATIONS, EVALUATIONS, ALERTS)
METHOD: Final = "thompson-sampling"
_DRAWS: Final = 512
_UNKNOWN: Final = {"mean": 0.5, "low": 0.025, "high": 0.975}


def learning_answer(path: str, body: bytes, plans: deque[str]) -> dict[str, Any]:
    """Return the answer of one of LEARNING. Policies are not evaluated, and there are no alerts."""
    if path == RECOMMENDATIONS:
        return recommendation(json.loads(body), plans)
    if path == ALERTS:
        return {"weeks": 4, "alerts": [], "recommendations": [], "complete": True}
    return {
        "estimand": json.loads(body).get("estimand", "decision"),
        "runs": 0,
        "decisions": 0,
        "left_out": {},
        "logged_value": None,
        "covered": None,
        "overlap": None,
        "estimates": [],
        "exact": None,
        "refusal": "The test server evaluates no policies.",
        "complete": True,
    }


def recommendation(body: Mapping[str, Any], plans: deque[str]) -> dict[str, Any]:
    """Return the answer to a request.

    Args:
        plans: models to recommend with probability 1, one an answer; empty: each candidate is
            equally likely.

    Raises:
        Refusal: 400; there are no candidates, or the planned model is none of them.
    """
    models: Sequence[str] = [one["model"] for one in body.get("candidates") or ()]
    if not models or "phase" not in body:
        raise Refusal(400, "invalid_input", "phase and candidates are required.")
    planned = plans.popleft() if plans else None
    if planned is not None and planned not in models:
        raise Refusal(400, "invalid_input", f"The planned model {planned!r} is not a candidate.")
    seed = body.get("seed") or 0
    chosen = planned or random.Random(seed).choice(models)  # noqa: S311  a test server
    chances = {model: 1 / len(models) if planned is None else float(model == planned) for model in models}
    identity = str(UUID(int=seed + 1))
    action = {
        "action": "run",
        "model": chosen,
        "escalate_to": None,
        "probability": chances[chosen],
        "propensity": chances[chosen],
        "expected_success": 0.5,
        "expected_cost_usd": None,
        "value": 0.5,
    }
    figures = {
        "success": _UNKNOWN,
        "samples": 0,
        "own_samples": 0,
        "expected_cost_usd": None,
        "value": 0.5,
        "eligible": True,
        "reason": None,
    }
    return {
        "recommendation_id": identity,
        "phase": body["phase"],
        "request_type": body.get("request_type"),
        "project": body.get("project"),
        "method": METHOD,
        "seed": seed,
        "draws": _DRAWS,
        "choice": action,
        "best": action | {"confidence": chances[chosen]},
        "candidates": [{"model": model, "probability": chances[model], **figures} for model in models],
        "plans": [],
        "skip": None,
        "reasoning": f"Use {chosen}: the test server has no outcomes.",
        "complete": True,
        "record": _record(chances, chosen, seed, identity),
    }


def _record(chances: Mapping[str, float], chosen: str, seed: int, identity: str) -> dict[str, Any]:
    return {
        "model_selection_method": METHOD,
        "selection_rule": "recommendation",
        "candidates": [
            {"model": model, "score": 0.5, "probability": chance, "eligible": True} for model, chance in chances.items()
        ],
        "exploration": {"strategy": METHOD, "samples": _DRAWS, "seed": seed},
        "metadata": {"trajectories:recommendation": {"id": identity, "model": chosen, "escalate_to": None}},
        "model": chosen,
        "selection_probability": chances[chosen],
    }
