"""The recorder: how a model was chosen, its attempts, and how phases belong together."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from conftest import SECOND_NS, ManualClock, clocked_run, flushed_record, send_all

from trajectories_sdk import Client, Phase
from trajectories_sdk.testing import InMemoryServer

DECISION: dict[str, Any] = {
    "selection_rule": "cheapest",
    "reasoning_effort": "low",
    "candidates": [
        {"model": "small", "score": 0.8, "probability": 1, "eligible": True, "score_parts": {"price": 0.9}},
        {"model": "large", "eligible": False, "reason": "budget"},
    ],
    "exploration": {"strategy": "thompson-sampling", "samples": 10_000, "seed": 7},
    "keep_probability": 0.95,
    "selection_probability": 1,
}


class RateLimitedError(Exception):
    pass


def test_a_decision_is_recorded_as_it_was_given(client: Client) -> None:
    parent = uuid4()
    with client.trajectories.run("Add auth", policy="router@3", parent_id=parent) as run:
        with run.phase("implement", model="small", **DECISION) as phase:
            phase.usage(input_tokens=9, cache_write_input_tokens=7)
        phase.set(fit="underpowered", evidence={"log": "run 7"}, status_reason="no budget left")
        run.skip("review", reason="small change", selection_rule="tiny", keep_probability=0.25)
    stored = flushed_record(client, run)
    assert (stored.policy, stored.parent_id) == ("router@3", parent)
    implement, review = (phase.model_dump(mode="json", exclude_unset=True) for phase in stored.phases)
    assert {name: implement[name] for name in DECISION} == DECISION
    assert (implement["cache_write_input_tokens"], implement["fit"], implement["evidence"]) == (
        7,
        "underpowered",
        {"log": "run 7"},
    )
    assert implement["status_reason"] == "no budget left"
    assert "phase_id" not in implement
    assert (review["keep_probability"], review["selection_rule"]) == (0.25, "tiny")


def test_a_fallback_loop_records_its_attempts_and_the_model_that_answered() -> None:
    clock = ManualClock()
    run, records = clocked_run(clock)
    with run, run.phase("implement") as phase:
        for model in ("large", "medium", "small"):
            with suppress(RateLimitedError), phase.attempt(model, reason="escalation") as attempt:
                clock.ns += SECOND_NS
                attempt.usage(input_tokens=10, cost_usd=0.1)
                if model == "large":
                    raise RateLimitedError("later")
                break
    (implement,) = records[0]["phases"]
    assert implement["attempts"] == [
        {
            "model": "large",
            "outcome": "failure",
            "error": "RateLimitedError: later",
            "cost_usd": 0.1,
            "duration_ms": 1_000,
            "reason": "escalation",
        },
        {"model": "medium", "outcome": "success", "cost_usd": 0.1, "duration_ms": 1_000, "reason": "escalation"},
    ]
    assert (implement["requested_model"], implement["model"], implement["outcome"]) == ("large", "medium", "success")
    assert (implement["cost_usd"], implement["input_tokens"], records[0]["total_cost_usd"]) == (0.2, 20, 0.2)


def test_attempts_may_be_given_as_they_were(client: Client) -> None:
    with client.trajectories.run("Add auth") as run, run.phase("implement", model="large") as phase:
        phase.attempt("large", outcome="failure", error=TimeoutError("late"), cost_usd=Decimal("0.1"), duration_ms=5)
        phase.attempt("never entered")
        phase.attempt("small", outcome="success", cost_usd=0.2, reason="timeout")
    (implement,) = flushed_record(client, run).phases
    assert [one.model_dump(exclude_unset=True) for one in implement.attempts or ()] == [
        {"model": "large", "outcome": "failure", "error": "TimeoutError: late", "cost_usd": 0.1, "duration_ms": 5},
        {"model": "small", "outcome": "success", "cost_usd": 0.2, "reason": "timeout"},
    ]
    assert (implement.requested_model, implement.model, implement.cost_usd) == ("large", "small", 0.3)


def test_an_open_attempt_is_unknown_and_may_fail_without_raising() -> None:
    run, records = clocked_run(ManualClock())
    run._has_progress = True
    with run, run.phase("implement") as phase, phase.attempt("small") as attempt:
        with run.phase("lint"):
            pass
        attempt.fail("no answer")
        with pytest.raises(RuntimeError, match="only once"):
            attempt.__enter__()
    assert records[0]["phases"][0]["attempts"] == [{"model": "small", "outcome": "unknown"}]
    assert records[-1]["phases"][0]["attempts"] == [
        {"model": "small", "outcome": "failure", "error": "no answer", "duration_ms": 0}
    ]


def test_a_task_that_is_cancelled_leaves_a_cancelled_attempt(server: InMemoryServer) -> None:
    async def pipeline() -> None:
        async with server.async_client() as client:
            with suppress(asyncio.CancelledError):
                async with (
                    client.trajectories.run("Add auth") as run,
                    run.phase("implement") as phase,
                    phase.attempt("small"),
                ):
                    raise asyncio.CancelledError

    asyncio.run(pipeline())
    (stored,) = server.records
    assert [one.outcome for one in stored.phases[0].attempts or ()] == ["cancelled"]


def test_phases_get_ids_when_others_refer_to_them(client: Client) -> None:
    with client.trajectories.run("Add auth") as run:
        with run.phase("implement") as whole:
            with run.phase("backend", parent=whole) as backend:
                pass
            with run.phase("frontend", parent=whole) as frontend:
                pass
            run.skip("docs", parent=whole)
        with run.phase("test", depends_on=[backend, frontend, "lint-0"]):
            pass
        run.feedback(frontend, "implement", reason="broken")
        with run.phase("implement", phase_id="again") as again:
            assert again.id == "again"
    stored = flushed_record(client, run)
    assert [(phase.phase_id, phase.parent_phase_id, phase.depends_on) for phase in stored.phases] == [
        ("implement-1", None, None),
        ("backend-1", "implement-1", None),
        ("frontend-1", "implement-1", None),
        (None, "implement-1", None),
        (None, None, ["backend-1", "frontend-1", "lint-0"]),
        ("again", None, None),
    ]
    assert stored.feedback_loops
    (loop,) = stored.feedback_loops
    assert (loop.from_phase, loop.from_phase_id, loop.to_phase, loop.to_phase_id) == (
        "frontend",
        "frontend-1",
        "implement",
        None,
    )


def test_a_phase_that_has_not_begun_has_no_id(client: Client) -> None:
    with client.trajectories.run("Add auth") as run, pytest.raises(RuntimeError, match="when it begins"):
        run.phase("test", parent=run.phase("implement"))


def test_a_resumed_run_gives_new_phase_ids(client: Client) -> None:
    def part(error: BaseException | None) -> Phase:
        with suppress(KeyboardInterrupt), client.trajectories.run("Add auth", id=id_) as run:
            with run.phase("implement") as phase:
                assert phase.id
            with run.phase("approve"):
                if error:
                    raise error
        return phase

    id_ = uuid4()
    first, second = part(KeyboardInterrupt()), part(None)
    send_all(client.queue)
    assert (first.id, second.id) == ("implement-1", "implement-2")
    phases = client.trajectories.retrieve(id_).phases
    assert [phase.phase_id for phase in phases] == ["implement-1", None, "implement-2", None]


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        (
            {"candidates": [{"model": "a", "score_parts": {"x": "1", "y": 2}}]},
            [{"model": "a", "score_parts": {"y": 2}}],
        ),
        ({"attempts": [{"model": "a", "outcome": "lost"}, {"model": "b", "outcome": "success"}]}, None),
        ({"exploration": {"samples": 3}}, None),
        ({"fit": "perfect", "keep_probability": 1.5}, None),
        ({"evidence": {"log": 7}}, {"log": "7"}),
    ],
    ids=str,
)
def test_a_decision_that_the_store_refuses_is_left_out_and_the_run_is_kept(
    client: Client, fields: dict[str, Any], kept: Any
) -> None:
    with client.trajectories.run("Add auth") as run, run.phase("implement") as phase:
        phase.set(**fields)
    (stored,) = flushed_record(client, run).phases
    found = stored.model_dump(exclude_unset=True)
    (name, *others) = fields
    expected = [{"model": "b", "outcome": "success"}] if name == "attempts" else kept
    assert found.get(name) == expected
    assert not others or others[0] not in found
    assert client.queue.counters.left_out >= 1
