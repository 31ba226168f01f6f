"""Sans-I/O logic of both clients, as generators that yield steps and receive their results.

A flow handles requests, retries, errors, pages, batches and exports. It opens no connection, reads
no clock and never waits. ``transport.py`` executes the steps, either blocking or awaited.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, TypeVar
from uuid import UUID, uuid4

from pydantic import BaseModel, ValidationError

import trajectories_sdk._version as version
from trajectories_sdk.config import Config
from trajectories_sdk.errors import APIConnectionError, APIStatusError, NotFoundError, status_error
from trajectories_sdk.retries import delay_s, is_worth_retrying, retry_after_s
from trajectories_sdk.values import query_text

PATH: Final = "/v1/agent/trajectories"
JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
MERGE_PATCH: Final = "application/merge-patch+json"
USER_AGENT: Final = f"trajectories-sdk/{version.__version__} python/{platform.python_version()}"

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, ready to send."""

    method: str
    url: str
    query: tuple[tuple[str, str], ...]
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)
    timeout_s: float

    @property
    def request_id(self) -> str:
        return self.headers["X-Request-Id"]


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response. ``body`` is empty while it is still unread. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


# The steps. The arrow shows what the driver sends back.


@dataclass(frozen=True, slots=True)
class Send:
    """Send, and read the whole response → ``Response``, or the ``APIConnectionError`` of the
    attempt."""

    request: Request


@dataclass(frozen=True, slots=True)
class Open:
    """Send, and leave the body of a 2xx unread → as ``Send``."""

    request: Request


@dataclass(frozen=True, slots=True)
class Read:
    """Read a part of the open body → bytes, None at its end, or ``APIConnectionError`` if it broke
    off."""


@dataclass(frozen=True, slots=True)
class Close:
    """Close the open response → None."""


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait → None."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Take:
    """Take the caller's next item → the item, or ``NO_MORE``."""


@dataclass(frozen=True, slots=True)
class Block:
    """Call a function that may block on files → its return value. Its exceptions are raised in the
    flow."""

    function: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Emit:
    """Yield a value to the caller → None, when the caller asks for the next one."""

    value: Any


NO_MORE: Final = object()
Step: TypeAlias = Send | Open | Read | Close | Sleep | Take | Block | Emit
Flow: TypeAlias = Generator[Step, Any, T]


def request(
    config: Config,
    method: str,
    path: str,
    query: Mapping[str, object] | None = None,
    *,
    body: bytes | None = None,
    content_type: str | None = None,
    if_match: int | None = None,
) -> Request:
    """Build a request. Parameters that are None are left out. ``if_match`` is a revision.

    All attempts of a request share one id, so that the server's log can be searched even for a call
    without a response.
    """
    headers = {"Accept": "*/*", "User-Agent": USER_AGENT, "X-Request-Id": uuid4().hex}
    if config.api_key is not None:
        headers["Authorization"] = f"Bearer {config.api_key}"
    if content_type is not None:
        headers["Content-Type"] = content_type
    if if_match is not None:
        headers["If-Match"] = f'"{if_match}"'
    texts = ((name, query_text(value)) for name, value in (query or {}).items() if value is not None)
    return Request(
        method, config.base_url + path, tuple(texts), _merge_headers(headers, config.headers), body, config.timeout_s
    )


def _merge_headers(own: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Merge headers; those of the caller win, whatever their case."""
    names = {name.lower() for name in given}
    return {name: text for name, text in own.items() if name.lower() not in names} | {
        next((own_name for own_name in own if own_name.lower() == name.lower()), name): text
        for name, text in given.items()
    }


def call(config: Config, sent: Request) -> Flow[Response]:
    """Send a request with retries, and return the successful response.

    Raises:
        APIConnectionError: the last attempt got no response.
        APIStatusError: the server returned an error.
    """
    attempt = 0
    while True:
        response = yield Send(sent)
        error = error_of(response, sent)
        if error is None:
            return response  # type: ignore[no-any-return]
        yield from wait_or_raise(config, error, attempt)
        attempt += 1


def call_for(config: Config, sent: Request, model: type[M]) -> Flow[M]:
    """Like ``call``, with the response body parsed as ``model``."""
    response = yield from call(config, sent)
    return parsed(response, sent, model)


def wait_or_raise(config: Config, error: APIConnectionError | APIStatusError, attempt: int) -> Flow[None]:
    """Wait before the next attempt. Raise ``error`` if no retry is left or useful.

    Args:
        attempt: number of attempts that failed before this one.
    """
    seconds = delay_s(attempt, getattr(error, "retry_after_s", None))
    if attempt >= config.max_retries or seconds is None or not is_worth_retrying(error):
        raise error
    yield Sleep(seconds)


def parsed(response: Response, sent: Request, model: type[M]) -> M:
    """Parse a response body as ``model``.

    Raises:
        APIStatusError: the body does not fit, so another server responded. ``code`` is
            ``unreadable_answer``.
    """
    try:
        return model.model_validate_json(response.body)
    except ValidationError:
        raise APIStatusError(
            "The response is not from this API. Check base_url.",
            status=response.status,
            code="unreadable_answer",
            request_id=_request_id(response, sent),
        ) from None


def error_of(response: Response | APIConnectionError, sent: Request) -> APIConnectionError | APIStatusError | None:
    """Return the error of a response, or None if it succeeded."""
    if isinstance(response, APIConnectionError):
        return response
    if 200 <= response.status < 300:
        return None
    return status_error(
        response.status,
        response.body,
        request_id=_request_id(response, sent),
        retry_after_s=retry_after_s(response.headers.get("retry-after")),
    )


def _request_id(response: Response, sent: Request) -> str:
    return response.headers.get("x-request-id") or sent.request_id


def one_path(id_: object) -> str:
    """Return the path of one trajectory.

    Raises:
        NotFoundError: the id is not a UUID. No request is sent, because ``stats`` and ``export``
            are paths too.
    """
    try:
        return f"{PATH}/{UUID(str(id_))}"
    except ValueError:
        message = "There is no such trajectory; ids are UUIDs."
        raise NotFoundError(message, status=404, code="not_found", param="id") from None
