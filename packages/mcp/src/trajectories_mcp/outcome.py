"""``br_trajectory_outcome``: add what became known of a run after it was recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mcp_types import Tool, ToolAnnotations

from trajectories_mcp import results
from trajectories_mcp.error_hints import ToolFailure, failure_of, nearest, quoted
from trajectories_mcp.record import parsed
from trajectories_mcp.schema_minify import schema_of
from trajectories_sdk import AsyncClient, TrajectoryError

NAME: Final = "br_trajectory_outcome"
_DESCRIPTION: Final = """\
Add what became known after a run: its pull request was merged or reverted, a person rated it, a model did not fit its phase. It is appended
and changes nothing else. Name the run by id, or by a reference: the outcome is then one of each run with that pull request, commit or session.
Example: {"name": "merged", "value": true, "reference": {"pull_request": "shop#12"}}\
"""
_PROPERTIES: Final[Mapping[str, Mapping[str, Any]]] = {
    "name": {
        "type": "string",
        "maxLength": 512,
        "description": "Such as merged, reverted, rating; fit takes a word as value.",
    },
    "value": {
        "type": "string",  # converters of clients want one type; JSON values are taken too
        "description": "true, false, a number, or for fit: good_fit, underpowered, overprovisioned, failed.",
    },
    "id": {"type": "string", "format": "uuid", "description": "Id of the run."},
    "reference": {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "maxProperties": 1,
        "description": "One entry of external_refs, or session_id.",
    },
    "phase_id": {"type": "string", "maxLength": 512, "description": "The phase that it is about; else the run."},
    "at": {"type": "string", "format": "date-time", "description": "When it became known. Default: now."},
    "evidence": {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "description": "Where it can be seen.",
    },
    "idempotency_key": {
        "type": "string",
        "maxLength": 512,
        "description": "The same key for the same target is the same outcome.",
    },
}
_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": dict(_PROPERTIES),
    "required": ["name", "value"],
}

TOOL: Final = Tool(
    name=NAME,
    title="Add a late outcome",
    description=_DESCRIPTION,
    input_schema=dict(_SCHEMA),
    output_schema=schema_of(results.RecordedOutcome),
    annotations=ToolAnnotations(
        read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False
    ),
)


async def outcome(client: AsyncClient, arguments: Mapping[str, Any]) -> results.RecordedOutcome:
    """Add a late outcome. Only the store validates it, so that there is one contract.

    Raises:
        ToolFailure: An argument is missing or unknown, or the call failed. The message gives the
            next step.
    """
    given = {name: value for name, value in parsed(arguments, _SCHEMA).items() if value is not None}
    for name in given:
        if name not in _PROPERTIES:
            raise ToolFailure(f"Unknown argument {quoted(name)}.{nearest(name, _PROPERTIES)} Call again without it.")
    if "name" not in given or "value" not in given or ("id" in given) == ("reference" in given):
        raise ToolFailure(
            "br_trajectory_outcome requires name, value, and either the id of a run or a reference. Call again with them."
        )
    named, value, id_ = given.pop("name"), given.pop("value"), given.pop("id", None)
    for kind in ("boolean", "number"):
        value = parsed(value, {"type": kind})
    try:
        stored = await client.outcomes.record(named, value, trajectory_id=id_, **given)
    except (TrajectoryError, ValueError, TypeError, RecursionError) as error:
        raise failure_of(error) from error
    return results.RecordedOutcome(
        id=stored.id,
        recorded_at=stored.recorded_at.isoformat(),
        summary="Added the outcome. It is shown with each run that it is about.",
    )
