"""Cancelled and paused runs, and runs that go on."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import anyio
import pytest
from conftest import flushed_record

from trajectories_sdk import APIConnectionError, Client
from trajectories_sdk.testing import InMemoryServer


class GraphBubbleUp(Exception):
    pass


class GraphInterrupt(GraphBubbleUp):
    pass


class ParentCommand(GraphBubbleUp):
    pass


@pytest.mark.parametrize(
    ("error", "phase", "run", "text"),
    [
        (asyncio.CancelledError(), "cancelled", "unknown", "CancelledError"),
        (KeyboardInterrupt(), "cancelled", "unknown", "KeyboardInterrupt"),
        (GeneratorExit(), "cancelled", "unknown", "GeneratorExit"),
        (SystemExit(0), "cancelled", "unknown", "SystemExit: 0"),
        (SystemExit(2), "failure", "failure", "SystemExit: 2"),
        (GraphInterrupt("approve?"), "paused", "unknown", None),
        (ParentCommand(), "success", None, None),
        (BaseExceptionGroup("", [asyncio.CancelledError()]), "cancelled", "unknown", None),
        (BaseExceptionGroup("", [asyncio.CancelledError(), ValueError()]), "failure", "failure", None),
        (ValueError("bad"), "failure", "failure", "ValueError: bad"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_interruption_is_no_failure(
    client: Client, error: BaseException, phase: str, run: str | None, text: str | None
) -> None:
    recorder = client.trajectories.run("Add auth")
    with pytest.raises(type(error)), recorder, recorder.phase("spec"):
        raise error
    stored = flushed_record(client, recorder)
    assert (stored.phases[0].outcome, stored.outcome) == (phase, run)
    assert stored.phases[0].status_reason == ("GraphInterrupt: approve?" if phase == "paused" else None)
    if not isinstance(error, BaseExceptionGroup):
        assert (stored.phases[0].error, stored.error) == (text, text)


def _pause(client: Client, id_: Any) -> None:
    with pytest.raises(GraphInterrupt), client.trajectories.run("Add auth", id=id_, metadata={"a": 1}) as run:  # noqa: PT012
        for name in ("spec", "design", "implement"):
            with run.phase(name, model="m") as phase:
                phase.usage(cost_usd=0.5)
        run.feedback("design", "spec")
        run.set(build_passed=True)
        with run.phase("approve"):
            raise GraphInterrupt("approve?")


def _go_on(client: Client, id_: Any, **options: Any) -> Any:
    with (
        client.trajectories.run("Add auth", id=id_, metadata={"b": 2}, **options) as run,
        run.phase("approve") as phase,
    ):
        phase.usage(cost_usd=0.25)
    return flushed_record(client, run)


def _assert_whole(stored: Any) -> None:
    assert [(phase.phase_name, phase.outcome, phase.attempt) for phase in stored.phases] == [
        ("spec", "success", 1),
        ("design", "success", 1),
        ("implement", "success", 1),
        ("approve", "paused", 1),
        ("approve", "success", 2),
    ]
    assert (stored.total_phases, stored.total_cost_usd, stored.outcome) == (5, 1.75, None)
    assert (stored.build_passed, stored.metadata, len(stored.feedback_loops)) == (True, {"a": 1, "b": 2}, 1)
    assert stored.started_at < stored.phases[-1].started_at


def test_a_paused_run_resumes_under_its_id(client: Client) -> None:
    id_ = uuid4()
    _pause(client, id_)
    _assert_whole(_go_on(client, id_))


def test_another_process_resumes_from_the_stored_record(server: InMemoryServer) -> None:
    id_ = uuid4()
    paused = server.client()
    _pause(paused, id_)
    paused.close()
    _assert_whole(_go_on(server.client(), id_, resume=True))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_async_run_resumes_from_the_stored_record(server: InMemoryServer, backend: str) -> None:
    id_ = uuid4()
    paused = server.client()
    _pause(paused, id_)
    paused.close()

    async def go_on() -> None:
        client = server.async_client()
        run = client.trajectories.run("Add auth", id=id_, metadata={"b": 2}, resume=True, background=False)
        async with run, run.phase("approve") as phase:
            phase.usage(cost_usd=0.25)

    anyio.run(go_on, backend=backend)
    _assert_whole(server.records[0])


def test_an_ended_run_can_be_recorded_again_under_its_id(client: Client) -> None:
    id_ = uuid4()
    for name in ("spec", "design"):
        with client.trajectories.run("Add auth", id=id_) as run, run.phase(name):
            pass
    assert [phase.phase_name for phase in flushed_record(client, run).phases] == ["design"]


def test_a_run_to_resume_that_the_store_lacks_begins(client: Client) -> None:
    with client.trajectories.run("Add auth", id=uuid4(), resume=True) as run, run.phase("spec"):
        pass
    assert len(flushed_record(client, run).phases) == 1


def test_without_the_store_the_rest_is_a_run_of_its_own(
    server: InMemoryServer, caplog: pytest.LogCaptureFixture
) -> None:
    id_ = uuid4()
    paused = server.client()
    _pause(paused, id_)
    paused.close()
    client = server.client(max_retries=0)
    server.fail_next(503)
    stored = _go_on(client, id_, resume=True)
    assert stored.id != id_
    assert stored.metadata == {"b": 2, "trajectories:resumes": str(id_)}
    assert str(id_) in caplog.text
    assert len(server.records) == 2


def test_in_the_foreground_a_store_that_cannot_be_read_is_an_error(server: InMemoryServer) -> None:
    client = server.client(max_retries=0)
    server.drop_next()
    run = client.trajectories.run("Add auth", id=uuid4(), resume=True, background=False)
    with pytest.raises(APIConnectionError), run:
        pass
