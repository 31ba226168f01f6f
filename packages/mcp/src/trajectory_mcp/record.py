"""``br_trajectory_record``: what a run came to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, cast
from uuid import uuid4

from mcp_types import Tool, ToolAnnotations

from trajectory_mcp import results
from trajectory_mcp.advice import counted, failure_of
from trajectory_mcp.contract import TRAJECTORY
from trajectory_mcp.plain import plain
from trajectory_sdk import AsyncClient, StoredTrajectory, TrajectoryError

NAME: Final = "br_trajectory_record"
_REDACTED: Final = "trajectories:redacted"
_DESCRIPTION: Final = """\
Record one run of orchestrated work, at its end or as it goes: which phases ran, which were skipped and why, which model answered and how
it was picked, tools, tokens, cost, duration, outcome. Others learn from it which model to pick and what to skip.
Leave out what you do not know: unknown is not 0. A phase that did not run has the outcome skipped and a skip_reason.
To record a run as it goes, or to correct it, send all of it again with the id that the first answer has given: the last word stands.
Example: {"request_summary": "Add user authentication", "request_type": "feature", "phases": [{"phase_name": "implement", "model": "large",
"model_selection_method": "explicit", "input_tokens": 1500, "output_tokens": 800, "cost_usd": 0.012, "outcome": "success"},
{"phase_name": "design", "outcome": "skipped", "skip_reason": "small change"}], "build_passed": true, "tests_passed": true}\
"""

TOOL: Final = Tool(
    name=NAME,
    title="Record a run",
    description=_DESCRIPTION,
    input_schema=dict(TRAJECTORY),
    output_schema=plain(results.Recorded.model_json_schema(mode="serialization")),
    # A known id replaces what was recorded under it, so it is no mere addition; without an id each call is another run.
    annotations=ToolAnnotations(
        read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=False
    ),
)


async def record(client: AsyncClient, arguments: Mapping[str, Any]) -> results.Recorded:
    """The run, stored. The contract is the store's to check, so that there is one.

    Raises:
        ToolFailure: it was not taken, or nobody knows; the message says what to try, and the id to try it with.
    """
    fields = {name: _unwrapped(name, value) for name, value in arguments.items()}
    if fields.get("id") is None:
        fields["id"] = str(uuid4())
    try:
        stored = await client.trajectories.record(cast(Any, fields))
    except (TrajectoryError, ValueError, TypeError, RecursionError) as error:
        raise failure_of(error, id_=str(fields["id"])[:40]) from error
    return _recorded(stored)


def _unwrapped(name: str, value: Any) -> Any:
    """Several clients send lists and objects as texts of JSON."""
    kind = TRAJECTORY["properties"].get(name, {}).get("type")
    if isinstance(value, str) and kind in ("array", "object"):
        with suppress(ValueError, RecursionError):
            return json.loads(value)
    return value


def _recorded(stored: StoredTrajectory) -> results.Recorded:
    redacted = (stored.metadata or {}).get(_REDACTED)
    count = sum(redacted.values()) if isinstance(redacted, dict) else 0
    told = f" Replaced in it: {counted(count, 'credential')}; do not send any." if count else ""
    return results.Recorded(
        id=stored.id,
        recorded_at=stored.recorded_at.isoformat().replace("+00:00", "Z"),
        revision=stored.revision,
        phases=len(stored.phases),
        redacted=count,
        summary=f"The run is stored, with {counted(len(stored.phases), 'phase')}.{told} Send more of it under this id.",
    )
