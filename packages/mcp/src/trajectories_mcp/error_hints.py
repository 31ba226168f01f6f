"""Messages of failed tool calls: what is wrong, and what to do next. An agent reads them, and its
user.

The words of the store may quote recorded text, so they are in ``untrusted_data``, as in an answer.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Final

from trajectories_mcp import results, summaries
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
    head, step = _head(error), next_step(error, id_=id_)
    said = _untrusted(_reasons(error), MAX_MESSAGE_CHARS - len(head) - len(step) - len(": ") - len(" "))
    return ToolFailure(f"{head}: {said} {step}")


def next_step(error: Exception, *, id_: str | None = None) -> str:
    """Return one or two sentences on what to do after ``error``."""
    match error:
        case AuthenticationError():
            return _ASK_FOR_A_KEY
        case PermissionDeniedError(code="quota_exceeded"):
            return "Do not repeat this call. Continue your work, and ask your user to delete old runs or to get a larger quota."
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


def _head(error: Exception) -> str:
    if not isinstance(error, APIStatusError):
        return "The call failed"
    count = f", {len(error.details)} problems" if len(error.details) > 1 else ""
    request = f" [request {error.request_id}]" if error.request_id else ""
    return summaries.cut(f"{error.status} {error.code or 'error'}{count}{request}", results.MAX_TEXT_CHARS)


def _reasons(error: Exception) -> list[str]:
    if not isinstance(error, APIStatusError):
        return [str(error)]
    if len(error.details) < 2:
        return [error.message]
    return [f"{problem.path or '(whole body)'}: {problem.message}" for problem in error.details[:MAX_PROBLEMS]]


def _untrusted(texts: Sequence[str], max_chars: int) -> str:
    """Return ``texts`` as answers show recorded text: labelled, on one line, without hidden
    characters. The last ones are left out where all do not fit."""
    shown = results.UntrustedErrors(errors=[])
    for text in texts:
        errors = [*shown.errors, summaries.cut(summaries.plain(text), results.MAX_ERROR_CHARS)]
        longer = results.UntrustedErrors(errors=errors)
        if len(_as_text(longer)) > max_chars:
            break
        shown = longer
    return _as_text(shown)


def _as_text(errors: results.UntrustedErrors) -> str:
    return summaries.as_text({"untrusted_data": errors.as_json()})
