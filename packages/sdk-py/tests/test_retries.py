"""When a call is tried again, and how long is waited before."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trajectories_sdk import APIConnectionError, APIStatusError, APITimeoutError, Client, ServiceUnavailableError
from trajectories_sdk.config import Config
from trajectories_sdk.flow import Response, Send, Sleep, call, request
from trajectories_sdk.retries import MAX_DELAY_S, MAX_RETRY_AFTER_S, RETRIED, delay_s, retry_after_s
from trajectories_sdk.testing import InMemoryServer

BODY = {"request_summary": "Add auth", "phases": []}
NOT_RETRIED = (400, 401, 403, 404, 405, 409, 410, 413, 415, 422, 501)


@pytest.mark.parametrize("status", sorted(RETRIED))
def test_transient_errors_are_retried(half: Any, server: InMemoryServer, status: int) -> None:
    server.fail_next(status, times=4)
    assert half.record(BODY).request_summary == "Add auth"
    assert len(server.requests) == 5
    assert len(server.records) == 1


@pytest.mark.parametrize("status", NOT_RETRIED)
def test_permanent_errors_are_not_retried(half: Any, server: InMemoryServer, status: int) -> None:
    server.fail_next(status)
    with pytest.raises(APIStatusError) as raised:
        half.record(BODY)
    assert raised.value.status == status
    assert len(server.requests) == 1


def test_a_broken_connection_is_retried_with_the_same_record_and_request_id(half: Any, server: InMemoryServer) -> None:
    server.drop_next(times=2)
    half.record(BODY)
    assert len({seen.body for seen in server.requests}) == 1
    assert len({seen.headers["x-request-id"] for seen in server.requests}) == 1
    assert len(server.requests) == 3


def test_after_the_last_attempt_its_error_is_raised(make_half: Callable[..., Any], server: InMemoryServer) -> None:
    server.fail_next(503, times=10, code="busy", retry_after_s=1)
    with pytest.raises(ServiceUnavailableError) as raised:
        make_half(max_retries=2).stats()
    assert len(server.requests) == 3
    assert (raised.value.code, raised.value.retry_after_s) == ("busy", 1)


def test_without_retries_the_first_error_is_raised(make_half: Callable[..., Any], server: InMemoryServer) -> None:
    server.drop_next()
    with pytest.raises(APIConnectionError) as raised:
        make_half(max_retries=0).stats()
    assert raised.value.request_id == server.requests[0].headers["x-request-id"]
    assert isinstance(raised.value.__cause__, httpx2.ConnectError)


def test_an_answer_that_does_not_come_in_time_is_an_error_of_its_own() -> None:
    def never(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ReadTimeout("no answer", request=request)

    client = Client(transport=httpx2.MockTransport(never), max_retries=0)
    with pytest.raises(APITimeoutError, match="ReadTimeout"):
        client.trajectories.stats()


def steps(*answers: Response | APIConnectionError) -> list[float]:
    """How long a call waits between these answers. No client, no connection, no waiting."""
    config = Config(max_retries=10)
    flow = call(config, request(config, "GET", "/"))
    waited: list[float] = []
    step = next(flow)
    for answer in answers:
        assert isinstance(step, Send)
        try:
            step = flow.send(answer)
        except StopIteration:
            return waited
        assert isinstance(step, Sleep)
        waited.append(step.seconds)
        step = flow.send(None)
    return waited


def test_a_call_waits_as_long_as_the_server_says_and_a_little_more() -> None:
    busy = Response(503, {"retry-after": "7"})
    (waited,) = steps(busy, Response(200, {}))
    assert 7 <= waited <= 7.5


def test_a_long_retry_after_is_not_waited_for() -> None:
    with pytest.raises(APIStatusError) as raised:
        steps(Response(429, {"retry-after": "3600"}))
    assert raised.value.retry_after_s == 3600


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_waits_grow_from_nothing_to_a_bound(attempt: int, share: float) -> None:
    waited = delay_s(attempt, None, uniform=lambda low, high: low + share * (high - low))
    assert waited is not None
    assert 0 <= waited <= min(MAX_DELAY_S, 0.5 * 2 ** min(attempt, 16))


@given(st.integers(0, 100), st.floats(0, MAX_RETRY_AFTER_S))
def test_a_wait_is_never_shorter_than_the_server_says(attempt: int, said_s: float) -> None:
    waited = delay_s(attempt, said_s)
    assert waited is not None
    assert said_s <= waited <= said_s + MAX_DELAY_S


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("0", 0),
        ("12", 12),
        ("Wed, 25 Nov 2026 00:00:30 GMT", 30),
        ("Wed, 25 Nov 2026 00:00:30 -0000", 30),
        ("Tue, 24 Nov 2026 00:00:00 GMT", 0),
        ("soon", None),
        ("-1", None),
        ("٣", None),
        ("", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(text: str | None, seconds: float | None) -> None:
    assert retry_after_s(text, now=lambda: datetime(2026, 11, 25, tzinfo=UTC)) == seconds
