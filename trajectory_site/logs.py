"""How the log is written."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import TypeAlias

from trajectories.text import escaped

_ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class LineFormatter(logging.Formatter):
    """One record, one line that nobody else can write: control characters of what is logged are escaped, line breaks too.

    Lines of a traceback follow, each behind ``| ``, so none of them can be taken for a record. What they hold is escaped.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  as logging has it
        return escaped(super().formatMessage(record))

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802
        return _quoted(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802
        return _quoted(super().formatStack(stack_info))


def _quoted(lines: str) -> str:
    return "\n".join(f"| {escaped(line)}" for line in lines.split("\n"))
