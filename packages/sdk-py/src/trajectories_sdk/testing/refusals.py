"""Error responses of the in-memory server."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from trajectories_sdk.testing.contract import Trajectory

MAX_SHORT_MESSAGE: Final = 60
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


def shortened(error: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the store says of a refused line after the first 100 of a request."""
    return {"type": error["type"], "code": error["code"], "message": error["message"][:MAX_SHORT_MESSAGE]}


def refusal_of(error: ValidationError) -> Refusal:
    details = [_problem(one["loc"], one["type"], one["msg"], one["input"]) for one in error.errors(include_url=False)]
    first = details[0]
    more = f" ({len(details) - 1} more)" if len(details) > 1 else ""
    where = f"{first['path']}: " if first["path"] else ""
    message = f"{where}{first['message']}{more}"
    return Refusal(400, "invalid_input", message, param=first["path"] or None, details=details)


def _problem(loc: tuple[int | str, ...], code: str, message: str, given: object) -> dict[str, str]:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")
    if code == "extra_forbidden":
        near = difflib.get_close_matches(str(loc[-1]), Trajectory.model_fields, 1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        return {
            "path": path,
            "code": "unknown_key",
            "message": f"Unknown key {loc[-1]!r}{hint} Put your own data into 'metadata'.",
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
