"""The format of the log."""

from __future__ import annotations

import copy
import itertools
import logging
import re
from types import TracebackType
from typing import TypeAlias

from trajectories.domain import redaction
from trajectories.domain.text import escaped
from trajectory_site.exception_filter import hide_passwords

_ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


_LINE_MAX = 2_000
_READ_MAX = 8_000
"""Characters of a line that are redacted and escaped. A client may send 64 kB, which take 0.2 s."""
_HALF_OF_TRACEBACK = 16_000
"""Characters that are kept at each end of a traceback: the text of an exception may be a body."""
_CUT = "\uffff"
"""Marks a line that was cut before it was redacted. It is no character of any text (Unicode 23.7)."""
_FRAME = '  File "'
_BEARER = re.compile(r"(?i)(\bbearer[\s:=]+)[\w.~+/=-]+")


class LineFormatter(logging.Formatter):
    """Write each record as one line, with control characters and line breaks escaped.

    A client therefore cannot forge a log line. The lines of a traceback follow, escaped and each
    after ``| ``, so that none looks like a record. Credentials are removed, because a library may
    quote them in an exception, and Django writes the path of an unknown address.

    A line is cut before and after that, because a client chooses its host and its path. A long
    traceback loses its middle. A request that Django refuses (``django.security``: a host, too many
    fields) has no traceback: its cause is the client.
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


def _quoted(text: str) -> str:
    lines = [_read(line) for line in text.split("\n")]
    head, tail = _ends(lines)
    shown = _redacted(head)
    if tail:
        shown += [f"… ({len(lines) - len(head) - len(tail)} lines)", *_redacted(tail)]
    elif len(head) < len(lines):
        shown.append(f"… ({len(lines) - len(head)} lines)")
    return "\n".join(f"| {line}" for line in shown)


def _ends(lines: list[str]) -> tuple[list[str], list[str]]:
    """Return the beginning and the end of a long traceback, or all of a short one."""
    head = _first(lines)
    if len(head) == len(lines):
        return lines, []
    tail = _first(lines[: len(head) - 1 : -1])[::-1]
    if len(head) + len(tail) == len(lines):
        return lines, []
    # From a frame on: before it may be the second half of a private key.
    frames = [at for at, line in enumerate(tail) if line.startswith(_FRAME)]
    return head, tail[frames[0] :] if frames else []


def _first(lines: list[str]) -> list[str]:
    ends = itertools.accumulate(len(line) + 1 for line in lines)
    return lines[: sum(1 for end in ends if end <= _HALF_OF_TRACEBACK)]


def _redacted(lines: list[str]) -> list[str]:
    # Together, since a private key has many lines.
    return [_shown(line) for line in redaction.replace_text("\n".join(lines)).split("\n")]


def _safe(line: str) -> str:
    return _shown(redaction.replace_text(_read(line)))


def _read(line: str) -> str:
    return line if len(line) <= _READ_MAX else line[:_READ_MAX] + _CUT


def _shown(redacted: str) -> str:
    is_cut = redacted.endswith(_CUT)
    kept = redaction.without_end(redacted[:-1]) if is_cut else redacted
    # Short tokens and passwords of templates too: in a log, a word too many does no harm.
    safe = _BEARER.sub(r"\1***", hide_passwords(escaped(kept)))
    # After that, because half of a password would not be recognised.
    if is_cut:
        return f"{safe[:_LINE_MAX]}… (more than {_READ_MAX:,} characters)"
    return f"{safe[:_LINE_MAX]}… ({len(safe):,} characters)" if len(safe) > _LINE_MAX else safe
