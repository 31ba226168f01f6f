"""``br_trajectory_recommend``: ask which model to use for the next phase."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mcp_types import Tool, ToolAnnotations

from trajectories_mcp import results
from trajectories_mcp.error_hints import ToolFailure, failure_of, nearest, quoted
from trajectories_mcp.record import parsed
from trajectories_sdk import AsyncClient, Recommendation, TrajectoryError

NAME: Final = "br_trajectory_recommend"
_DESCRIPTION: Final = """\
Ask which model to use for the next phase, before you pick one. The answer has the model, the model to ask after a failed check
(escalate_to), expected success and cost, and phase_fields: add these to the phase when you record the run, and state its outcome.\
"""
_PROPERTIES: Final[Mapping[str, Mapping[str, Any]]] = {
    "phase": {"type": "string"},
    "candidates": {"type": "array", "items": {"type": "string"}, "description": "Models to choose from."},
    "request_type": {"type": "string"},
    "project": {"type": "string"},
    "budget_usd": {"type": "number", "minimum": 0},
    "allow_skip": {"type": "boolean"},
}
_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": dict(_PROPERTIES),
    "required": ["phase", "candidates"],
}

# Without an output schema: the list of tools has a limit, and the text of an answer is the same JSON.
TOOL: Final = Tool(
    name=NAME,
    title="Recommend a model",
    description=_DESCRIPTION,
    input_schema=dict(_SCHEMA),
    annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False),
)


async def recommend(client: AsyncClient, arguments: Mapping[str, Any]) -> results.Recommended:
    """Ask the store for a recommendation.

    Raises:
        ToolFailure: An argument is missing or unknown, or the call failed. The message gives the
            next step.
    """
    given = {name: value for name, value in parsed(arguments, _SCHEMA).items() if value is not None}
    for name in given:
        if name not in _PROPERTIES:
            raise ToolFailure(f"Unknown argument {quoted(name)}.{nearest(name, _PROPERTIES)} Call again.")
    phase, candidates = given.pop("phase", None), given.pop("candidates", None)
    if not isinstance(phase, str) or not isinstance(candidates, list):
        raise ToolFailure(
            "br_trajectory_recommend requires phase, and candidates as a list of model names. Call again with both."
        )
    try:
        return _shown(await client.recommendations.create(phase, candidates, **given))
    except (TrajectoryError, ValueError, TypeError) as error:
        raise failure_of(error) from error


def _shown(answer: Recommendation) -> results.Recommended:
    choice = answer.choice
    return results.Recommended(
        recommendation_id=answer.recommendation_id,
        action=None if choice is None else choice.action,
        model=None if choice is None else choice.model,
        escalate_to=None if choice is None else choice.escalate_to,
        expected_success=None if choice is None else choice.expected_success,
        expected_cost_usd=None if choice is None else choice.expected_cost_usd,
        phase_fields=answer.record,
        candidates=[
            results.RecommendedModel(
                model=one.model,
                success=one.success.mean,
                low=one.success.low,
                high=one.success.high,
                samples=one.samples,
                expected_cost_usd=one.expected_cost_usd,
                reason=one.reason,
            )
            for one in answer.candidates
        ],
        summary=answer.reasoning,
    )
