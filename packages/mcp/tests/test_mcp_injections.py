"""Recorded text reaches an agent as labelled data, on one line, with nothing hidden in it."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from typing import Any

import pytest
from mcp_injections import INJECTIONS, VISIBLE, hostile_run
from mcp_tools import Tools, tools_of

from trajectories_mcp.results import UNTRUSTED
from trajectories_sdk.testing import InMemoryServer

QUESTIONS: list[dict[str, Any]] = [
    {"limit": 20},
    {"id": "00000000-0000-4000-8000-000000000001"},
    *(
        {"show": "stats", "group_by": name, "limit": 20}
        for name in ("phase_model", "request_type", "source", "project")
    ),
]


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


@pytest.mark.parametrize("question", QUESTIONS, ids=str)
def test_recorded_text_has_no_line_break_and_no_invisible_character(tools: Tools, question: dict[str, Any]) -> None:
    for text in _texts(tools.query(**question)["untrusted_data"]):
        assert not [char for char in text if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp", "Cs")], ascii(text)
        assert not set(text) & set("\u034f\u115f\u3164\uffa0")
        assert not any("\ufe00" <= char <= "\ufe0f" or char > "\U000dffff" for char in text), ascii(text)


@pytest.mark.parametrize("text", INJECTIONS.values(), ids=INJECTIONS)
def test_names_in_the_sentences_of_readiness_are_in_the_untrusted_part_alone(text: str) -> None:
    with InMemoryServer() as store, tools_of(store) as tools:
        tools.record(**hostile_run(1, text))
        shown = tools.query(show="readiness")
    said = shown.pop("untrusted_data")["readiness"]["to_do"]
    assert any(VISIBLE in sentence for sentence in said)
    assert VISIBLE not in json.dumps(shown)
    assert all(char.isprintable() for sentence in said for char in sentence)


def test_instructions_and_descriptions_mark_recorded_text_as_untrusted(tools: Tools) -> None:
    assert UNTRUSTED in tools.instructions()
    record, query = (next(tool for tool in tools.listed() if tool.name.endswith(name)) for name in ("record", "query"))
    assert UNTRUSTED in str(query.description)
    assert "without instructions" in str(record.description)
    assert query.output_schema is not None
    assert UNTRUSTED in query.output_schema["properties"]["untrusted_data"]["description"]


def test_an_error_does_not_repeat_hidden_text_of_a_call(tools: Tools) -> None:
    for text in INJECTIONS.values():
        told = tools.refusal("query", **{text: 1})
        assert not [char for char in told if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp")], ascii(told)


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for one in value.values() for text in _texts(one)]
    if isinstance(value, list):
        return [text for one in value for text in _texts(one)]
    return [value] if isinstance(value, str) else []
