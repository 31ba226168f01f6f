"""The recorder: what a pipeline's run looks like in the store."""

from __future__ import annotations

import asyncio
import logging
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from trajectory_sdk import BadRequestError, Client, StoredTrajectory
from trajectory_sdk.recorder import Delivery, Run
from trajectory_sdk.testing import InMemoryServer
from trajectory_sdk.totals import MAX_ERROR_CHARS, Clock

SECOND_NS = 1_000_000_000


def recorded(client: Client, run: Run) -> StoredTrajectory:
    """As the server has it."""
    assert client.queue.flush()
    return client.trajectories.retrieve(run.id)


class Hands:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.of_day = datetime(2026, 11, 25, 9, 0, tzinfo=UTC)
        self.ns = 0

    def clock(self) -> Clock:
        return Clock(now=lambda: self.of_day, monotonic_ns=lambda: self.ns)


def written(hands: Hands) -> tuple[Run, list[dict[str, Any]]]:
    """A run by this clock, and what is recorded of it."""
    records: list[Any] = []
    run = Run(None, {"request_summary": "Add auth"}, Delivery(records.append), has_progress=False, clock=hands.clock())
    return run, records


# --- A run


def test_a_run_is_recorded_at_its_end(client: Client) -> None:
    id_ = uuid4()
    run = client.trajectories.run(
        "Add auth", id=id_, request_type="feature", source="tests", project="shop", planned_phases=["spec"],
        session_id="s", trace_id="t", tags=["x"], external_refs={"commit": "5f0c"}, metadata={"team": "a"},
    )  # fmt: skip
    phase = run.phase(
        "spec", agent="pm", model="a/b", model_selection_method="thompson-sampling",
        candidates=[{"model": "a/b", "score": 0.5}], selection_probability=0.5, metadata={"k": 1},
    )  # fmt: skip
    with run, phase:
        pass
    trajectory = recorded(client, run)
    assert trajectory.id == run.id == id_
    assert trajectory.model_dump(
        exclude_none=True, include={"request_type", "source", "project", "planned_phases"}
    ) == {
        "request_type": "feature",
        "source": "tests",
        "project": "shop",
        "planned_phases": ["spec"],
    }
    assert (trajectory.session_id, trajectory.trace_id, trajectory.tags) == ("s", "t", ["x"])
    assert (trajectory.external_refs, trajectory.metadata) == ({"commit": "5f0c"}, {"team": "a"})
    (stored,) = trajectory.phases
    assert (stored.agent, stored.model, stored.model_selection_method) == ("pm", "a/b", "thompson-sampling")
    assert (stored.outcome, stored.attempt, stored.selection_probability) == ("success", 1, 0.5)
    assert stored.candidates is not None
    assert stored.candidates[0].model == "a/b"
    assert stored.metadata == {"k": 1}


def test_durations_go_by_the_clock_that_nobody_sets() -> None:
    hands = Hands()
    run, records = written(hands)
    with run:
        hands.ns += SECOND_NS
        with run.phase("spec"):
            hands.of_day -= timedelta(hours=1)
            hands.ns += 1_500_000
        hands.ns += SECOND_NS
    (record,) = records
    assert record["started_at"] == datetime(2026, 11, 25, 9, 0, tzinfo=UTC)
    assert record["ended_at"] == datetime(2026, 11, 25, 9, 0, 2, 1_500, tzinfo=UTC)
    assert record["total_duration_ms"] == 2001.5
    assert record["phases"][0]["started_at"] == datetime(2026, 11, 25, 9, 0, 1, tzinfo=UTC)
    assert record["phases"][0]["duration_ms"] == 1.5


def test_the_total_duration_is_not_the_sum_of_parallel_phases() -> None:
    hands = Hands()
    run, records = written(hands)
    with run, run.phase("spec"), run.phase("design"):
        hands.ns += SECOND_NS
    assert records[0]["total_duration_ms"] == 1000
    assert [phase["duration_ms"] for phase in records[0]["phases"]] == [1000, 1000]


def test_totals_are_of_what_is_known(client: Client) -> None:
    with client.trajectories.run("Add auth") as run:
        for cost_usd in (0.1, 0.2, None):
            with run.phase("spec") as phase:
                phase.usage(cost_usd=cost_usd)
        run.skip("design", reason="trivial")
    trajectory = recorded(client, run)
    assert (trajectory.total_cost_usd, trajectory.total_phases, trajectory.phases_skipped) == (0.3, 4, 1)


def test_a_cost_that_nobody_knows_is_left_out(client: Client) -> None:
    with client.trajectories.run("Add auth") as run, run.phase("spec"):
        pass
    trajectory = recorded(client, run)
    assert trajectory.total_cost_usd is None
    assert trajectory.phases[0].cost_usd is None
    assert trajectory.phases[0].input_tokens is None


def test_the_outcome_of_a_run_that_ends_well_is_the_servers_to_derive() -> None:
    run, records = written(Hands())
    with run, run.phase("spec"):
        pass
    assert "outcome" not in records[0]


def test_an_exception_fails_the_run_and_goes_through(client: Client) -> None:
    run = client.trajectories.run("Add auth")
    with pytest.raises(ValueError, match="no"), run:
        raise ValueError("no")
    trajectory = recorded(client, run)
    assert (trajectory.outcome, trajectory.error) == ("failure", "ValueError: no")


def test_what_is_set_stands_over_what_is_measured(client: Client) -> None:
    run = client.trajectories.run("Add auth")
    with pytest.raises(KeyError), run:  # noqa: PT012  it is what happens before that counts
        run.set(outcome="partial", total_cost_usd=5, total_duration_ms=7, build_passed=True, request_type="bugfix")
        with run.phase("spec", model="a") as phase:
            phase.usage(input_tokens=3, cost_usd=1)
            phase.set(duration_ms=9, input_tokens=4, outcome="partial", attempt=7, model="b")
        raise KeyError
    trajectory = recorded(client, run)
    assert (trajectory.outcome, trajectory.error, trajectory.build_passed) == ("partial", "KeyError", True)
    assert (trajectory.total_cost_usd, trajectory.total_duration_ms) == (5, 7)
    assert trajectory.request_type == "bugfix"
    phase_ = trajectory.phases[0]
    assert (phase_.duration_ms, phase_.input_tokens, phase_.outcome, phase_.attempt) == (9, 4, "partial", 7)
    assert phase_.model == "b"


def test_a_field_that_the_contract_does_not_have_is_an_error_at_once(client: Client) -> None:
    with client.trajectories.run("Add auth") as run, run.phase("spec") as phase:
        with pytest.raises(TypeError, match="did you mean 'build_passed'"):
            run.set(build_pased=True)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="did you mean 'duration_ms'"):
            phase.set(duration=1)  # type: ignore[call-arg]
        for name in ("id", "phases", "recorded_at", "phase_name"):
            with pytest.raises(TypeError):
                run.set(**{name: None})  # type: ignore[arg-type]


def test_feedback_is_written_down_with_its_time() -> None:
    hands = Hands()
    run, records = written(hands)
    with run:
        hands.ns += SECOND_NS
        run.feedback("review", "implement", reason="no tests")
    at = datetime(2026, 11, 25, 9, 0, 1, tzinfo=UTC)
    loop = {"from_phase": "review", "to_phase": "implement", "reason": "no tests", "at": at}
    assert records[0]["feedback_loops"] == [loop]


# --- Phases


def test_an_exception_fails_its_phase_and_goes_through(client: Client) -> None:
    with client.trajectories.run("Add auth") as run, pytest.raises(ValueError, match="no"), run.phase("spec"):
        raise ValueError("no")
    trajectory = recorded(client, run)
    assert (trajectory.phases[0].outcome, trajectory.phases[0].error) == ("failure", "ValueError: no")
    assert (trajectory.outcome, trajectory.error) == (None, None)


def test_a_phase_may_fail_without_raising(client: Client) -> None:
    with client.trajectories.run("Add auth") as run:
        with run.phase("test") as phase:
            phase.fail("14 of 61 tests fail")
        with run.phase("test") as phase:
            phase.fail(TimeoutError("late"))
    phases = recorded(client, run).phases
    assert [phase.outcome for phase in phases] == ["failure", "failure"]
    assert [phase.error for phase in phases] == ["14 of 61 tests fail", "TimeoutError: late"]


def test_the_text_of_an_error_is_bounded(client: Client) -> None:
    with client.trajectories.run("Add auth") as run, pytest.raises(ValueError, match="x"), run.phase("spec"):
        raise ValueError("x" * 100_000)
    assert len(recorded(client, run).phases[0].error or "") == MAX_ERROR_CHARS


def test_an_error_that_cannot_say_what_it_is_is_told_by_its_name(client: Client) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    with client.trajectories.run("Add auth") as run, pytest.raises(Mute), run.phase("spec"):
        raise Mute
    assert recorded(client, run).phases[0].error == "Mute"


def test_a_skipped_phase_is_written_down_with_its_reason(client: Client) -> None:
    with client.trajectories.run("Fix a typo") as run:
        run.skip("design", reason="one string changes", agent="architect", metadata={"rule": 3})
        with run.phase("design"):
            pass
    skipped, ran = recorded(client, run).phases
    assert (skipped.outcome, skipped.skip_reason, skipped.agent) == ("skipped", "one string changes", "architect")
    assert (skipped.attempt, skipped.duration_ms, skipped.metadata) == (None, None, {"rule": 3})
    assert ran.attempt == 1


def test_phases_of_one_name_are_counted_as_attempts_unless_told_otherwise(client: Client) -> None:
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
    assert [phase.attempt for phase in recorded(client, run).phases] == [1, 1, 2, 9, 3]


def test_usage_adds_up_exactly_and_what_is_unknown_stays_unknown(client: Client) -> None:
    with client.trajectories.run("Add auth") as run, run.phase("spec") as phase:
        for _ in range(10):
            phase.usage(input_tokens=3, cost_usd=0.1)
        phase.usage(output_tokens=0, cost_usd=Decimal("0.000000001"), reasoning_tokens=None)
    phase_ = recorded(client, run).phases[0]
    assert (phase_.input_tokens, phase_.output_tokens, phase_.cost_usd) == (30, 0, 1.000000001)
    assert (phase_.reasoning_tokens, phase_.cached_input_tokens) == (None, None)


@pytest.mark.parametrize("value", ["many", -1, float("nan"), float("inf"), True, object()])
def test_usage_that_is_no_number_is_left_out_and_hurts_nobody(
    client: Client, caplog: pytest.LogCaptureFixture, value: Any
) -> None:
    with client.trajectories.run("Add auth") as run, run.phase("spec") as phase:
        phase.usage(input_tokens=value, output_tokens=2, cost_usd=value)
    phase_ = recorded(client, run).phases[0]
    assert (phase_.input_tokens, phase_.output_tokens, phase_.cost_usd) == (None, 2, None)
    assert "must be a whole number" in caplog.text


def test_tools_are_listed_once_and_steps_add_up(client: Client) -> None:
    with client.trajectories.run("Add auth") as run, run.phase("spec") as phase:
        for name in ("grep", "file_read", "grep"):
            phase.tool(name)
            phase.step()
        phase.step(4)
    phase_ = recorded(client, run).phases[0]
    assert (phase_.tools_used, phase_.steps_taken) == (["grep", "file_read"], 7)


def test_after_fallbacks_the_requested_model_is_the_first(client: Client) -> None:
    with client.trajectories.run("Add auth") as run, run.phase("spec", model="first") as phase:
        phase.fall_back_to("second")
        phase.fall_back_to("third")
    phase_ = recorded(client, run).phases[0]
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
    phases = recorded(client, run).phases
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
    phase_ = recorded(client, run).phases[0]
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


def test_a_cancelled_task_leaves_a_failed_run(server: InMemoryServer) -> None:
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
    assert (trajectory.outcome, trajectory.phases[0].outcome) == ("failure", "failure")
    assert trajectory.phases[0].error == "CancelledError"


# --- Progress


def test_with_progress_a_run_that_is_killed_leaves_what_was_done(client: Client) -> None:
    run = client.trajectories.run("Add auth", progress=True).__enter__()
    open_ = run.phase("design").__enter__()
    with run.phase("spec"):
        pass
    trajectory = recorded(client, run)
    assert trajectory.outcome == "unknown"
    assert [(phase.phase_name, phase.outcome) for phase in trajectory.phases] == [("design", None), ("spec", "success")]
    assert (trajectory.ended_at, trajectory.total_duration_ms, trajectory.phases[0].duration_ms) == (None, None, None)
    open_.__exit__(None, None, None)
    run.__exit__(None, None, None)


def test_with_progress_the_last_word_wins(server: InMemoryServer, client: Client) -> None:
    with client.trajectories.run("Add auth", progress=True, background=False) as run:
        for name in ("spec", "design"):
            with run.phase(name):
                pass
    assert len(server.requests) == 3
    (trajectory,) = server.records
    assert trajectory.ended_at is not None
    assert (trajectory.outcome, trajectory.total_phases) == (None, 2)


def test_an_async_run_records_progress_in_the_foreground(server: InMemoryServer) -> None:
    async def pipeline() -> None:
        async with (
            server.async_client() as client,
            client.trajectories.run("Add auth", progress=True, background=False) as run,
        ):
            async with run.phase("spec"):
                pass
            assert [trajectory.outcome for trajectory in server.records] == ["unknown"]

    asyncio.run(pipeline())
    assert [trajectory.total_phases for trajectory in server.records] == [1]


# --- In the way, or not


def test_in_the_foreground_errors_are_raised(client: Client) -> None:
    run = client.trajectories.run("Add auth", background=False)
    with pytest.raises(BadRequestError), run:
        run.set(files_changed=-1)


def test_in_the_foreground_the_error_of_the_pipeline_comes_first(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    run = client.trajectories.run("Add auth", background=False)
    with pytest.raises(ValueError, match="of the pipeline"), run:  # noqa: PT012  it is what happens before that counts
        run.set(files_changed=-1)
        raise ValueError("of the pipeline")
    assert "was not recorded: BadRequestError" in caplog.text


def test_a_blocking_client_records_in_the_foreground_of_async_code(server: InMemoryServer) -> None:
    async def pipeline() -> None:
        async with server.client().trajectories.run("Add auth", background=False):
            assert server.records == []

    asyncio.run(pipeline())
    assert len(server.records) == 1


def test_in_the_foreground_an_async_client_wants_async_with(server: InMemoryServer) -> None:
    run = server.async_client().trajectories.run("Add auth", background=False)
    with pytest.raises(TypeError, match="async with"), run:
        pass


def test_a_bad_record_in_the_background_hurts_nobody(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with client.trajectories.run("Add auth", metadata={"what": object()}), caplog.at_level(logging.WARNING):
        pass
    assert client.queue.counters.refused == 1
    assert "cannot be written as JSON" in caplog.text


def test_what_comes_after_the_end_is_not_recorded_and_logged(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with client.trajectories.run("Add auth") as run:
        late = run.phase("spec").__enter__()
    late.__exit__(None, None, None)
    run.set(build_passed=True)
    with run.phase("design"):
        pass
    assert caplog.text.count("has already ended") >= 3
    trajectory = recorded(client, run)
    assert trajectory.build_passed is None
    assert [(phase.phase_name, phase.outcome) for phase in trajectory.phases] == [("spec", None)]


def test_a_run_begins_before_its_phases_and_only_once(client: Client) -> None:
    run = client.trajectories.run("Add auth")
    with pytest.raises(RuntimeError, match="has not begun"), run.phase("spec"):
        pass
    with run:
        phase = run.phase("spec")
        with phase:
            pass
        with pytest.raises(RuntimeError, match="entered only once"), phase:
            pass
    with pytest.raises(RuntimeError, match="entered only once"), run:
        pass


def test_an_id_that_is_no_uuid_is_an_error_at_once(client: Client) -> None:
    with pytest.raises(ValueError, match="UUID"):
        client.trajectories.run("Add auth", id="run-7")
