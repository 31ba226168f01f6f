"""Converters of MCP clients, which give the schemas of the tools to a model's API, take all of
them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from mcp import Client
from mcp_types import Tool

from trajectories_mcp.server import make_server
from trajectories_sdk.testing import InMemoryServer

pytestmark = pytest.mark.outside


@pytest.fixture(scope="module")
def tools() -> list[Tool]:
    async def listed(store: InMemoryServer) -> list[Tool]:
        async with Client(make_server(store.async_client())) as client:
            return (await client.list_tools()).tools

    with InMemoryServer() as store:
        return asyncio.run(listed(store))


def gemini(tool: Tool) -> Any:
    """Return the parameters as Gemini's own SDK sends them."""
    from google.genai import types

    schema = types.Schema.from_json_schema(json_schema=types.JSONSchema.model_validate(tool.input_schema))
    return schema.model_dump(mode="json", exclude_none=True)


def gemini_without_conversion(tool: Tool) -> Any:
    """Return the parameters as a client sends them that knows only Gemini's own form of schemas."""
    from google.genai import types

    return types.Schema.model_validate(tool.input_schema).model_dump(mode="json", exclude_none=True)


def langchain_gemini(tool: Tool) -> Any:
    from langchain_google_genai._function_utils import convert_to_genai_function_declarations

    (converted,) = convert_to_genai_function_declarations([_structured(tool)])
    (declaration,) = converted.function_declarations
    return declaration.parameters.model_dump(mode="json", exclude_none=True)


def langchain_openai(tool: Tool) -> Any:
    from langchain_core.utils.function_calling import convert_to_openai_tool

    return convert_to_openai_tool(_structured(tool))["function"]["parameters"]


def _structured(tool: Tool) -> Any:
    from langchain_core.tools import StructuredTool

    return StructuredTool(
        name=tool.name, description=tool.description or "", args_schema=tool.input_schema, func=lambda **_: None
    )


@pytest.mark.parametrize("convert", [gemini, gemini_without_conversion, langchain_gemini, langchain_openai])
def test_a_converter_keeps_every_argument_and_its_type(tools: list[Tool], convert: Callable[[Tool], Any]) -> None:
    assert len(tools) == 5
    for tool in tools:
        assert list(_changed(convert(tool), tool.input_schema, tool.name)) == []


def _changed(converted: Any, ours: Any, place: str) -> Iterator[str]:
    """Yield the arguments that a converter has lost, or given another type."""
    if converted is None:
        yield f"{place} is missing"
    elif "properties" in ours:
        for name, one in ours["properties"].items():
            yield from _changed(converted.get("properties", {}).get(name), one, f"{place}.{name}")
    elif "items" in ours:
        yield from _changed(converted.get("items"), ours["items"], f"{place}[]")
    elif str(converted["type"]).lower() not in _ALLOWED.get(ours["type"], (ours["type"],)):
        yield f"{place} is {converted['type']}"


# LangChain makes a text of an object without named properties; the tools take its JSON.
_ALLOWED = {"object": ("object", "string")}
