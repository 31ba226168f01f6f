"""Return every failure in one error shape.

The shape is ``{"error": {"type", "code", "message", "param"?, "details"?}}``.
"""

from __future__ import annotations

import logging
import math
from typing import Any

import orjson
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.core.signals import got_request_exception
from django.http import Http404, HttpRequest, HttpResponse
from rest_framework.exceptions import APIException, NotAuthenticated
from rest_framework.exceptions import MethodNotAllowed as DrfMethodNotAllowed

from trajectories.api.request_ids import HEADER, request_id
from trajectories.domain import redaction
from trajectories.domain.quotes import MAX_FULL_ERRORS
from trajectories.domain.text import escaped
from trajectories.exceptions import (
    AuthenticationFailure,
    InvalidInput,
    MethodNotAllowed,
    NotAcceptable,
    NotFound,
    RateLimited,
    ScopeMissing,
    TooLarge,
    TrajectoriesError,
    UnsupportedMediaType,
)

logger = logging.getLogger(__name__)

MAX_FULL_BYTES = 48 * 2**10
"""Bytes of the errors in full of one answer's lines."""
MAX_SHORT_MESSAGE = 60
_MAX_QUOTED = 1_000


def exception_handler(exc: Exception, context: dict[str, Any]) -> HttpResponse:
    """Return the response to an exception of a DRF view, in the error shape."""
    view, request = context["view"], context["request"]
    response = error_response(exc, request._request)
    if response.status_code == 401 and (challenge := view.get_authenticate_header(request)):
        response["WWW-Authenticate"] = challenge
    if response.status_code == MethodNotAllowed.status:
        response["Allow"] = ", ".join(view.allowed_methods)
    return response


def error_response(error: Exception, request: HttpRequest) -> HttpResponse:
    """Return the response to ``error``.

    Internal errors are logged, sent to Django's signal, and get status 500.
    """
    known = _as_ours(error)
    if known is None:
        got_request_exception.send(sender=None, request=request)
        # The text has the id too: the log format of a host project may not have a field for it.
        said = "Internal error on %s %s (request %s)"
        path = redaction.quoted(request.path, max_chars=_MAX_QUOTED)
        logger.error(said, request.method, path, request_id(request), exc_info=error)
        known = TrajectoriesError(
            f"Internal server error. The log of the server has it as request {request_id(request)}."
        )
    # Messages quote names that the caller sent, and responses get into logs.
    response = HttpResponse(
        redaction.replace(orjson.dumps({"error": error_object(known)})).body,
        status=known.status,
        content_type="application/json",
        # A host project may not have the middleware that adds this header.
        headers={"X-Content-Type-Options": "nosniff", HEADER: request_id(request)},
    )
    if known.retry_after_s is not None:
        response["Retry-After"] = str(known.retry_after_s)
    if known.status == 401:
        response["WWW-Authenticate"] = 'Bearer realm="trajectories"'
    return response


def error_object(error: TrajectoriesError, *, max_details: int | None = None) -> dict[str, Any]:
    """Return the value of ``error``; lines of NDJSON results contain it too.

    Messages are escaped: they are printed on terminals and may quote input.
    """
    shape: dict[str, Any] = {"type": error.type, "code": error.code, "message": escaped(error.message)}
    if error.param is not None:
        shape["param"] = error.param
    if error.details:
        shape["details"] = [
            {"path": problem.path, "code": problem.code, "message": escaped(problem.message)}
            for problem in error.details[:max_details]
        ]
    return shape


class LineErrors:
    """The values of the errors of one answer's lines: those of the first ones in full, then short.

    1,000 short lines must not make an answer a hundred times as long.
    """

    def __init__(self, *, max_details: int) -> None:
        self._max_details = max_details
        self._bytes_left, self._full_left = MAX_FULL_BYTES, MAX_FULL_ERRORS

    def of(self, error: TrajectoriesError) -> dict[str, Any]:
        """Return the value of the next error."""
        if self._full_left:
            self._full_left -= 1
            shape = error_object(error, max_details=self._max_details)
            self._bytes_left -= len(orjson.dumps(shape))
            if self._bytes_left >= 0:
                return shape
            self._full_left = 0
        return {"type": error.type, "code": error.code, "message": escaped(error.message)[:MAX_SHORT_MESSAGE]}


def _as_ours(error: Exception) -> TrajectoriesError | None:
    match error:
        case TrajectoriesError():
            return error
        case DrfMethodNotAllowed():
            return MethodNotAllowed(redaction.quoted(str(error.detail), max_chars=_MAX_QUOTED))
        case Http404():
            return NotFound("No endpoint or page has this path. Check the URL.")
        case RequestDataTooBig():
            return TooLarge(str(error))
        case PermissionDenied():
            return ScopeMissing(str(error) or "The caller is not allowed to do this.")
        case SuspiciousOperation():
            return InvalidInput(redaction.quoted(str(error), max_chars=_MAX_QUOTED))
        case APIException():
            return _from_drf(error)
        case _:
            return None


def _from_drf(error: APIException) -> TrajectoriesError | None:
    # It may quote a header, such as a Content-Type of 60 kB.
    message = redaction.quoted(str(error.detail), max_chars=_MAX_QUOTED)
    match error.status_code:
        case 401:
            # Not about an API key: a host project's own login or authentication class has raised it.
            code = "not_authenticated" if isinstance(error, NotAuthenticated) else "authentication_failed"
            return AuthenticationFailure(message, code=code)
        case 403:
            return ScopeMissing(message, code="permission_denied")
        case 404:
            return NotFound(message)
        case 406:
            return NotAcceptable(message)
        case 415:
            return UnsupportedMediaType(message)
        case 429:
            return RateLimited(message, retry_after_s=math.ceil(getattr(error, "wait", None) or 1))
        case status if status < 500:
            return InvalidInput(message)
        case _:
            return None
