"""Recommendations: asked by hand, and by a phase of the recorder."""

from __future__ import annotations

import json
import logging
from typing import Any

import anyio
import pytest
from conftest import flushed_record

from trajectories_sdk import BadRequestError, Client, ServiceUnavailableError
from trajectories_sdk.testing import InMemoryServer


def stored_phase(client: Client, run: Any) -> dict[str, Any]:
    (phase,) = flushed_record(client, run).phases
    return phase.model_dump(mode="json", exclude_unset=True)


def asked(server: InMemoryServer) -> list[dict[str, Any]]:
    return [json.loads(seen.body) for seen in server.requests if seen.path == "/v1/agent/recommendations"]


def test_a_recommendation_is_a_choice_with_its_propensity(client: Client, server: InMemoryServer) -> None:
    answer = client.recommendations.create(
        "implement", ["small", {"model": "large", "cost_usd": 0.5}], request_type="bugfix", seed=3
    )
    assert answer.choice is not None
    assert answer.choice.propensity == 0.5
    assert [one.model for one in answer.candidates] == ["small", "large"]
    assert asked(server) == [
        {
            "phase": "implement",
            "candidates": [{"model": "small"}, {"model": "large", "cost_usd": 0.5}],
            "request_type": "bugfix",
            "seed": 3,
        }
    ]


def test_an_invalid_request_is_refused(client: Client) -> None:
    with pytest.raises(BadRequestError):
        client.recommendations.create("implement", [])


def test_a_phase_requests_and_records_a_recommendation(client: Client, server: InMemoryServer) -> None:
    server.recommend_next("large")
    with client.trajectories.run("Fix it", request_type="bugfix", project="web") as run:
        with run.phase("plan", model="small"):
            pass
        with run.phase(
            "implement",
            recommend={"budget_usd": 2},
            candidates=["small", "large"],
            default="small",
            metadata={"mine": 1},
        ) as phase:
            assert phase.model == "large"
            assert phase.recommendation is not None
    plan = {"phase_name": "plan", "model": "small", "outcome": "success"}
    assert asked(server)[0] == {
        "phase": "implement",
        "candidates": [{"model": "small"}, {"model": "large"}],
        "request_type": "bugfix",
        "project": "web",
        "phases": [plan],
        "budget_usd": 2,
    }
    stored = flushed_record(client, run).phases[1].model_dump(mode="json", exclude_unset=True)
    assert (stored["model"], stored["selection_probability"]) == ("large", 1)
    assert stored["model_selection_method"] == "thompson-sampling"
    assert [one["probability"] for one in stored["candidates"]] == [0, 1]
    assert stored["metadata"]["mine"] == 1
    assert stored["metadata"]["trajectories:recommendation"]["id"] == str(phase.recommendation.recommendation_id)


@pytest.mark.parametrize("failure", ["status", "connection"])
def test_without_an_answer_a_phase_uses_the_default(
    client: Client, server: InMemoryServer, caplog: pytest.LogCaptureFixture, failure: str
) -> None:
    if failure == "status":
        server.fail_next(503)
    else:
        server.drop_next()
    with (
        caplog.at_level(logging.WARNING),
        client.trajectories.run("Fix it") as run,
        run.phase("implement", recommend=True, candidates=["small", "large"], default="small") as phase,
    ):
        assert (phase.model, phase.recommendation) == ("small", None)
    stored = stored_phase(client, run)
    assert (stored["model"], stored["selection_rule"]) == ("small", "default")
    assert "selection_probability" not in stored
    assert [one["model"] for one in stored["candidates"]] == ["small", "large"]
    assert "goes on with small" in caplog.text


def test_an_async_phase_requests_a_recommendation(server: InMemoryServer) -> None:
    async def pipeline() -> tuple[Any, str | None]:
        server.recommend_next("large")
        async with server.async_client() as client, client.trajectories.run("Fix it", background=False) as run:
            async with run.phase("implement", recommend=True, candidates=["small", "large"], default="small") as phase:
                pass
            answer = await client.recommendations.create("implement", ["small"])
            return answer, phase.model

    answer, model = anyio.run(pipeline)
    assert model == "large"
    assert answer.choice.model == "small"
    assert server.records[0].phases[0].selection_probability == 1


def test_an_async_client_does_not_block_to_ask(server: InMemoryServer) -> None:
    async def pipeline() -> None:
        async with server.async_client() as client, client.trajectories.run("Fix it", background=False) as run:
            with (
                pytest.raises(TypeError, match="use `async with`"),
                run.phase("implement", recommend=True, candidates=["small"], default="small"),
            ):
                pass

    anyio.run(pipeline)


@pytest.mark.parametrize("given", [{"candidates": ["a"]}, {"default": "a"}], ids=["default", "candidates"])
def test_a_recommended_phase_needs_candidates_and_a_default(client: Client, given: Any) -> None:
    with client.trajectories.run("Fix it") as run, pytest.raises(TypeError, match="recommend needs candidates"):
        run.phase("implement", recommend=True, **given)


def test_a_failed_call_by_hand_raises(client: Client, server: InMemoryServer) -> None:
    server.fail_next(503, times=9)
    with pytest.raises(ServiceUnavailableError):
        client.recommendations.create("implement", ["small"])
