"""Any value of a caller is recorded as the closest JSON, and counted."""

from __future__ import annotations

import dataclasses
import enum
import logging
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

import pytest
from conftest import flushed_record, send_all, trajectory
from pydantic import BaseModel

from trajectories_sdk import BackgroundQueue, BadRequestError, Client
from trajectories_sdk.adjustments import MAX_RECORD_BYTES, PHASES_LEFT_OUT
from trajectories_sdk.testing import InMemoryServer

ID = UUID("0c4f0a4e-55a5-4f0d-9f0a-1d2f3a4b5c6d")
CYCLE: list[Any] = [1]
CYCLE.append(CYCLE)


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


class Hostile:
    """An object that raises whatever is asked of it."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


@dataclasses.dataclass
class Point:
    x: int
    where: PurePosixPath


class Model(BaseModel):
    a: Any


EXACT: list[tuple[Any, Any]] = [
    (PurePosixPath("a/b"), "a/b"),
    (date(2026, 1, 5), "2026-01-05"),
    (datetime(2026, 1, 5, tzinfo=UTC), "2026-01-05T00:00:00Z"),
    (Point(1, PurePosixPath("c")), {"x": 1, "where": "c"}),
    (Model(a=Point(1, PurePosixPath("c"))), {"a": {"x": 1, "where": "c"}}),
    ((1, 2), [1, 2]),
    (frozenset({"b", "a"}), ["a", "b"]),
    (Color.RED, "red"),
    (Level.HIGH, 3),
    (Decimal("0.25"), 0.25),
    (Fraction(1, 4), 0.25),
    (ID, str(ID)),
    ({1: "a", None: "b", Color.RED: "c", ID: "d"}, {"1": "a", "null": "b", "red": "c", str(ID): "d"}),
    ("\ud83d\ude00 é", "😀 é"),
]
CLOSEST: list[tuple[Any, Any]] = [
    ("a\0b", "a\ufffdb"),
    ("a\ud800b", "a\ufffdb"),
    (float("nan"), None),
    (float("-inf"), None),
    (Decimal("NaN"), None),
    (2**80, str(2**80)),
    (10**5000, None),
    (b"caf\xe9\0", "caf\\xe9\ufffd"),
    (ValueError("bad \0"), "ValueError: bad \ufffd"),
    ({(1, 2): "a"}, {"(1, 2)": "a"}),
    ({1: "a", "1": "b"}, {"1": "a", "1 (2)": "b"}),
    (CYCLE, [1, None]),
    (timedelta(seconds=5), "datetime.timedelta(seconds=5)"),
    (Unprintable(), "<Unprintable>"),
]


@pytest.mark.parametrize(("value", "written"), EXACT, ids=lambda value: type(value).__name__)
def test_a_value_with_a_json_form_is_written_exactly(client: Client, value: Any, written: Any) -> None:
    with client.trajectories.run("Add auth", metadata={"it": value}) as run:
        pass
    assert flushed_record(client, run).metadata == {"it": written}


@pytest.mark.parametrize(("value", "written"), CLOSEST, ids=lambda value: type(value).__name__)
def test_any_other_value_becomes_the_closest_json_and_is_counted(client: Client, value: Any, written: Any) -> None:
    with client.trajectories.run("Add auth", metadata={"it": value}) as run:
        pass
    assert flushed_record(client, run).metadata == {"it": written}
    assert client.queue.counters.replaced >= 1


def test_a_kind_of_value_is_logged_once(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        client.trajectories.enqueue(trajectory(metadata={"a": b"x", "b": b"y", "c": float("nan")}))
    assert client.queue.counters.replaced == 9
    assert [message.count("bytes") for message in caplog.messages] == [1, 0]
    assert "NaN" in caplog.messages[1]


@pytest.mark.parametrize(
    "odd",
    [Unprintable, Hostile, CYCLE, b"\xff", 2**80, float("nan"), "\0\ud800", ("a",), {}],
    ids=lambda odd: type(odd).__name__,
)
def test_an_odd_value_in_any_call_of_a_run_keeps_the_run(client: Client, odd: Any) -> None:
    odd = odd() if isinstance(odd, type) else odd
    odd_fields: Any = {"error": odd, "tags": [odd], "files_changed": odd, "external_refs": {"pr": odd}}
    with client.trajectories.run(odd, source=odd, planned_phases=[odd], metadata={"x": odd}) as run:
        with run.phase(odd, agent=odd, model=odd, candidates=[odd], selection_probability=odd) as phase:
            with phase.attempt(odd) as attempt:
                attempt.usage(output_tokens=odd)
            phase.usage(input_tokens=odd, cost_usd=odd)
            phase.tool(odd)
            phase.step(odd)
            phase.fall_back_to(odd)
            phase.fail(odd)
        with run.phase("code", parent=odd, depends_on=[odd], exploration=odd, keep_probability=odd):
            pass
        with run.phase("test", phase_id=odd, depends_on=odd):
            pass
        run.skip("design", reason=odd, parent=odd)
        run.feedback(odd, odd, reason=odd)
        run.set(**odd_fields)
    stored = flushed_record(client, run)
    assert len(stored.phases) == 4
    assert stored.phases[0].outcome == "failure"
    assert (client.queue.counters.sent, client.queue.counters.refused) == (1, 0)


def test_a_run_in_the_foreground_is_kept_too(server: InMemoryServer, client: Client) -> None:
    with client.trajectories.run("a\0b", metadata={"it": object}, background=False):
        pass
    assert server.records[0].metadata == {"it": "<class 'object'>"}
    assert client.queue.counters.replaced == 2


def test_texts_are_cut_where_the_record_would_be_too_large(client: Client) -> None:
    with client.trajectories.run("Add auth", metadata={"log": "x" * 2 * MAX_RECORD_BYTES, "note": "short"}) as run:
        pass
    metadata = flushed_record(client, run).metadata
    assert metadata == {"log": "x" * 10_000 + "…", "note": "short"}


def test_one_list_that_is_shared_many_times_is_cut(client: Client) -> None:
    shared: list[Any] = []
    for _ in range(40):
        shared = [shared, shared]
    client.trajectories.enqueue(trajectory(metadata={"it": shared}))
    assert client.queue.counters.refused == 0
    assert client.queue.counters.replaced > 0


# --- Fields that the server refuses


def test_a_field_that_the_server_refuses_is_left_out_and_named(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        with client.trajectories.run("Add auth") as run:
            with run.phase("spec", selection_probability=1.4, model="m"):
                pass
            with run.phase("review", selection_probability=0.5):
                pass
            run.set(files_changed=-1, build_passed=True)
        stored = flushed_record(client, run)
        assert [phase.selection_probability for phase in stored.phases] == [None, 0.5]
        assert (stored.phases[0].model, stored.build_passed, stored.files_changed) == ("m", True, None)
    counters = client.queue.counters
    assert (counters.sent, counters.refused, counters.left_out) == (2, 0, 4)
    assert [caplog.text.count(path) for path in ("phases[0].selection_probability", "files_changed")] == [1, 1]


REFUSED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"unknown.key": 1, "source": "kept"}, {"source": "kept"}),
    ({"request_summary": None}, {"request_summary": ""}),
    ({"request_summary": ["a"]}, {"request_summary": '["a"]'}),
    ({"source": 7}, {"source": "7"}),
    ({"source": "x" * 600}, {"source": "x" * 512}),
    ({"tags": ["a"] * 300}, {"tags": ["a"] * 200}),
    ({"tags": ["a", None, "b"]}, {"tags": ["a", "b"]}),
    ({"outcome": "won"}, {"outcome": None}),
    ({"started_at": "yesterday"}, {"started_at": None}),
    ({"external_refs": {"a.b[0]": None, "pr": "1"}}, {"external_refs": {"pr": "1"}}),
    ({"phases": "none"}, {"phases": []}),
    ({"id": "run-7"}, {}),
]


@pytest.mark.parametrize(("sent", "stored"), REFUSED, ids=lambda fields: next(iter(fields), ""))
def test_the_rest_of_a_record_with_a_refused_field_is_stored(
    server: InMemoryServer, queue: BackgroundQueue, sent: dict[str, Any], stored: dict[str, Any]
) -> None:
    queue.enqueue(trajectory(**sent))
    send_all(queue)
    (record,) = server.records
    assert {name: getattr(record, name) for name in stored} == stored


def test_phases_without_a_name_or_of_another_type_are_mended(server: InMemoryServer, queue: BackgroundQueue) -> None:
    candidates = [{"score": 1}, {"model": "m", "probability": 2}]
    queue.enqueue(trajectory(phases=[{"model": "m"}, 7, {"phase_name": "spec", "candidates": candidates}]))
    send_all(queue)
    (record,) = server.records
    assert [phase.phase_name for phase in record.phases] == ["unknown", "spec"]
    assert [one.model for one in record.phases[1].candidates or ()] == ["m"]


def test_a_list_with_many_refused_items_is_left_out(server: InMemoryServer, queue: BackgroundQueue) -> None:
    """An answer names at most so many problems, so the whole list goes after some attempts."""
    queue.enqueue(trajectory(phases=[{"phase_name": "spec", "tools_used": [[]] * 20_000, "model": "m"}]))
    send_all(queue)
    assert server.records[0].phases[0].model == "m"


def test_blocking_calls_still_raise_refusals_of_the_server(client: Client) -> None:
    bad = {"phase_name": "spec", "selection_probability": 1.4}
    with pytest.raises(BadRequestError, match="selection_probability"):
        client.trajectories.record(trajectory(phases=[bad]))


# --- More phases than the server accepts


def test_the_first_200_phases_are_kept_with_the_totals_of_all(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with client.trajectories.run("Add auth", metadata={"own": 1}) as run, caplog.at_level(logging.WARNING):
        for at in range(250):
            with run.phase(f"phase {at}") as phase:
                phase.usage(cost_usd=0.5)
        run.skip("last")
    stored = flushed_record(client, run)
    assert [phase.phase_name for phase in stored.phases] == [f"phase {at}" for at in range(200)]
    assert (stored.total_phases, stored.phases_skipped, stored.total_cost_usd) == (251, 1, 125)
    assert (stored.outcome, stored.metadata) == ("success", {"own": 1, PHASES_LEFT_OUT: 51})
    assert client.queue.counters.replaced == 51
    assert "phase beyond the limit" in caplog.text


def test_a_failure_among_the_phases_left_out_still_counts(server: InMemoryServer, queue: BackgroundQueue) -> None:
    phases = [{"phase_name": f"phase {at}", "outcome": "success"} for at in range(201)]
    queue.enqueue(trajectory(phases=[*phases, {"phase_name": "review", "outcome": "failure"}]))
    send_all(queue)
    assert server.records[0].outcome == "failure"


def test_each_run_of_a_batch_is_kept_though_only_the_first_are_explained() -> None:
    with InMemoryServer() as server:
        client = server.client()
        for _ in range(250):
            client.trajectories.enqueue(trajectory(phases=[{"phase_name": "spec", "selection_probability": 1.4}]))
        send_all(client.queue)
        assert (client.queue.counters.sent, client.queue.counters.refused) == (250, 0)
        assert client.queue.counters.left_out == 250
