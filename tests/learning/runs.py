"""Runs that tests of learning record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tests.examples import body, phase
from trajectories.domain.choice_sums import Key, Sums
from trajectories.domain.choices import MODEL
from trajectories.learning.context import RecommendationRequest

LATEST = 2**60
"""A week after every other one, whose outcomes count fully."""


def request(*models: str, **fields: Any) -> RecommendationRequest:
    """Return a request with these candidates at the phase ``implement``."""
    given = {"phase": "implement", "candidates": [{"model": model} for model in models], "seed": 1} | fields
    return RecommendationRequest.model_validate(given)


def cells(
    counts: Mapping[tuple[str, str | None], tuple[int, int, float]], *, project: str | None = None, week: int = LATEST
) -> dict[Key, Sums]:
    """Return cells of (model, after): successes, known outcomes, cost of each in USD."""
    return {
        Key(MODEL, "bugfix", project, "implement", model, after, week): Sums(
            known, known, 2 * successes, known, round(known * cost * 1e9)
        )
        for (model, after), (successes, known, cost) in counts.items()
    }


def attempts(*tried: tuple[str, str, float], **fields: Any) -> dict[str, Any]:
    """Return a run with one phase, which has these attempts: model, outcome, cost."""
    made = [{"model": model, "outcome": outcome, "cost_usd": cost} for model, outcome, cost in tried]
    last = made[-1]
    return body(
        request_type="bugfix",
        phases=[
            phase(
                phase_name="implement",
                model=last["model"],
                requested_model=made[0]["model"],
                attempts=made,
                outcome=last["outcome"],
                cost_usd=sum(one["cost_usd"] for one in made),
            )
        ],
        tests_passed=last["outcome"] == "success",
        **fields,
    )


def many(model: str, successes: int, failures: int, cost: float = 0.01, **fields: Any) -> Iterable[dict[str, Any]]:
    """Yield runs of one model."""
    for at in range(successes + failures):
        yield attempts((model, "success" if at < successes else "failure", cost), **fields)
