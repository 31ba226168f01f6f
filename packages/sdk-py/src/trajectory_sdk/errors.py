"""The errors of this SDK, as one tree.

TrajectoryError
├── APIConnectionError            the server was not reached, or the connection broke
│   └── APITimeoutError           it did not answer in time
├── APIStatusError                it answered with an error
│   ├── BadRequestError           400
│   ├── AuthenticationError       401
│   ├── PermissionDeniedError     403
│   ├── NotFoundError             404
│   ├── RequestTimeoutError       408
│   ├── ConflictError             409  the id was deleted, and does not come back
│   ├── PayloadTooLargeError      413
│   ├── UnsupportedMediaTypeError 415
│   ├── RateLimitError            429
│   └── ServerError               5xx
│       └── ServiceUnavailableError 503
└── ExportBrokenError             what arrived is not what the server says that it sent
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import ValidationError

from trajectory_sdk.models import ErrorBody, ErrorObject, ErrorProblem

if TYPE_CHECKING:
    from trajectory_sdk.results import RecordedMany


class TrajectoryError(Exception):
    """Root of the tree.

    ``recorded``: where ``record_many`` raises, what became of the records before; else None.
    """

    recorded: RecordedMany | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class APIConnectionError(TrajectoryError):
    """No answer. Whether the request took effect is not known; ``request_id`` is under which the server would have logged it."""

    def __init__(self, message: str, *, request_id: str | None = None) -> None:
        super().__init__(message)
        self.request_id = request_id

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.message,), self.__dict__


class APITimeoutError(APIConnectionError):
    """No answer in time."""


class ExportBrokenError(TrajectoryError):
    """Count, hash or form of what arrived do not agree with what the server says. What was exported is not to be trusted."""


class APIStatusError(TrajectoryError):
    """An answer with an error.

    ``status`` is that of HTTP, ``code`` the error for programs, ``param`` the field or parameter that it is about, ``details``
    every problem that was found, ``request_id`` what to look for in the server's log, ``retry_after_s`` when to come again.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str = "",
        param: str | None = None,
        details: tuple[ErrorProblem, ...] = (),
        request_id: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.details = details
        self.request_id = request_id
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        request = f" [request {self.request_id}]" if self.request_id else ""
        return f"{self.status} {self.code or 'error'}: {self.message}{request}"

    def __reduce__(self) -> tuple[object, ...]:
        # By keyword, so that an error survives pickling: process pools and Celery send errors that way.
        return _rebuild_error, (type(self), self.message, self.status), self.__dict__


class BadRequestError(APIStatusError):
    """400: the request says something that cannot be accepted."""


class AuthenticationError(APIStatusError):
    """401: no API key, or one that is not good."""


class PermissionDeniedError(APIStatusError):
    """403: the API key lacks the scope."""


class NotFoundError(APIStatusError):
    """404: the tenant has no such trajectory."""


class RequestTimeoutError(APIStatusError):
    """408: the server did not get the body in time."""


class ConflictError(APIStatusError):
    """409: the id was deleted, and does not come back."""


class PayloadTooLargeError(APIStatusError):
    """413: a record or the request is too large."""


class UnsupportedMediaTypeError(APIStatusError):
    """415."""


class RateLimitError(APIStatusError):
    """429: more than the key may use in a minute."""


class ServerError(APIStatusError):
    """5xx."""


class ServiceUnavailableError(ServerError):
    """503: a part of the server that the answer needs is away or busy."""


_ERROR_BY_STATUS: Mapping[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: RequestTimeoutError,
    409: ConflictError,
    413: PayloadTooLargeError,
    415: UnsupportedMediaTypeError,
    429: RateLimitError,
    503: ServiceUnavailableError,
}


def status_error(
    status: int, body: bytes, *, request_id: str | None = None, retry_after_s: float | None = None
) -> APIStatusError:
    """The error of an answer, whoever wrote it: a proxy's page has no code, and its text is not quoted."""
    error = _parse_error(body) or ErrorObject(type="", code="", message=f"The server answered with status {status}.")
    kind = _ERROR_BY_STATUS.get(status, ServerError if status >= 500 else APIStatusError)
    return kind(
        error.message,
        status=status,
        code=error.code,
        param=error.param,
        details=tuple(error.details or ()),
        request_id=request_id,
        retry_after_s=retry_after_s,
    )


def _parse_error(body: bytes) -> ErrorObject | None:
    try:
        return ErrorBody.model_validate_json(body).error
    except ValidationError:
        return None


def _rebuild_error(kind: type[APIStatusError], message: str, status: int) -> APIStatusError:
    return kind(message, status=status)
