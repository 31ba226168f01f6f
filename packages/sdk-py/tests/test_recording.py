"""One record, and many of which some are bad."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from conftest import Blocking, slowly, trajectory
from hypothesis import given, settings
from hypothesis import strategies as st

from trajectories_sdk import APIConnectionError, AuthenticationError, Client, ConflictError, RecordedMany
from trajectories_sdk.models import Phase, Trajectory
from trajectories_sdk.testing import InMemoryServer

ITSELF: dict[str, Any] = {}
ITSELF["metadata"] = ITSELF
UNSENDABLE: dict[str, dict[str, Any]] = {
    "nan": {"total_cost_usd": float("nan")},
    "a datetime without timezone": {"started_at": datetime(2026, 1, 5)},  # noqa: DTZ001
    "half a surrogate pair": {"error": "\ud800"},
    "an object": {"metadata": {"it": object()}},
    "itself": {"metadata": ITSELF},
}


def test_a_record_gets_its_id_from_the_sdk(half: Any, server: InMemoryServer) -> None:
    stored = half.record(trajectory())
    assert json.loads(server.requests[0].body)["id"] == str(stored.id)
    assert stored == server.records[0]


def test_a_record_keeps_the_id_that_it_has(half: Any) -> None:
    id_ = uuid4()
    assert half.record(trajectory(id=id_)).id == id_
    assert half.record(trajectory(id=str(id_), source="later")).id == id_


def test_the_callers_mapping_is_left_as_it_was(half: Any) -> None:
    body = trajectory(id=None)
    half.record(body)
    assert body == trajectory(id=None)


def test_values_of_python_are_written_as_the_store_takes_them(half: Any, server: InMemoryServer) -> None:
    at = datetime(2026, 1, 5, 12, tzinfo=timezone(timedelta(hours=2)))
    phase = Phase(phase_name="spec", model="m", duration_ms=3)
    stored = half.record(trajectory(started_at=at, total_cost_usd=Decimal("0.012"), phases=[phase], tags={"b", "a"}))
    assert stored.started_at == at
    assert (stored.total_cost_usd, stored.tags) == (0.012, ["a", "b"])
    assert stored.phases == [phase]
    sent = json.loads(server.requests[0].body)
    assert sent["started_at"] == "2026-01-05T10:00:00Z"
    assert sent["phases"] == [{"phase_name": "spec", "model": "m", "duration_ms": 3}]


def test_a_model_instance_and_a_read_record_can_be_recorded(half: Any, server: InMemoryServer) -> None:
    stored = half.record(Trajectory(request_summary="x", phases=[]))
    again = half.record(stored.model_copy(update={"outcome": "success"}))
    assert (again.id, again.outcome, len(server.records)) == (stored.id, "success", 1)
    assert again.recorded_at == stored.recorded_at
    assert again.revision > stored.revision


@pytest.mark.parametrize("name", UNSENDABLE)
def test_a_value_without_a_json_form_is_not_sent(half: Any, server: InMemoryServer, name: str) -> None:
    with pytest.raises((TypeError, ValueError, RecursionError)):
        half.record(trajectory(**UNSENDABLE[name]))
    assert server.requests == []


def test_an_id_that_was_deleted_is_a_conflict(half: Any) -> None:
    stored = half.record(trajectory())
    assert half.delete(stored.id).deleted
    with pytest.raises(ConflictError):
        half.record(stored)


def test_many_come_in_batches_by_count_and_their_results_in_order(half: Any, server: InMemoryServer) -> None:
    bodies = [trajectory(request_summary=str(at), id=uuid4()) for at in range(7)]
    recorded = half.record_many(iter(bodies), max_lines=3)
    assert (recorded.accepted, recorded.refused) == (7, 0)
    assert [(result.line, result.id) for result in recorded.results] == [
        (at + 1, body["id"]) for at, body in enumerate(bodies)
    ]
    assert [len(seen.body.splitlines()) for seen in server.requests] == [3, 3, 1]
    assert [record.request_summary for record in server.records] == [str(at) for at in range(7)]


def test_many_come_in_batches_by_bytes_and_a_larger_one_goes_alone(half: Any, server: InMemoryServer) -> None:
    recorded = half.record_many([trajectory(error="e" * size) for size in (10, 10, 2_000, 10)], max_bytes=500)
    assert recorded.accepted == 4
    assert [len(seen.body.splitlines()) for seen in server.requests] == [2, 1, 1]


def test_none_is_no_request(half: Any, server: InMemoryServer) -> None:
    assert half.record_many([]) == RecordedMany(0, 0, ())
    assert server.requests == []


@pytest.mark.parametrize("name", UNSENDABLE)
def test_a_record_without_a_json_form_does_not_block_others(half: Any, server: InMemoryServer, name: str) -> None:
    bad = trajectory(id=uuid4(), **UNSENDABLE[name])
    recorded = half.record_many([trajectory(), bad, trajectory()])
    assert (recorded.accepted, recorded.refused, len(server.records)) == (2, 1, 2)
    refused = recorded.results[1]
    assert (refused.line, refused.id, refused.status) == (2, bad["id"], 400)
    assert refused.error is not None
    assert refused.error.code == "not_serializable"


@pytest.mark.parametrize("bad", [None, 7, "text", [1], {"id": "nonsense", "request_summary": "x", "phases": []}, {}])
def test_an_item_that_is_not_a_record_does_not_block_others(half: Any, server: InMemoryServer, bad: Any) -> None:
    recorded = half.record_many([trajectory(), bad, trajectory()])
    assert (recorded.accepted, recorded.refused, len(server.records)) == (2, 1, 2)
    assert recorded.results[1].error is not None


def test_a_refused_line_names_its_record_and_problem(half: Any) -> None:
    id_ = uuid4()
    (result,) = half.record_many([trajectory(id=id_, colour="red")]).results
    assert (result.id, result.status, result.revision) == (id_, 400, None)
    assert result.error.details[0].code == "unknown_key"


def test_the_error_of_a_failed_request_has_the_results_before_it(
    make_half: Callable[..., Any], server: InMemoryServer
) -> None:
    half = make_half(max_retries=0)
    half.record(trajectory())

    def bodies() -> Any:
        yield from [trajectory(), trajectory(error="\ud800"), trajectory(), trajectory()]
        server.drop_next()

    with pytest.raises(APIConnectionError) as raised:
        half.record_many(bodies(), max_lines=2)
    assert raised.value.recorded is not None
    assert [result.status for result in raised.value.recorded.results] == [201, 400, 201]


def test_a_bad_key_is_no_refused_line(server: InMemoryServer) -> None:
    client = Client("http://store.example", "wrong", transport=server)
    with pytest.raises(AuthenticationError):
        client.trajectories.record_many([trajectory()])


def test_a_server_that_takes_less_in_a_request_gets_less(half: Any, server: InMemoryServer) -> None:
    server.fail_next(413, code="body_too_large")
    server.fail_next(413, code="body_too_large")
    recorded = half.record_many([trajectory() for _ in range(4)])
    assert (recorded.accepted, len(server.records)) == (4, 4)
    assert [result.line for result in recorded.results] == [1, 2, 3, 4]


def test_a_record_that_is_too_large_alone_is_refused_alone(half: Any, server: InMemoryServer) -> None:
    big = trajectory(error="e" * 2_000_000)
    recorded = half.record_many([trajectory(), big, trajectory()])
    assert [result.status for result in recorded.results] == [201, 413, 201]


def test_records_may_come_out_of_an_asynchronous_iterable(half: Any, server: InMemoryServer) -> None:
    if not isinstance(half, Blocking):
        pytest.skip("the blocking half takes no asynchronous iterable")
    assert half.record_many(slowly([trajectory(), trajectory()])).accepted == 2


@pytest.mark.parametrize("bounds", [{"max_lines": 0}, {"max_bytes": 0}])
def test_a_bound_of_nothing_is_an_error_at_once(half: Any, bounds: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        half.record_many([trajectory()], **bounds)


@settings(max_examples=30)
@given(st.lists(st.sampled_from(["good", "refused", "unsendable"]), max_size=30), st.integers(1, 7))
def test_every_record_of_a_mixed_batch_has_its_own_result(kinds: list[str], max_lines: int) -> None:
    body: dict[str, dict[str, Any]] = {"good": {}, "refused": {"colour": "red"}, "unsendable": {"error": "\ud800"}}
    with InMemoryServer() as server:
        ids = [uuid4() for _ in kinds]
        bodies = [trajectory(id=id_, **body[kind]) for id_, kind in zip(ids, kinds, strict=True)]
        recorded = server.client().trajectories.record_many(bodies, max_lines=max_lines)
        assert [result.id for result in recorded.results] == ids
        assert [result.error is None for result in recorded.results] == [kind == "good" for kind in kinds]
        assert {record.id for record in server.records} == {
            id_ for id_, kind in zip(ids, kinds, strict=True) if kind == "good"
        }


def test_times_with_an_offset_keep_their_moment(half: Any) -> None:
    stored = half.record(trajectory(ended_at="2026-01-05T23:58:46+02:00"))
    assert stored.ended_at == datetime(2026, 1, 5, 21, 58, 46, tzinfo=UTC)
    assert isinstance(stored.id, UUID)
