"""The tool that recommends a model."""

from __future__ import annotations

import json

from mcp_tools import tools_of

from trajectories_sdk.testing import InMemoryServer


def test_a_recommendation_has_the_fields_to_record() -> None:
    with InMemoryServer() as store, tools_of(store) as tools:
        store.recommend_next("large")
        answer = tools.recommend(phase="implement", candidates=["small", "large"], request_type="bugfix", budget_usd=2)
        phase = {"phase_name": "implement", "outcome": "success"} | answer["phase_fields"]
        recorded = tools.record(request_summary="Fix it", phases=[phase])
    sent = json.loads(store.requests[0].body)
    assert sent == {
        "phase": "implement",
        "candidates": [{"model": "small"}, {"model": "large"}],
        "request_type": "bugfix",
        "budget_usd": 2,
    }
    assert (answer["action"], answer["model"], recorded["phases"]) == ("run", "large", 1)
    assert [one["model"] for one in answer["candidates"]] == ["small", "large"]
    assert store.records[0].phases[0].selection_probability == 1


def test_a_refused_call_names_the_change_that_it_needs() -> None:
    with InMemoryServer() as store, tools_of(store) as tools:
        assert "requires phase, and candidates" in tools.refusal("recommend", phase="implement")
        assert "Unknown argument" in tools.refusal("recommend", phase="x", candidates=["a"], budget=2)
        store.fail_next(503)
        assert tools.refusal("recommend", phase="x", candidates=["a"])
