"""The recorder: runs, progress and error handling."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from conftest import SECOND_NS, ManualClock, clocked_run, flushed_record

from trajectories_sdk import BadRequestError, Client
from trajectories_sdk.testing import InMemoryServer

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
    trajectory = flushed_record(client, run)
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


def test_durations_use_the_monotonic_clock() -> None:
    clock = ManualClock()
    run, records = clocked_run(clock)
    with run:
        clock.ns += SECOND_NS
        with run.phase("spec"):
            clock.time_of_day -= timedelta(hours=1)
            clock.ns += 1_500_000
        clock.ns += SECOND_NS
    (record,) = records
    assert record["started_at"] == datetime(2026, 11, 25, 9, 0, tzinfo=UTC)
    assert record["ended_at"] == datetime(2026, 11, 25, 9, 0, 2, 1_500, tzinfo=UTC)
    assert record["total_duration_ms"] == 2001.5
    assert record["phases"][0]["started_at"] == datetime(2026, 11, 25, 9, 0, 1, tzinfo=UTC)
    assert record["phases"][0]["duration_ms"] == 1.5


def test_the_total_duration_is_not_the_sum_of_parallel_phases() -> None:
    clock = ManualClock()
    run, records = clocked_run(clock)
    with run, run.phase("spec"), run.phase("design"):
        clock.ns += SECOND_NS
    assert records[0]["total_duration_ms"] == 1000
    assert [phase["duration_ms"] for phase in records[0]["phases"]] == [1000, 1000]


def test_totals_add_known_values_only(client: Client) -> None:
    with client.trajectories.run("Add auth") as run:
        for cost_usd in (0.1, 0.2, None):
            with run.phase("spec") as phase:
                phase.usage(cost_usd=cost_usd)
        run.skip("design", reason="trivial")
    trajectory = flushed_record(client, run)
    assert (trajectory.total_cost_usd, trajectory.total_phases, trajectory.phases_skipped) == (0.3, 4, 1)


def test_an_unknown_cost_is_left_out(client: Client) -> None:
    with client.trajectories.run("Add auth") as run, run.phase("spec"):
        pass
    trajectory = flushed_record(client, run)
    assert trajectory.total_cost_usd is None
    assert trajectory.phases[0].cost_usd is None
    assert trajectory.phases[0].input_tokens is None


def test_the_outcome_of_a_run_that_ends_well_is_the_servers_to_derive() -> None:
    run, records = clocked_run(ManualClock())
    with run, run.phase("spec"):
        pass
    assert "outcome" not in records[0]


def test_an_exception_fails_the_run_and_propagates(client: Client) -> None:
    run = client.trajectories.run("Add auth")
    with pytest.raises(ValueError, match="no"), run:
        raise ValueError("no")
    trajectory = flushed_record(client, run)
    assert (trajectory.outcome, trajectory.error) == ("failure", "ValueError: no")


def test_set_values_override_measured_ones(client: Client) -> None:
    run = client.trajectories.run("Add auth")
    with pytest.raises(KeyError), run:  # noqa: PT012  it is what happens before that counts
        run.set(outcome="partial", total_cost_usd=5, total_duration_ms=7, build_passed=True, request_type="bugfix")
        with run.phase("spec", model="a") as phase:
            phase.usage(input_tokens=3, cost_usd=1)
            phase.set(duration_ms=9, input_tokens=4, outcome="partial", attempt=7, model="b")
        raise KeyError
    trajectory = flushed_record(client, run)
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
    clock = ManualClock()
    run, records = clocked_run(clock)
    with run:
        clock.ns += SECOND_NS
        run.feedback("review", "implement", reason="no tests")
    at = datetime(2026, 11, 25, 9, 0, 1, tzinfo=UTC)
    loop = {"from_phase": "review", "to_phase": "implement", "reason": "no tests", "at": at}
    assert records[0]["feedback_loops"] == [loop]


# --- Progress


def test_with_progress_a_killed_run_leaves_its_finished_phases(client: Client) -> None:
    run = client.trajectories.run("Add auth", progress=True).__enter__()
    open_ = run.phase("design").__enter__()
    with run.phase("spec"):
        pass
    trajectory = flushed_record(client, run)
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


# --- Errors


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


def test_calls_after_the_end_are_logged_and_not_recorded(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with client.trajectories.run("Add auth") as run:
        late = run.phase("spec").__enter__()
    late.__exit__(None, None, None)
    run.set(build_passed=True)
    with run.phase("design"):
        pass
    assert caplog.text.count("has already ended") >= 3
    trajectory = flushed_record(client, run)
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
