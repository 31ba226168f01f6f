"""Answers are bounded, whatever the store holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp_tools import Tools, tools_of

from trajectories_mcp import results, summaries
from trajectories_sdk.testing import InMemoryServer

pytestmark = pytest.mark.abuse

# A plain character, those that JSON escapes, and those that are longest in UTF-8.
TEXTS = [text * 600 for text in ("a", '"', "\\", "\x1b", "😀", "\u2028")]
COST, DURATION, COUNT = 123456.12345678901, 9999999999999.998, 2**53 - 1


@pytest.fixture(scope="module", params=TEXTS, ids=lambda text: ascii(text[0]))
def full(request: pytest.FixtureRequest) -> Iterator[Tools]:
    """Tools of a store in which every field has its largest size."""
    long, name = request.param, request.param[:512]
    with InMemoryServer() as store, tools_of(store) as tools:
        for number in range(results.MAX_ITEMS + 5):
            tools.record(**_run(number, long, name))
        yield tools


def _run(number: int, long: str, name: str) -> dict[str, Any]:
    named = f"{number:03}{name}"[:512]
    phase = {
        "phase_name": named,
        **dict.fromkeys(("agent", "model", "requested_model", "model_selection_method", "phase_id"), named),
        **dict.fromkeys(("error", "skip_reason", "status_reason"), long),
        "attempts": [{"model": named[:90], "outcome": "cancelled"}] * 7,
        "fit": "overprovisioned",
        **dict.fromkeys(("input_tokens", "output_tokens", "attempt"), COUNT),
        "selection_probability": 0.12345678901234567,
        "tools_used": [named] * 9,
        "cost_usd": COST,
        "duration_ms": DURATION,
        "outcome": "unknown",
    }
    return {
        "id": str(UUID(int=number + 1)),
        **dict.fromkeys(("request_summary", "error"), long),
        **dict.fromkeys(("request_type", "source", "project", "policy"), named),
        **dict.fromkeys(("review_findings", "critical_findings", "files_changed"), COUNT),
        # Each phase is skipped by the next run, so that all of them are in the groups by skips.
        "phases": [phase] * 13
        + [{"phase_name": f"{number - 1:03}{name}"[:512], "outcome": "skipped", "skip_reason": long}],
        "parent_id": str(UUID(int=99)),
        "tags": [named] * 9,
        "total_cost_usd": COST,
        "total_duration_ms": DURATION,
        "outcome": "unknown",
        "build_passed": False,
        "tests_passed": False,
        "started_at": "2026-01-05T22:00:00.123456Z",
        "ended_at": "2026-01-05T22:00:00.123456Z",
        "metadata": {"everything": [long] * 5},
    }


@pytest.mark.parametrize(
    "question",
    [
        {"limit": results.MAX_ITEMS},
        {"id": str(UUID(int=1))},
        {"id": str(UUID(int=1)), "phases_from": 2},
        {"show": "readiness"},
        *({"show": "stats", "limit": results.MAX_ITEMS, "group_by": group_by} for group_by in summaries.GROUPINGS),
    ],
    ids=str,
)
def test_an_answer_of_the_longest_runs_stays_within_its_bound(full: Tools, question: dict[str, Any]) -> None:
    answer = full.query(**question)
    assert len(summaries.as_text(answer)) <= results.MAX_RESULT_CHARS
    data = answer["untrusted_data"]
    if "limit" in question:
        assert len(data.get("runs") or data["stats"]["groups"]) == results.MAX_ITEMS


def test_an_error_with_many_problems_stays_within_its_bound(full: Tools) -> None:
    told = full.refusal("record", request_summary="x", phases=[{"cost_usd": -1, f"k{'y' * 400}": 1}] * 200)
    assert len(told) <= 4_000
    assert told.endswith("call again.")


def test_the_text_and_the_structured_content_are_equal(full: Tools) -> None:
    answer = full.call("br_trajectory_query", {"limit": 3})
    (block,) = answer.content
    assert block.type == "text"
    assert json.loads(block.text) == answer.structured_content


@settings(max_examples=300)
@given(text=st.text(), max_chars=st.integers(0, 40))
def test_a_text_is_cut_by_its_length_as_json(text: str, max_chars: int) -> None:
    cut = summaries.cut(text, max_chars)
    kept = cut.removesuffix("…") if cut != text else cut
    assert text.startswith(kept)
    assert len(json.dumps(kept, ensure_ascii=False)) - 2 <= max_chars
    assert cut == text or cut.endswith("…")
