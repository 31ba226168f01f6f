"""Calls of the MCP tools by Django's test client, as messages of the protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from django.test import Client

PATH = "/v1/mcp/connect"
# The type is here too, since Django's client leaves that of an empty body out.
HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json, text/event-stream",
    "MCP-Protocol-Version": "2025-11-25",
}


def send(client: Client, message: Any, **headers: str) -> Any:
    """The HTTP answer to a message."""
    data = message if isinstance(message, bytes) else orjson.dumps(message)
    return client.post(PATH, data, content_type="application/json", headers=HEADERS | headers)


def message(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def call(client: Client, tool: str, arguments: Mapping[str, Any], **headers: str) -> dict[str, Any]:
    """The result of a call that the protocol must take; ``tool`` is record, update or query."""
    answer = send(client, message("tools/call", name=f"br_trajectory_{tool}", arguments=arguments), **headers)
    assert answer.status_code == 200, answer.content
    result: dict[str, Any] = answer.json()["result"]
    return result


def query(client: Client, **arguments: Any) -> dict[str, Any]:
    """An answer that must be given."""
    return _good(call(client, "query", arguments))


def record(client: Client, **arguments: Any) -> dict[str, Any]:
    """The same of a run that must be taken."""
    return _good(call(client, "record", arguments))


def refusal(result: Mapping[str, Any]) -> str:
    """Return the error text of a call that must have failed."""
    assert result["isError"], result
    (block,) = result["content"]
    return str(block["text"])


def _good(result: Mapping[str, Any]) -> dict[str, Any]:
    assert not result["isError"], result
    given: dict[str, Any] = result["structuredContent"]
    return given
