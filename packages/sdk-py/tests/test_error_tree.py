"""One class per status, each with what the answer says."""

from __future__ import annotations

import pickle
from typing import Any

import httpx2
import pytest

import trajectories_sdk
from trajectories_sdk import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    Client,
    ConflictError,
    NotFoundError,
    PayloadTooLargeError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    ServiceUnavailableError,
    TrajectoryError,
    UnsupportedMediaTypeError,
)
from trajectories_sdk.errors import status_error
from trajectories_sdk.testing import InMemoryServer

CLASSES = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    405: APIStatusError,
    408: RequestTimeoutError,
    409: ConflictError,
    413: PayloadTooLargeError,
    415: UnsupportedMediaTypeError,
    422: APIStatusError,
    429: RateLimitError,
    500: ServerError,
    502: ServerError,
    503: ServiceUnavailableError,
}


@pytest.mark.parametrize("status", CLASSES)
def test_each_status_has_its_class(status: int) -> None:
    assert type(status_error(status, b"")) is CLASSES[status]


def test_an_error_has_problem_place_and_request_id(half: Any, server: InMemoryServer) -> None:
    with pytest.raises(BadRequestError) as raised:
        half.record({"request_summary": "x", "phases": [{"phase_name": "spec", "cost": 1}, {"phase_name": 7}]})
    error = raised.value
    assert (error.status, error.code, error.param) == (400, "invalid_input", "phases[0].cost")
    assert [(problem.path, problem.code) for problem in error.details] == [
        ("phases[0].cost", "unknown_key"),
        ("phases[1].phase_name", "string_type"),
    ]
    assert error.request_id == server.requests[0].headers["x-request-id"]
    assert str(error) == f"400 invalid_input: {error.message} [request {error.request_id}]"


def test_a_proxys_page_is_an_error_without_its_text() -> None:
    error = status_error(502, b"<html>internal.example.com is down</html>", request_id="r1")
    assert str(error) == "502 error: The response with status 502 is not from the store (a proxy?). [request r1]"
    assert error.code == ""


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b""])
def test_a_response_from_another_server_is_an_error(body: bytes) -> None:
    client = Client(transport=httpx2.MockTransport(lambda request: httpx2.Response(200, content=body)))
    with pytest.raises(APIStatusError, match="base_url") as raised:
        client.trajectories.stats()
    assert (raised.value.status, raised.value.code) == (200, "unreadable_answer")


def test_a_redirect_is_an_error_and_takes_the_key_nowhere() -> None:
    seen = []

    def elsewhere(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.url.host)
        return httpx2.Response(302, headers={"Location": "https://elsewhere.example/"})

    with pytest.raises(APIStatusError):
        Client("http://store.example", "k", transport=httpx2.MockTransport(elsewhere)).trajectories.stats()
    assert seen == ["store.example"]


@pytest.mark.parametrize(
    "error",
    [
        status_error(
            429, b'{"error":{"type":"t","code":"c","message":"m","param":"p"}}', request_id="r", retry_after_s=2
        ),
        APITimeoutError("late", request_id="r"),
        trajectories_sdk.ExportBrokenError("broken"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_comes_whole_through_a_pickle(error: TrajectoryError) -> None:
    other = pickle.loads(pickle.dumps(error))
    assert type(other) is type(error)
    assert (str(other), other.__dict__) == (str(error), error.__dict__)


def test_one_except_catches_all() -> None:
    named = [getattr(trajectories_sdk, name) for name in trajectories_sdk.__all__ if name.endswith("Error")]
    assert all(issubclass(error, TrajectoryError) for error in named)
    assert issubclass(APITimeoutError, APIConnectionError)
