"""The recorder: phases of a run."""

from __future__ import annotations

import asyncio
import threading
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from conftest import flushed_record

from trajectories_sdk import Client
from trajectories_sdk.testing import InMemoryServer
from trajectories_sdk.totals import MAX_ERROR_CHARS


def test_an_exception_fails_its_phase_and_propagates(client: Client) -> None:
    with client.trajectories.run("Add auth") as run, pytest.raises(ValueError, match="no"), run.phase("spec"):
        raise ValueError("no")
    trajectory = flushed_record(client, run)
    assert (trajectory.phases[0].outcome, trajectory.phases[0].error) == ("failure", "ValueError: no")
    assert (trajectory.outcome, trajectory.error) == (None, None)


def test_a_phase_may_fail_without_raising(client: Client) -> None:
    with client.trajectories.run("Add auth") as run:
        with run.phase("test") as phase:
            phase.fail("14 of 61 tests fail")
        with run.phase("test") as phase:
            phase.fail(TimeoutError("late"))
    phases = flushed_record(client, run).phases
    assert [phase.outcome for phase in phases] == ["failure", "failure"]
    assert [phase.error for phase in phases] == ["14 of 61 tests fail", "TimeoutError: late"]


def test_the_text_of_an_error_is_bounded(client: Client) -> None:
    with client.trajectories.run("Add auth") as run, pytest.raises(ValueError, match="x"), run.phase("spec"):
        raise ValueError("x" * 100_000)
    assert len(flushed_record(client, run).phases[0].error or "") == MAX_ERROR_CHARS


def test_an_error_whose_str_fails_is_recorded_by_its_name(client: Client) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    with client.trajectories.run("Add auth") as run, pytest.raises(Mute), run.phase("spec"):
        raise Mute
    assert flushed_record(client, run).phases[0].error == "Mute"


def test_a_skipped_phase_is_written_down_with_its_reason(client: Client) -> None:
    with client.trajectories.run("Fix a typo") as run:
        run.skip("design", reason="one string changes", agent="architect", metadata={"rule": 3})
        with run.phase("design"):
            pass
    skipped, ran = flushed_record(client, run).phases
    assert (skipped.outcome, skipped.skip_reason, skipped.agent) == ("skipped", "one string changes", "architect")
    assert (skipped.attempt, skipped.duration_ms, skipped.metadata) == (None, None, {"rule": 3})
    assert ran.attempt == 1


def test_phases_of_one_name_count_as_attempts_by_default(client: Client) -> None:
    with client.trajectories.run("Add auth") as run:
        for name, attempt in (
            ("implement", None),
            ("review", None),
            ("implement", None),
            ("review", 9),
            ("review", None),
        ):
            with run.phase(name, attempt=attempt):
                pass
    assert [phase.attempt for phase in flushed_record(client, run).phases] == [1, 1, 2, 9, 3]


def test_usage_adds_up_exactly_and_unknown_values_stay_unknown(client: Client) -> None:
    with client.trajectories.run("Add auth") as run, run.phase("spec") as phase:
        for _ in range(10):
            phase.usage(input_tokens=3, cost_usd=0.1)
        phase.usage(output_tokens=0, cost_usd=Decimal("0.000000001"), reasoning_tokens=None)
    phase_ = flushed_record(client, run).phases[0]
    assert (phase_.input_tokens, phase_.output_tokens, phase_.cost_usd) == (30, 0, 1.000000001)
    assert (phase_.reasoning_tokens, phase_.cached_input_tokens) == (None, None)


@pytest.mark.parametrize("value", ["many", -1, float("nan"), float("inf"), True, object()])
def test_an_invalid_usage_number_is_left_out_and_logged(
    client: Client, caplog: pytest.LogCaptureFixture, value: Any
) -> None:
    with client.trajectories.run("Add auth") as run, run.phase("spec") as phase:
        phase.usage(input_tokens=value, output_tokens=2, cost_usd=value)
    phase_ = flushed_record(client, run).phases[0]
    assert (phase_.input_tokens, phase_.output_tokens, phase_.cost_usd) == (None, 2, None)
    assert "must be a whole number" in caplog.text


def test_tools_are_listed_once_and_steps_add_up(client: Client) -> None:
    with client.trajectories.run("Add auth") as run, run.phase("spec") as phase:
        for name in ("grep", "file_read", "grep"):
            phase.tool(name)
            phase.step()
        phase.step(4)
    phase_ = flushed_record(client, run).phases[0]
    assert (phase_.tools_used, phase_.steps_taken) == (["grep", "file_read"], 7)


def test_after_fallbacks_the_requested_model_is_the_first(client: Client) -> None:
    with client.trajectories.run("Add auth") as run, run.phase("spec", model="first") as phase:
        phase.fall_back_to("second")
        phase.fall_back_to("third")
    phase_ = flushed_record(client, run).phases[0]
    assert (phase_.requested_model, phase_.model) == ("first", "third")


def test_phases_of_threads_keep_the_order_in_which_they_began(client: Client) -> None:
    with client.trajectories.run("Add auth") as run:
        turns = [threading.Event() for _ in range(4)]

        def work(number: int) -> None:
            turns[number].wait()
            with run.phase(f"p{number}") as phase:
                turns[number + 1].set()
                turns[3].wait()  # all have begun, and end in whatever order
                phase.usage(input_tokens=number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        turns[0].set()
        for thread in threads:
            thread.join()
    phases = flushed_record(client, run).phases
    assert [(phase.phase_name, phase.input_tokens) for phase in phases] == [("p0", 0), ("p1", 1), ("p2", 2)]


def test_usage_of_many_threads_at_once_is_not_lost(client: Client) -> None:
    with client.trajectories.run("Add auth") as run, run.phase("spec") as phase:

        def work() -> None:
            for _ in range(500):
                phase.usage(input_tokens=1, cost_usd=0.1)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    phase_ = flushed_record(client, run).phases[0]
    assert (phase_.input_tokens, phase_.cost_usd) == (2_000, 200)


def test_a_run_and_its_phases_work_over_tasks(server: InMemoryServer) -> None:
    async def pipeline() -> UUID:
        async with server.async_client() as client:
            async with client.trajectories.run("Add auth") as run:
                begun = asyncio.Event()

                async def first() -> None:
                    async with run.phase("spec"):
                        begun.set()
                        await asyncio.sleep(0)

                async def second() -> None:
                    await begun.wait()
                    async with run.phase("design"):
                        pass

                await asyncio.gather(second(), first())
            return run.id

    id_ = asyncio.run(pipeline())
    (trajectory,) = server.records
    assert trajectory.id == id_
    assert [phase.phase_name for phase in trajectory.phases] == ["spec", "design"]


def test_a_cancelled_task_leaves_a_cancelled_phase(server: InMemoryServer) -> None:
    async def pipeline() -> None:
        async with server.async_client() as client:
            begun = asyncio.Event()

            async def work() -> None:
                async with client.trajectories.run("Add auth") as run, run.phase("spec"):
                    begun.set()
                    await asyncio.Event().wait()

            task = asyncio.create_task(work())
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(pipeline())
    (trajectory,) = server.records
    assert (trajectory.outcome, trajectory.phases[0].outcome) == ("unknown", "cancelled")
    assert trajectory.phases[0].error == "CancelledError"
