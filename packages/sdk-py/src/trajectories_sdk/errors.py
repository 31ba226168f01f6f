"""The exceptions of this SDK, as one tree.

TrajectoryError
├── APIConnectionError            the server was not reached, or the connection broke
│   └── APITimeoutError           no response in time
├── APIStatusError                the server returned an error
│   ├── BadRequestError           400
│   ├── AuthenticationError       401
│   ├── PermissionDeniedError     403
│   ├── NotFoundError             404
│   ├── RequestTimeoutError       408
│   ├── ConflictError             409  the id was deleted, or the request conflicts with what is stored
│   │   └── DroppedPhasesError    409  the stored version has phases that the record lacks
│   ├── PreconditionFailedError   412  the store has another revision than `if_match`
│   ├── PayloadTooLargeError      413
│   ├── UnsupportedMediaTypeError 415
│   ├── RateLimitError            429
│   └── ServerError               5xx
│       └── ServiceUnavailableError 503
└── ExportBrokenError             an export failed its verification
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import ValidationError

from trajectories_sdk.models import ErrorBody, ErrorObject, ErrorProblem

if TYPE_CHECKING:
    from trajectories_sdk.results import RecordedMany


class TrajectoryError(Exception):
    """Base class of all exceptions of this SDK.

    ``recorded``: the results of the records before the failure, if ``record_many`` raised;
    otherwise None.
    """

    recorded: RecordedMany | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class APIConnectionError(TrajectoryError):
    """The request got no response, so it may or may not have taken effect.

    The server's log can be searched for ``request_id``.
    """

    def __init__(self, message: str, *, request_id: str | None = None) -> None:
        super().__init__(message)
        self.request_id = request_id

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.message,), self.__dict__


class APITimeoutError(APIConnectionError):
    """The request got no response in time."""


class ExportBrokenError(TrajectoryError):
    """An export does not match the server's count or hash, or is malformed. Do not trust its data."""


class APIStatusError(TrajectoryError):
    """The server returned an error.

    ``status`` is the HTTP status, ``code`` the machine-readable error code. ``param`` names the
    field or parameter at fault, ``details`` lists every problem found. Search the server's log for
    ``request_id``. ``retry_after_s`` is the wait that the server asks for, in seconds.
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
        # Process pools and Celery pickle exceptions; keyword-only arguments need a factory.
        return _rebuild_error, (type(self), self.message, self.status), self.__dict__


class BadRequestError(APIStatusError):
    """400: the request is invalid."""


class AuthenticationError(APIStatusError):
    """401: the API key is missing or invalid."""


class PermissionDeniedError(APIStatusError):
    """403: the API key lacks the required scope, or the tenant has reached its quota."""


class NotFoundError(APIStatusError):
    """404: the tenant has no such trajectory."""


class RequestTimeoutError(APIStatusError):
    """408: the server did not receive the body in time."""


class ConflictError(APIStatusError):
    """409: the request conflicts with what is stored; ``code`` says how.

    Such as ``deleted`` (the id cannot be reused), ``idempotency_conflict`` or
    ``too_many_outcomes``.
    """


class DroppedPhasesError(ConflictError):
    """409: the stored version has phases that the record lacks.

    Send all phases, change single fields with ``update``, or pass ``replace=True``.
    """


class PreconditionFailedError(APIStatusError):
    """412: the store has another revision than ``if_match``. Retrieve it, and decide again."""


class PayloadTooLargeError(APIStatusError):
    """413: a record or the request is too large."""


class UnsupportedMediaTypeError(APIStatusError):
    """415: the server does not accept this content type."""


class RateLimitError(APIStatusError):
    """429: too many requests of this key, too many invalid keys, or too many long reads at once."""


class ServerError(APIStatusError):
    """5xx: the server failed."""


class ServiceUnavailableError(ServerError):
    """503: a part of the server that this request needs is unavailable or busy."""


_ERROR_BY_STATUS: Mapping[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: RequestTimeoutError,
    409: ConflictError,
    412: PreconditionFailedError,
    413: PayloadTooLargeError,
    415: UnsupportedMediaTypeError,
    429: RateLimitError,
    503: ServiceUnavailableError,
}
_ERROR_BY_CODE: Mapping[str, type[APIStatusError]] = {"phases_would_be_dropped": DroppedPhasesError}


def status_error(
    status: int, body: bytes, *, request_id: str | None = None, retry_after_s: float | None = None
) -> APIStatusError:
    """Return the exception for an error response.

    A proxy's error page has no code, and its text is not quoted.
    """
    foreign = f"The response with status {status} is not from the store (a proxy?)."
    error = _parse_error(body) or ErrorObject(type="", code="", message=foreign)
    kind = _ERROR_BY_CODE.get(error.code) or _ERROR_BY_STATUS.get(
        status, ServerError if status >= 500 else APIStatusError
    )
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
