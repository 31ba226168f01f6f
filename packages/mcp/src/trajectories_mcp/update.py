"""``br_trajectory_update``: change a recorded run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mcp_types import Tool, ToolAnnotations

from trajectories_mcp import results, summaries
from trajectories_mcp.contract import TRAJECTORY
from trajectories_mcp.error_hints import ToolFailure, failure_of, nearest, quoted
from trajectories_mcp.record import parsed, recorded
from trajectories_sdk import AsyncClient, TrajectoryError

NAME: Final = "br_trajectory_update"
_DESCRIPTION: Final = """\
Change fields of a recorded run: the result of its tests or review, known later; how well a model suited a phase; a correction.
changes has the fields of br_trajectory_record to change; null deletes a field, and other fields stay. phases lists only the phases to
change, each with its phase_id; an unknown phase_id with a phase_name appends a phase.
Example: {"id": "…", "changes": {"tests_passed": false, "phases": [{"phase_id": "implement-1", "fit": "underpowered"}]}}\
"""
_PROPERTIES: Final[Mapping[str, Mapping[str, Any]]] = {
    "id": {"type": "string", "format": "uuid", "description": "Id of the run."},
    "changes": {"type": "object", "description": "Fields to change, with their new values."},
    "revision": {
        "type": "integer",
        "minimum": 0,
        "description": "Revision that the changes were made for, from an earlier answer. If the run has another one, nothing changes.",
    },
}
_SCHEMA: Final[Mapping[str, Any]] = {"type": "object", "properties": dict(_PROPERTIES), "required": ["id", "changes"]}

TOOL: Final = Tool(
    name=NAME,
    title="Change a run",
    description=_DESCRIPTION,
    input_schema=dict(_SCHEMA),
    # Without an output schema, which would be that of br_trajectory_record: the list of tools has a limit.
    annotations=ToolAnnotations(
        read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False
    ),
)


async def update(client: AsyncClient, arguments: Mapping[str, Any]) -> results.Recorded:
    """Change a run. Only the store validates the changes, so that there is one contract.

    Raises:
        ToolFailure: An argument is missing or unknown, or the call failed. The message gives the
            next step.
    """
    given = {name: value for name, value in parsed(arguments, _SCHEMA).items() if value is not None}
    for name in given:
        if name not in _PROPERTIES:
            hint = nearest(name, _PROPERTIES)
            raise ToolFailure(f"Unknown argument {quoted(name)}.{hint} Fields of the run go into changes. Call again.")
    changes, revision = given.get("changes"), given.get("revision")
    if "id" not in given or not isinstance(changes, dict):
        raise ToolFailure(
            "br_trajectory_update requires the id of a run, and changes as an object. Call again with both."
        )
    if revision is not None and (not isinstance(revision, int) or isinstance(revision, bool)):
        raise ToolFailure(
            f"revision must be an integer from an earlier answer, got {quoted(str(revision))}. Call again."
        )
    try:
        stored = await client.trajectories.update(given["id"], parsed(changes, TRAJECTORY), if_match=revision)
    except (TrajectoryError, ValueError, TypeError, RecursionError) as error:
        raise failure_of(error) from error
    # The warnings quote what others may have recorded, so only their places and codes are in the answer.
    return recorded(stored, "Changed", summaries.warnings(stored, has_text=False))
