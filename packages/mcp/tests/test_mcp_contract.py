"""The list of tools equals its golden file and follows the contract of the API."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mcp_tools import tools_of

from trajectories_mcp import contract
from trajectories_sdk.testing import InMemoryServer

PACKAGE = Path(__file__).parents[1]
GOLDEN = Path(__file__).with_name("tools.json")
# A model reads the schemas at each start of a client.
MAX_LIST_CHARS = 29_000


def _listed() -> list[dict[str, Any]]:
    with InMemoryServer() as store, tools_of(store) as tools:
        return [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools.listed()]


def test_the_list_of_tools_equals_the_golden_file() -> None:
    told = json.dumps(_listed(), indent=1, ensure_ascii=False) + "\n"
    assert told == GOLDEN.read_text(encoding="utf-8"), (
        "The list of tools changed. If the change is intended: uv run python packages/mcp/tests/test_mcp_contract.py"
    )


def test_the_annotations_state_the_effects_of_a_call() -> None:
    hints = {tool["name"]: tool["annotations"] for tool in _listed()}
    assert hints == {
        "br_trajectory_record": {
            "readOnlyHint": False,
            "destructiveHint": True,
            "idempotentHint": False,
            "openWorldHint": False,
        },
        "br_trajectory_update": {
            "readOnlyHint": False,
            "destructiveHint": True,
            "idempotentHint": True,
            "openWorldHint": False,
        },
        "br_trajectory_outcome": {
            "readOnlyHint": False,
            "destructiveHint": False,
            "idempotentHint": True,
            "openWorldHint": False,
        },
        "br_trajectory_query": {"readOnlyHint": True, "idempotentHint": True, "openWorldHint": False},
        "br_trajectory_recommend": {"readOnlyHint": True, "openWorldHint": False},
    }


def test_the_list_of_tools_stays_within_its_size_limit() -> None:
    assert len(json.dumps(_listed(), ensure_ascii=False)) <= MAX_LIST_CHARS


def _schemas(value: Any) -> Iterator[dict[str, Any]]:
    """Yield each object in a schema, itself included."""
    if isinstance(value, dict):
        yield value
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _schemas(one)


def test_no_schema_has_keywords_that_client_converters_reject() -> None:
    """Gemini's API, among others, rejects references, unions and a boolean
    ``additionalProperties``.

    ``tests/sdk/test_mcp_converters.py`` asks converters.
    """
    schemas = [
        one for tool in _listed() for name in ("inputSchema", "outputSchema") for one in _schemas(tool.get(name))
    ]
    assert len(schemas) > 100
    rejected = {"$ref", "$defs", "anyOf", "oneOf", "allOf", "const", "patternProperties"}
    assert not [schema for schema in schemas if rejected & schema.keys()]
    assert not [schema for schema in schemas if isinstance(schema.get("additionalProperties"), bool)]
    assert not [schema for schema in schemas if isinstance(schema.get("type"), list)]


def test_the_contract_matches_the_openapi_document() -> None:
    spec = importlib.util.spec_from_file_location("generate_mcp_contract", PACKAGE / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    written = generate.CONTRACT.read_text()
    assert written == generate.contract(json.loads(generate.DOCUMENT.read_text())), (
        "docs/openapi.json has changed: uv run python packages/mcp/generate.py"
    )


def test_every_field_and_every_filter_is_an_argument() -> None:
    document = json.loads((PACKAGE.parents[1] / "docs" / "openapi.json").read_text())
    record, _, _, query, _ = (tool["inputSchema"]["properties"] for tool in _listed())
    assert record.keys() == document["components"]["schemas"]["Trajectory"]["properties"].keys()
    parameters = {given["name"] for given in document["paths"]["/v1/agent/trajectories/stats"]["get"]["parameters"]}
    assert parameters == contract.FILTERS.keys() | {"credit", "bucket"}
    assert parameters - {"bucket"} < query.keys()


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(_listed(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
