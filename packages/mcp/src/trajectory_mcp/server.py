"""The MCP server: two tools, on whatever transport carries it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp_types import CallToolRequestParams, CallToolResult, ListToolsResult, PaginatedRequestParams, TextContent, Tool

from trajectory_mcp import __version__, briefs, query, record
from trajectory_mcp.advice import ToolFailure, nearest, quoted
from trajectory_mcp.results import Result
from trajectory_sdk import AsyncClient

logger = logging.getLogger(__name__)

NAME: Final = "trajectory-mcp"
_INSTRUCTIONS: Final = (
    "The store of orchestration trajectories: how runs of phased work went, with which models, at what cost. Before you pick a model"
    f" for a phase or skip one, ask {query.NAME}; when a run has ended, record it with {record.NAME}."
)

Function = Callable[[AsyncClient, Mapping[str, Any]], Awaitable[Result]]
TOOLS: Final[Mapping[str, tuple[Tool, Function]]] = MappingProxyType(
    {record.NAME: (record.TOOL, record.record), query.NAME: (query.TOOL, query.query)}
)


def make_server(client: AsyncClient) -> Server[Any]:
    """A server whose tools ask the store through ``client``, and so with its key."""

    async def list_tools(context: ServerRequestContext[Any], params: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=[tool for tool, _ in TOOLS.values()])

    async def call_tool(context: ServerRequestContext[Any], params: CallToolRequestParams) -> CallToolResult:
        try:
            return _succeeded(await _call(client, params.name, params.arguments or {}))
        except ToolFailure as failure:
            # As the protocol has it: a result that the model reads and can mend, no error of the protocol.
            return _failed(str(failure))
        except Exception:
            logger.exception("The tool %s has failed", params.name)
            return _failed("Something went wrong in these tools; it has been logged. Go on without them.")

    return Server(
        NAME,
        version=__version__,
        title="Orchestration trajectories",
        instructions=_INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


async def _call(client: AsyncClient, name: str, arguments: Mapping[str, Any]) -> Result:
    if name not in TOOLS:
        raise ToolFailure(f"There is no tool {quoted(name)}.{nearest(name, TOOLS)} There are {' and '.join(TOOLS)}.")
    _, function = TOOLS[name]
    return await function(client, arguments)


def _failed(told: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(text=told)], is_error=True)


def _succeeded(result: Result) -> CallToolResult:
    answer = result.as_json()
    return CallToolResult(content=[TextContent(text=briefs.as_text(answer))], structured_content=answer)
