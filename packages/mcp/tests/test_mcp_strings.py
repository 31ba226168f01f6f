"""Lists that a client sends as strings, whose values the bound of a message does not count."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from mcp_tools import tools_of

from trajectories_mcp.error_hints import ToolFailure
from trajectories_mcp.record import parsed
from trajectories_sdk.testing import InMemoryServer


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("record", lambda text: {"request_summary": "x", "phases": text}),
        ("record", lambda text: {"request_summary": "x", "phases": [{"phase_name": "a", "tools_used": text}]}),
        ("update", lambda text: {"id": str(UUID(int=1)), "changes": text}),
        ("update", lambda text: {"id": str(UUID(int=1)), "changes": {"tags": text}}),
        ("recommend", lambda text: {"phase": "a", "candidates": text}),
        ("outcome", lambda text: {"name": "a", "value": text, "id": str(UUID(int=1))}),
        ("outcome", lambda text: {"name": "a", "value": 1, "evidence": text}),
    ],
)
def test_a_string_of_too_many_values_is_refused_before_it_is_parsed(
    tool: str, arguments: Callable[[str], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "[" + "[]," * 60_000 + "[]]"
    longest = 0
    loads = json.loads

    def counted(given: str | bytes, **options: Any) -> Any:
        nonlocal longest
        longest = max(longest, isinstance(given, str) and given.count("[]"))
        return loads(given, **options)

    with InMemoryServer() as store, tools_of(store) as tools:
        monkeypatch.setattr("trajectories_mcp.record.json", SimpleNamespace(loads=counted, dumps=json.dumps))
        told = tools.refusal(tool, **arguments(text))
    assert told.startswith("The strings of a call must not have more than 100,000 JSON values.")
    assert longest == 0


def test_strings_of_a_call_share_the_bound_and_separators_in_their_texts_do_not_count() -> None:
    list_ = {"type": "array"}
    half = json.dumps([0] * 50_000)
    schema = {"properties": {"a": list_, "b": list_, "c": list_}}
    assert len(parsed({"a": half, "b": half[:-10] + "]"}, schema)["a"]) == 50_000
    with pytest.raises(ToolFailure, match="JSON values"):
        parsed({"a": half, "b": half, "c": "[0, 0]"}, schema)
    prose = [r"a,[{\"," * 50_000, "\\"]
    assert parsed(json.dumps(prose), list_) == prose
    assert parsed('["' + "a," * 100_000, list_) == '["' + "a," * 100_000
