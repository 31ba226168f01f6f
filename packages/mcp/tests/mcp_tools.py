"""An MCP client of the tools, with an in-memory store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio.from_thread
from mcp import Client
from mcp_types import CallToolResult, Tool

from trajectories_mcp.server import make_server
from trajectories_sdk.testing import InMemoryServer


class Tools:
    """Call the tools through the client of the official SDK, with blocking calls."""

    def __init__(self, client: Client, portal: anyio.from_thread.BlockingPortal) -> None:
        self._client = client
        self._portal = portal

    def listed(self) -> list[Tool]:
        return self._portal.call(self._client.list_tools).tools

    def instructions(self) -> str:
        return self._client.instructions or ""

    def call(self, name: str, arguments: dict[str, Any]) -> CallToolResult:
        answer: CallToolResult = self._portal.call(self._client.call_tool, name, arguments)
        return answer

    def query(self, **arguments: Any) -> dict[str, Any]:
        """Return the answer of a query that must succeed. The client validates it against the
        schema."""
        return self._good(self.call("br_trajectory_query", arguments))

    def record(self, **arguments: Any) -> dict[str, Any]:
        """Return the answer of a recording that must succeed."""
        return self._good(self.call("br_trajectory_record", arguments))

    def update(self, **arguments: Any) -> dict[str, Any]:
        """Return the answer of a change that must succeed."""
        return self._good(self.call("br_trajectory_update", arguments))

    def recommend(self, **arguments: Any) -> dict[str, Any]:
        """Return the answer of a recommendation that must succeed."""
        return self._good(self.call("br_trajectory_recommend", arguments))

    def refusal(self, tool: str, /, **arguments: Any) -> str:
        """Return the error message of a call that must fail. ``tool`` is record, update, outcome,
        query or recommend."""
        answer = self.call(f"br_trajectory_{tool}", arguments)
        assert answer.is_error, answer
        return _text(answer)

    @staticmethod
    def _good(answer: CallToolResult) -> dict[str, Any]:
        assert not answer.is_error, _text(answer)
        given: dict[str, Any] = answer.structured_content
        return given


def _text(answer: CallToolResult) -> str:
    (block,) = answer.content
    assert block.type == "text"
    return block.text


@contextmanager
def tools_of(store: InMemoryServer, mode: str = "auto") -> Iterator[Tools]:
    """Give the tools of a server that uses ``store``. The mode auto is the MCP revision without
    sessions."""
    server = make_server(store.async_client(max_retries=0))
    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Client(server, mode=mode)) as client,
    ):
        yield Tools(client, portal)
