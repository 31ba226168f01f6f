"""How the log is written."""

from __future__ import annotations

import logging
import re
from types import TracebackType
from typing import TypeAlias

from trajectories.domain.text import escaped
from trajectory_site.exception_filter import hide_passwords

_ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


_BEARER = re.compile(r"(?i)(\bbearer[\s:=]+)[\w.~+/=-]+")


class LineFormatter(logging.Formatter):
    """One record, one line that nobody else can write: control characters of what is logged are escaped, line breaks too.

    Lines of a traceback follow, each behind ``| ``, so none of them can be taken for a record. What they hold is escaped. Should a
    library quote a bearer token or a URL with a password in what it raises, it is left out.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  as logging has it
        return _safe(super().formatMessage(record))

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802
        return _quoted(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802
        return _quoted(super().formatStack(stack_info))


def _quoted(lines: str) -> str:
    return "\n".join(f"| {_safe(line)}" for line in lines.split("\n"))


def _safe(line: str) -> str:
    return _BEARER.sub(r"\1***", hide_passwords(escaped(line)))
