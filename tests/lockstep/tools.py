"""The MCP server: its tools and their requests."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import mcp
from mcp_types import Tool

from tests.lockstep.api import operation_of
from tests.lockstep.facts import (
    BY_TARGET,
    DECISIONS,
    OF_A_TOOL,
    OPERATION,
    PARAMETER,
    REQUEST,
    Side,
    fields,
    operations,
    parameters,
)
from tests.lockstep.python import RUN
from trajectories_mcp.server import make_server
from trajectories_sdk.testing import InMemoryServer

_RECORD, _UPDATE, _QUERY = "br_trajectory_record", "br_trajectory_update", "br_trajectory_query"
_OUTCOME = "br_trajectory_outcome"
_ONCE: Mapping[str, Any] = {
    _UPDATE: {"id": RUN["id"], "changes": {}},
    _OUTCOME: {"id": RUN["id"], "name": "merged", "value": True},
    "br_trajectory_recommend": {"phase": "x", "candidates": ["m"]},
}
"""Arguments of a call, where they are not those of a run."""
_FOR_PEOPLE = "evaluations and alerts are for programs and people"
_OF_THE_TOOL = ("show", "group_by", "phases_from")
_OF_ONE_OPERATION = {"list": ("limit", "cursor"), "retrieve": ("id",), "stats": ("credit",), "readiness": ()}
_OUTCOMES_ONLY = "agents add outcomes, and read what comes of them in stats"
_NO_FILES = "agents query and record; exports and deletion are for programs and people"


def side() -> Side:
    tools, calls = asyncio.run(_tools_and_calls())
    asked = [name for name in tools[_QUERY].input_schema["properties"] if name not in _OF_THE_TOOL]
    special = {name for names in _OF_ONE_OPERATION.values() for name in names}
    taken = parameters("retrieve", set(asked) & set(_OF_ONE_OPERATION["retrieve"]))
    taken |= parameters("update", set(tools[_UPDATE].input_schema["properties"]) & {"id"})
    for operation in ("list", "stats", "readiness"):
        taken |= parameters(operation, (set(asked) - special) | (set(asked) & set(_OF_ONE_OPERATION[operation])))
    return Side(
        name="MCP tools",
        kinds=(OPERATION, PARAMETER, REQUEST),
        facts=operations(calls)
        | taken
        | _sent(tools[_RECORD].input_schema)
        | _of_outcome(tools[_OUTCOME].input_schema),
        touch="uv run python packages/mcp/generate.py, then add a new endpoint to src/trajectories_mcp/query.py",
        without={
            f"{PARAMETER} record.replace": "agents change runs by the update tool",
            f"{REQUEST} *Patch.*": "the update tool takes the fields of the record tool",
            f"{PARAMETER} readiness.max_runs": "the default is enough for an agent",
            f"{OPERATION} export*": _NO_FILES,
            f"{PARAMETER} export*": _NO_FILES,
            f"{OPERATION} delete_*": _NO_FILES,
            f"{PARAMETER} delete_*": _NO_FILES,
            **BY_TARGET,
            f"{OPERATION} list_outcomes": _OUTCOMES_ONLY,
            f"{PARAMETER} list_outcomes.id": _OUTCOMES_ONLY,
            f"{REQUEST} LateOutcome.source": "of the key",
            f"{OPERATION} evaluate": _FOR_PEOPLE,
            f"{OPERATION} alerts": _FOR_PEOPLE,
            f"{PARAMETER} alerts.*": _FOR_PEOPLE,
            **OF_A_TOOL,
            **DECISIONS,
            f"{PARAMETER} stats.bucket": "a series is for people, and longer than an answer to an agent may be",
        },
        calls=calls,
    )


async def _tools_and_calls() -> tuple[dict[str, Tool], dict[str, frozenset[str]]]:
    with InMemoryServer() as server:
        async with server.async_client() as store, mcp.Client(make_server(store)) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            calls = {name: await _called(server, client, tool) for name, tool in tools.items()}
    return tools, calls


async def _called(server: InMemoryServer, client: mcp.Client, tool: Tool) -> frozenset[str]:
    """Return the operations that a tool calls, over all values of ``show``."""
    shown = tool.input_schema["properties"].get("show", {}).get("enum")
    before = len(server.requests)
    once = _ONCE.get(tool.name, RUN)
    for arguments in [once] if shown is None else [_question(show) for show in shown]:
        answer = await client.call_tool(tool.name, arguments)
        assert not answer.is_error, (
            f"{tool.name} failed. Add its arguments to tests/lockstep/tools.py. {answer.content}"
        )
    return frozenset(operation_of(request.method, request.path) for request in server.requests[before:])


def _question(show: str) -> dict[str, Any]:
    return {"show": show} | ({"id": RUN["id"]} if show == "run" else {})


def _of_outcome(schema: Mapping[str, Any]) -> frozenset[str]:
    return fields(REQUEST, "LateOutcome", ("trajectory_id" if name == "id" else name for name in schema["properties"]))


def _sent(schema: Mapping[str, Any]) -> frozenset[str]:
    run = schema["properties"]
    phase = run["phases"]["items"]["properties"]
    return (
        fields(REQUEST, "Trajectory", run)
        | fields(REQUEST, "Phase", phase)
        | fields(REQUEST, "Candidate", phase["candidates"]["items"]["properties"])
        | fields(REQUEST, "Attempt", phase["attempts"]["items"]["properties"])
        | fields(REQUEST, "Exploration", phase["exploration"]["properties"])
        | fields(REQUEST, "FeedbackLoop", run["feedback_loops"]["items"]["properties"])
    )
