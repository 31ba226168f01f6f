"""What a failed call is told: what was wrong, and what to try next. It is read by a model, and by who looks over its shoulder."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

from trajectory_sdk import (
    APIConnectionError,
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    NotFoundError,
    PayloadTooLargeError,
    PermissionDeniedError,
    RateLimitError,
)

MAX_PROBLEMS: Final = 20
MAX_MESSAGE_CHARS: Final = 4_000
_MAX_QUOTED: Final = 60
_ASK_FOR_A_KEY: Final = (
    "Calling again does not help; this is for the person who has set you up: put a good key into the configuration of this MCP"
    " server (TRAJECTORY_API_KEY, or over HTTP the header 'Authorization: Bearer KEY'). `manage.py create_api_key` of the store"
    " makes one."
)


class ToolFailure(Exception):
    """A tool call that failed. The message says why, and what to try next."""


def failure_of(error: Exception, *, id_: str | None = None) -> ToolFailure:
    """The failure that ``error`` is for the caller of a tool.

    Args:
        id_: of the run that was to be recorded, if one was.
    """
    step = next_step(error, id_=id_)
    return ToolFailure(f"{_told(error)[: MAX_MESSAGE_CHARS - len(step) - 1]} {step}")


def next_step(error: Exception, *, id_: str | None = None) -> str:
    """A sentence or two on what to try after ``error``."""
    match error:
        case AuthenticationError():
            return _ASK_FOR_A_KEY
        case PermissionDeniedError():
            return (
                "Calling again does not help: recording needs a key with the scope record, asking one with the scope read."
                f" {_ASK_FOR_A_KEY}"
            )
        case NotFoundError(param="id"):
            return 'Call br_trajectory_query with {"show": "runs"} for ids that exist.'
        case NotFoundError():
            return "Is TRAJECTORY_BASE_URL the address of the store, without /v1? That is for the person who has set you up."
        case ConflictError():
            return "It was deleted for good. If this is another run, call again without an id."
        case PayloadTooLargeError():
            return "Shorten metadata, errors and other long texts, and call again."
        case RateLimitError():
            return f"Go on with your work and call again in {error.retry_after_s or 60:g} seconds.{_same_run(id_)}"
        case BadRequestError():
            return "Mend what is named here and call again."
        case APIStatusError(code="unreadable_answer"):
            return "Is TRAJECTORY_BASE_URL the address of the store? That is for the person who has set you up."
        case APIStatusError(status=status) if 400 <= status < 500 and status != 408:
            return "Calling again as it is will not help."
        case APIConnectionError() | APIStatusError():
            return (
                "The store is away or busy; your own work does not depend on it. Go on, and call again in"
                f" {getattr(error, 'retry_after_s', None) or 30:g} seconds.{_same_run(id_)}"
            )
    return "Mend what is named here and call again."


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint at the known name that is most like ``name``; empty where none is."""
    near = difflib.get_close_matches(name, list(known), 1)
    return f" Did you mean {near[0]!r}?" if near else ""


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def quoted(name: str) -> str:
    """A name of the caller's on one line, and not at any length."""
    return repr(name if len(name) <= _MAX_QUOTED else name[:_MAX_QUOTED] + "…")


def _same_run(id_: str | None) -> str:
    return f" Send the run with the id {id_}: then it is stored once, whatever became of this call." if id_ else ""


def _told(error: Exception) -> str:
    if not isinstance(error, APIStatusError) or len(error.details) < 2:
        return _sentence(str(error))
    problems = [f"\n- {problem.path or 'the whole'}: {problem.message}" for problem in error.details[:MAX_PROBLEMS]]
    more = len(error.details) - MAX_PROBLEMS
    problems += [f"\n- and {more} more"] if more > 0 else []
    return f"{error.status} {error.code}: {len(error.details)} problems.{''.join(problems)}\n"


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?", "]")) else f"{text}."
