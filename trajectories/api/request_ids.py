"""The id of a request: in its answer, in what is logged while it is answered, and in reports of its errors."""

from __future__ import annotations

import logging
import re
from contextvars import ContextVar
from uuid import uuid4

from django.http import HttpRequest

HEADER = "X-Request-Id"
NONE = "-"
"""What stands in the log where nobody's request is answered."""

_SANE = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_META = "trajectories.request_id"
"""In META, so that the error reports of a host project show it too. No header can get there."""

current: ContextVar[str] = ContextVar("trajectories_request_id", default=NONE)
"""Of the request that this thread answers."""


def request_id(request: HttpRequest) -> str:
    """The caller's id where it is a token that may stand in a log line, else one of our own; the same at each call."""
    known = request.META.get(_META)
    if known is None:
        given = request.headers.get(HEADER, "")
        known = request.META[_META] = given if _SANE.fullmatch(given) else new_id()
    return str(known)


def new_id() -> str:
    return uuid4().hex


class RequestIdFilter(logging.Filter):
    """Gives each record of the log a ``request_id``, for formats; it refuses none.

    Django logs answers of 4xx and 5xx when the view has returned, and names the request in the record.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "request_id"):
            request = getattr(record, "request", None)
            record.request_id = request.META.get(_META, NONE) if isinstance(request, HttpRequest) else current.get()
        return True
