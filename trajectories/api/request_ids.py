"""The id of a request: in its response, its log records, and its error reports."""

from __future__ import annotations

import logging
import re
import secrets
from contextvars import ContextVar

from django.http import HttpRequest

HEADER = "X-Request-Id"
NONE = "-"
"""The id in log records that belong to no request."""

_SANE = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_GIVEN = "HTTP_X_REQUEST_ID"
_META = "trajectories.request_id"
"""The key in META, so that error reports of a host project show the id. No header can set it."""

current: ContextVar[str] = ContextVar("trajectories_request_id", default=NONE)
"""The id of the request that this thread serves."""


def request_id(request: HttpRequest) -> str:
    """Return the id of ``request``; the same at each call.

    It is the caller's id if that is a token that is safe in a log line, and otherwise a new id.
    """
    known = request.META.get(_META)
    if known is None:
        # META, as wherever a POST reads a header: Django copies all of them for ``request.headers``.
        given = request.META.get(_GIVEN, "")
        known = request.META[_META] = given if _SANE.fullmatch(given) else new_id()
    return str(known)


def new_id() -> str:
    return secrets.token_hex(16)  # a UUID takes four times as long


class RequestIdFilter(logging.Filter):
    """Add ``request_id`` to each log record, for formats; drop no record.

    Django logs 4xx and 5xx responses after the view has returned, and attaches the request to the
    record.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "request_id"):
            request = getattr(record, "request", None)
            record.request_id = request.META.get(_META, NONE) if isinstance(request, HttpRequest) else current.get()
        return True
