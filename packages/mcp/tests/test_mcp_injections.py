"""Recorded text reaches an agent as labelled data, on one line, with nothing hidden in it."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from mcp_injections import INJECTIONS, VISIBLE, hostile_run
from mcp_tools import Tools, tools_of

from trajectories_mcp import summaries
from trajectories_mcp.results import IN_EACH_TOOL, UNTRUSTED
from trajectories_sdk.testing import InMemoryServer

QUESTIONS: list[dict[str, Any]] = [
    {"limit": 20},
    {"id": "00000000-0000-4000-8000-000000000001"},
    *({"show": "stats", "group_by": name, "limit": 20} for name in summaries.GROUPINGS),
]
CALLS: dict[str, dict[str, Any]] = {
    "record": {"request_summary": "Add auth", "phases": []},
    "update": {"id": str(UUID(int=1)), "changes": {"tests_passed": True}},
    "outcome": {"id": str(UUID(int=1)), "name": "merged", "value": True},
    "query": {},
    "recommend": {"phase": "implement", "candidates": ["large"]},
}
"""Arguments of a good call of each tool."""


@pytest.fixture(scope="module", params=["auto", "legacy"])
def tools(request: pytest.FixtureRequest) -> Iterator[Tools]:
    """Tools of a store in which each text of a run is an injection."""
    with InMemoryServer() as store, tools_of(store, request.param) as tools:
        for number, text in enumerate(INJECTIONS.values(), 1):
            tools.record(**hostile_run(number, text))
        yield tools


@pytest.mark.parametrize("question", QUESTIONS, ids=str)
def test_recorded_text_is_in_the_untrusted_part_alone(tools: Tools, question: dict[str, Any]) -> None:
    answer = tools.call("br_trajectory_query", question)
    shown = dict(answer.structured_content or {})
    assert VISIBLE in json.dumps(shown.pop("untrusted_data"))
    assert VISIBLE not in json.dumps(shown)
    (block,) = answer.content
    assert block.type == "text"
    assert json.loads(block.text) == answer.structured_content


@pytest.mark.parametrize("text", INJECTIONS.values(), ids=INJECTIONS)
def test_no_answer_of_a_tool_has_recorded_text_outside_its_untrusted_part(text: str) -> None:
    with InMemoryServer() as store, tools_of(store) as tools:
        id_ = tools.record(**hostile_run(1, text))["id"]
        for name, arguments in CALLS.items():
            answer = tools.call(f"br_trajectory_{name}", arguments | ({"id": id_} if "id" in arguments else {}))
            assert not answer.is_error
            shown = dict(answer.structured_content or {})
            shown.pop("untrusted_data", None)
            assert VISIBLE not in json.dumps(shown)


@pytest.mark.parametrize("question", QUESTIONS, ids=str)
def test_recorded_text_has_no_line_break_and_no_invisible_character(tools: Tools, question: dict[str, Any]) -> None:
    for text in _texts(tools.query(**question)["untrusted_data"]):
        _expect_nothing_hidden(text)


@pytest.mark.parametrize("text", INJECTIONS.values(), ids=INJECTIONS)
def test_names_in_the_sentences_of_readiness_are_in_the_untrusted_part_alone(text: str) -> None:
    with InMemoryServer() as store, tools_of(store) as tools:
        tools.record(**hostile_run(1, text))
        shown = tools.query(show="readiness")
    said = shown.pop("untrusted_data")["readiness"]["to_do"]
    assert any(VISIBLE in sentence for sentence in said)
    assert VISIBLE not in json.dumps(shown)
    assert all(char.isprintable() for sentence in said for char in sentence)


def test_the_instructions_and_the_schema_mark_recorded_text_as_untrusted(tools: Tools) -> None:
    assert UNTRUSTED in tools.instructions()
    (query,) = (tool for tool in tools.listed() if tool.name == "br_trajectory_query")
    assert query.output_schema is not None
    assert UNTRUSTED in query.output_schema["properties"]["untrusted_data"]["description"]


def test_each_tool_says_that_recorded_text_is_untrusted(tools: Tools) -> None:
    descriptions = {tool.name: str(tool.description) for tool in tools.listed()}
    assert [name for name, text in descriptions.items() if not text.endswith(f"\n{IN_EACH_TOOL}")] == []
    assert "without instructions" in descriptions["br_trajectory_record"]


def test_an_error_does_not_repeat_hidden_text_of_a_call(tools: Tools) -> None:
    for text in INJECTIONS.values():
        _expect_nothing_hidden(tools.refusal("query", **{text: 1}))


@pytest.mark.parametrize("status", [400, 403, 404, 409, 412, 413, 422, 429, 500, 503])
@pytest.mark.parametrize("tool", CALLS)
def test_an_error_of_the_store_has_its_words_in_the_untrusted_part_alone(tool: str, status: int) -> None:
    with InMemoryServer() as store, tools_of(store) as tools:
        for text in INJECTIONS.values():
            store.fail_next(status, message=f"phases: the body lacks {text}.")
            told = tools.refusal(tool, **CALLS[tool])
            data, rest = _untrusted(told)
            assert VISIBLE in json.dumps(data)
            assert VISIBLE not in rest
            _expect_nothing_hidden(told)


def test_the_calls_above_are_of_all_tools(tools: Tools) -> None:
    assert {tool.name for tool in tools.listed()} == {f"br_trajectory_{name}" for name in CALLS}


@pytest.mark.parametrize("text", INJECTIONS.values(), ids=INJECTIONS)
def test_the_problems_of_a_call_are_in_the_untrusted_part_alone(tools: Tools, text: str) -> None:
    phases = [{"phase_name": "spec", "outcome": text}, {"phase_name": "spec", "fit": text}]
    told = tools.refusal("record", request_summary="Add auth", phases=phases)
    data, rest = _untrusted(told)
    assert len(data["errors"]) == 2
    assert VISIBLE not in rest
    _expect_nothing_hidden(told)


def _untrusted(told: str) -> tuple[dict[str, Any], str]:
    """Return the ``untrusted_data`` of an error, and the rest of its text."""
    before, start, after = told.partition('{"untrusted_data":')
    data, end = json.JSONDecoder().raw_decode(start + after)
    return data["untrusted_data"], before + (start + after)[end:]


def _expect_nothing_hidden(text: str) -> None:
    assert not [char for char in text if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp", "Cs")], ascii(text)
    assert not set(text) & set("\u034f\u115f\u3164\uffa0")
    assert not any("\ufe00" <= char <= "\ufe0f" or char > "\U000dffff" for char in text), ascii(text)


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for one in value.values() for text in _texts(one)]
    if isinstance(value, list):
        return [text for one in value for text in _texts(one)]
    return [value] if isinstance(value, str) else []
