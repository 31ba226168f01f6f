"""Error responses of the in-memory server."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from typing import Any, Final

from pydantic import ValidationError

from trajectories_sdk.testing.contract import Trajectory

MAX_SHORT_MESSAGE: Final = 60
# As the store has them (``domain.quotes``, ``api.exception_handler``).
_MAX_PROBLEMS: Final = 100
_MAX_HINTS: Final = 3
_MAX_KEY: Final = 100
_MAX_PATH: Final = 200
_MAX_FULL_ERRORS: Final = 100
_MAX_FULL_BYTES: Final = 48 * 2**10
_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "invalid_request_error",
    409: "conflict_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    429: "rate_limit_error",
    503: "unavailable_error",
}


class Refusal(Exception):
    """An error response in the store's form."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        details: list[dict[str, str]] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error: dict[str, Any] = {"type": _TYPES.get(status, "server_error"), "code": code, "message": message}
        if param is not None:
            self.error["param"] = param
        if details:
            self.error["details"] = details


def shorten(errors: Sequence[dict[str, Any]], *, max_details: int) -> None:
    """Cut the errors of a request's lines as the store does: the first ones to ``max_details``, the
    others to type, code and the beginning of the message."""
    left, is_full = _MAX_FULL_BYTES, True
    for number, error in enumerate(errors):
        if "details" in error:
            error["details"] = error["details"][:max_details]
        left -= len(json.dumps(error, ensure_ascii=False, separators=(",", ":")).encode()) if is_full else 0
        is_full = is_full and number < _MAX_FULL_ERRORS and left >= 0
        if not is_full:
            error.pop("param", None)
            error.pop("details", None)
            error["message"] = error["message"][:MAX_SHORT_MESSAGE]


def refusal_of(error: ValidationError) -> Refusal:
    details: list[dict[str, str]] = []
    hints_left, errors = _MAX_HINTS, error.errors(include_url=False)[:_MAX_PROBLEMS]
    for one in errors:
        is_unknown = one["type"] == "extra_forbidden"
        details.append(_problem(one["loc"], one["type"], one["msg"], one["input"], has_hint=hints_left > 0))
        hints_left -= is_unknown
    first = details[0]
    more = f" ({len(details) - 1} more)" if len(details) > 1 else ""
    where = f"{first['path']}: " if first["path"] else ""
    message = f"{where}{first['message']}{more}"
    return Refusal(400, "invalid_input", message, param=first["path"] or None, details=details)


def _path(loc: tuple[int | str, ...]) -> str:
    parts = [f"[{part}]" if isinstance(part, int) else f".{part[:_MAX_KEY]}" for part in loc]
    path = "".join(parts).removeprefix(".")
    return path if len(path) <= _MAX_PATH else f"{path[: _MAX_PATH // 2 - 1]}…{path[-_MAX_PATH // 2 :]}"


def _problem(loc: tuple[int | str, ...], code: str, message: str, given: object, *, has_hint: bool) -> dict[str, str]:
    path = _path(loc)
    if code == "extra_forbidden":
        key = str(loc[-1])[:_MAX_KEY]
        near = difflib.get_close_matches(key, Trajectory.model_fields, 1) if has_hint else []
        hint = f"; did you mean {near[0]!r}?" if near else "."
        return {
            "path": path,
            "code": "unknown_key",
            "message": f"Unknown key {key!r}{hint} Put your own data into 'metadata'.",
        }
    if code == "string_pattern_mismatch":
        code, message = "nul_character", "String has a NUL character"
    elif message.startswith("Input should"):
        message += _got(given)
    return {"path": path, "code": code, "message": message}


def _got(given: object) -> str:
    if isinstance(given, str):
        return f", got {given[:40]!r}"
    if given is None or isinstance(given, int | float):
        return f", got {json.dumps(given)}"
    if isinstance(given, list | dict):
        return ", got an array" if isinstance(given, list) else ", got an object"
    return ""
