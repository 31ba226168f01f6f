"""Messages of failed tool calls: what is wrong, and what to do next. An agent reads them, and its
user."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

from trajectories_sdk import (
    APIConnectionError,
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    DroppedPhasesError,
    NotFoundError,
    PayloadTooLargeError,
    PermissionDeniedError,
    PreconditionFailedError,
    RateLimitError,
)

MAX_PROBLEMS: Final = 20
MAX_MESSAGE_CHARS: Final = 4_000
_MAX_QUOTED_CHARS: Final = 60
_ASK_FOR_A_KEY: Final = (
    "Do not call again. Ask your user to set a valid API key in the configuration of this MCP server: TRAJSTORE_API_KEY, or over"
    " HTTP the header 'Authorization: Bearer KEY'. The store's command `manage.py create_api_key` creates one."
)
_FIX: Final = "Fix this and call again."


class ToolFailure(Exception):
    """A tool call that failed. The message gives the reason and the next step."""


def failure_of(error: Exception, *, id_: str | None = None) -> ToolFailure:
    """Return the failure to report for ``error``.

    Args:
        id_: The id of the run that the call tried to record, if any.
    """
    step = next_step(error, id_=id_)
    return ToolFailure(f"{_reason(error)[: MAX_MESSAGE_CHARS - len(step) - 1]} {step}")


def next_step(error: Exception, *, id_: str | None = None) -> str:
    """Return one or two sentences on what to do after ``error``."""
    match error:
        case AuthenticationError():
            return _ASK_FOR_A_KEY
        case PermissionDeniedError():
            return (
                "br_trajectory_record and br_trajectory_update need a key with the scope record; br_trajectory_query needs a key with the scope read."
                f" {_ASK_FOR_A_KEY}"
            )
        case NotFoundError(param="id"):
            return 'Call br_trajectory_query with {"show": "runs"} to get ids that exist.'
        case NotFoundError():
            return "Ask your user to check TRAJSTORE_BASE_URL: it must be the address of the store, without /v1."
        case DroppedPhasesError():
            return "Call br_trajectory_update with the fields to change, or send all phases of the run."
        case PreconditionFailedError():
            return "Call br_trajectory_query with the id to see what changed, and call again with its revision if the change still fits."
        case ConflictError():
            return "The run with this id was deleted permanently. To record another run, call again without an id."
        case PayloadTooLargeError():
            return "Shorten metadata, errors and other long texts, and call again."
        case RateLimitError():
            return f"Continue your work and call again in {error.retry_after_s or 60:g} seconds.{_same_run(id_)}"
        case BadRequestError():
            return _FIX
        case APIStatusError(code="unreadable_answer"):
            return "Ask your user to check TRAJSTORE_BASE_URL: it must be the address of the store."
        case APIStatusError(status=status) if 400 <= status < 500 and status != 408:
            return "Do not repeat this call unchanged."
        case APIConnectionError() | APIStatusError():
            return (
                "The store is unavailable. Your own work does not depend on it: continue, and call again in"
                f" {getattr(error, 'retry_after_s', None) or 30:g} seconds.{_same_run(id_)}"
            )
    return _FIX


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint at the known name most similar to ``name``, or an empty string."""
    near = difflib.get_close_matches(name, list(known), 1)
    return f" Did you mean {near[0]!r}?" if near else ""


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def quoted(name: str) -> str:
    """Quote a name of the caller on one line, cut to 60 characters."""
    return repr(name if len(name) <= _MAX_QUOTED_CHARS else name[:_MAX_QUOTED_CHARS] + "…")


def _same_run(id_: str | None) -> str:
    return f" Send the run with the id {id_}: it is then stored once, even if this call stored it." if id_ else ""


def _reason(error: Exception) -> str:
    if not isinstance(error, APIStatusError) or len(error.details) < 2:
        return _sentence(str(error))
    problems = [f"\n- {problem.path or '(whole body)'}: {problem.message}" for problem in error.details[:MAX_PROBLEMS]]
    more = len(error.details) - MAX_PROBLEMS
    problems += [f"\n- and {more} more"] if more > 0 else []
    return f"{error.status} {error.code}: {len(error.details)} problems.{''.join(problems)}\n"


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?", "]")) else f"{text}."
