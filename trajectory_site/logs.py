"""The format of the log."""

from __future__ import annotations

import copy
import logging
import re
from types import TracebackType
from typing import TypeAlias

from trajectories.domain import redaction
from trajectories.domain.text import escaped
from trajectory_site.exception_filter import hide_passwords

_ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


_LINE_MAX = 2_000
_BEARER = re.compile(r"(?i)(\bbearer[\s:=]+)[\w.~+/=-]+")


class LineFormatter(logging.Formatter):
    """Write each record as one line, with control characters and line breaks escaped.

    A client therefore cannot forge a log line. The lines of a traceback follow, escaped and each
    after ``| ``, so that none looks like a record. Credentials are removed, because a library may
    quote them in an exception, and Django writes the path of an unknown address.

    A line is cut at a length, because a client chooses its host and its path. A request that Django
    refuses (``django.security``: a host, too many fields) has no traceback: its cause is the
    client.
    """

    def format(self, record: logging.LogRecord) -> str:
        if record.name.startswith("django.security."):
            record = copy.copy(record)  # other handlers get the whole record
            record.exc_info = record.exc_text = None
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        return _safe(super().formatMessage(record))

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802
        return _quoted(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802
        return _quoted(super().formatStack(stack_info))


def _quoted(lines: str) -> str:
    return "\n".join(f"| {_safe(line)}" for line in lines.split("\n"))


def _safe(line: str) -> str:
    # Short tokens and passwords of templates too: in a log, a word too many does no harm.
    safe = _BEARER.sub(r"\1***", hide_passwords(escaped(redaction.replace_text(line))))
    # After that, because half of a password would not be recognised.
    return f"{safe[:_LINE_MAX]}… ({len(safe)} characters)" if len(safe) > _LINE_MAX else safe
