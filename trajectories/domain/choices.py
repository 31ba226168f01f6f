"""The choices of a run, each with what it earned: the material of recommendations.

A choice is a model that was asked at a phase, alone or after another model had failed there. Each
attempt is a choice of its own, since the success of a second model on what a first one failed says
nothing of its success on everything. Whether a phase ran or was skipped is a choice too; it earned
the outcome of the run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import orjson

from trajectories.domain.outcomes import NOT_RUN
from trajectories.domain.record import NANO_USD, Facets, PhaseFacets

MODEL, RAN, SKIPPED = "model", "ran", "skipped"
RECOMMENDATION: Final = "trajectories:recommendation"
"""Key of a phase's metadata: ``{"id", "model", "escalate_to"}`` of the recommendation that it got."""
SCORES: Mapping[str | None, int] = {"success": 2, "partial": 1, "failure": 0}
"""Twice the reward, so that sums are integers."""
UNSUCCESSFUL = (0, 1)
"""Scores after which another model may be asked."""


class Choice(NamedTuple):
    """A choice of a run.

    - ``kind``: MODEL, or RAN and SKIPPED once for each phase group of a run, without a model.
    - ``after``: the model that did not succeed at this phase before, None for the first choice.
    - ``score``: twice the reward, None where it is not known.
    - ``advice``: ``followed`` or ``ignored`` where a recommendation was recorded.
    """

    kind: str
    phase: str
    model: str | None
    after: str | None
    method: str | None
    score: int | None
    cost_nano_usd: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    advice: str | None = None


def choices_of(facets: Facets, body: bytes) -> Iterator[Choice]:
    """Yield the choices of a run, in the order of its phases.

    Args:
        facets: those of ``body``.
        body: canonical JSON; parsed only where a phase has attempts or a recommendation.
    """
    has_more = b'"attempts":[' in body or RECOMMENDATION.encode() in body
    phases = orjson.loads(body)["phases"] if has_more else [{}] * len(facets.phases)
    run_score = SCORES.get(facets.outcome)
    failed: dict[str, str] = {}
    """The model that last did not succeed, by phase."""
    for of_phase, fields in zip(facets.phases, phases, strict=True):
        if of_phase.presence is not None:
            kind = RAN if of_phase.presence == "ran" else SKIPPED
            yield Choice(kind, of_phase.phase, None, None, None, run_score)
        if of_phase.outcome in NOT_RUN:
            continue
        for choice in _of_models(of_phase, fields, failed.get(of_phase.phase)):
            yield choice
            if choice.model is not None and choice.score in UNSUCCESSFUL:
                failed[of_phase.phase] = choice.model
            else:
                failed.pop(of_phase.phase, None)


def _of_models(of_phase: PhaseFacets, fields: Mapping[str, Any], after: str | None) -> Iterator[Choice]:
    attempts = fields.get("attempts") or ()
    first = attempts[0]["model"] if attempts else fields.get("requested_model") or of_phase.model
    credit = SCORES.get(of_phase.credited)
    advice = _advice(fields, first)
    if len(attempts) < 2:
        if first is not None and first == of_phase.model:
            figures = (of_phase.cost_nano_usd, of_phase.input_tokens, of_phase.output_tokens)
            yield Choice(MODEL, of_phase.phase, first, after, of_phase.selection_method, credit, *figures, advice)
        return
    for at, attempt in enumerate(attempts):
        # Checks judge what the last attempt left; earlier ones have only their own outcome.
        is_last = at == len(attempts) - 1
        score = credit if is_last and credit is not None else SCORES.get(attempt["outcome"])
        cost = attempt.get("cost_usd")
        yield Choice(
            MODEL,
            of_phase.phase,
            attempt["model"],
            after,
            of_phase.selection_method,
            score,
            None if cost is None else round(cost * NANO_USD),
            advice=advice if at == 0 else None,
        )
        after = attempt["model"] if score in UNSUCCESSFUL else None


def _advice(fields: Mapping[str, Any], first: str | None) -> str | None:
    given = (fields.get("metadata") or {}).get(RECOMMENDATION)
    if not isinstance(given, dict) or "model" not in given:
        return None
    return "followed" if given["model"] == first else "ignored"
