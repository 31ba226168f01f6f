"""Repair of a record that the server refuses because of single fields.

The server names the path, the code and the reason of each problem. The value at the path is cut,
made text or left out. Nothing here knows the contract, so it also fits a server of another release.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from trajectories_sdk.models import ErrorProblem

MAX_ROUNDS: Final = 6
"""How often a record is repaired. An answer may name only some of the problems."""
_EXACT_ROUNDS: Final = 3
"""Rounds that change the value at the path. Later ones leave out the field or phase around it."""
_REQUIRED: Final[Mapping[str, Any]] = {"request_summary": "", "phase_name": "unknown", "phases": []}
"""Values of fields that a record cannot do without."""
_AT_MOST: Final = re.compile(r"at most (\d+) (character|item)")
_NOT_TEXT: Final = "string_type"
"""The code of a problem of one field, by Pydantic. Codes of errors are others."""
_INDEX: Final = re.compile(r"\[(\d+)\]")
_GONE: Final = object()

Place: TypeAlias = tuple[Any, Any]
"""A list or dict, and the index or key of a value in it."""


class LeftOut(NamedTuple):
    """A field that was changed or left out, and why."""

    path: str
    message: str


def repaired(body: bytes, problems: Sequence[ErrorProblem], attempt: int) -> tuple[bytes, list[LeftOut]] | None:
    """Return the record without what the server refuses, or None if it cannot be repaired.

    Args:
        attempt: how often this record was repaired before.
    """
    record = json.loads(body)
    changed = [LeftOut(one.path, one.message) for one in problems if _repair(record, one, attempt)]
    if not changed:
        return None
    return json.dumps(_without_gone(record), ensure_ascii=False, separators=(",", ":")).encode(), changed


def _repair(record: Any, problem: ErrorProblem, attempt: int) -> bool:
    places, missing = _places(record, problem.path)
    if missing in _REQUIRED:
        holder = places[-1][0][places[-1][1]] if places else record
        holder[missing] = _REQUIRED[missing]
        return True
    if attempt >= _EXACT_ROUNDS:
        places = places[: _depth(places, attempt)]
    if not places or places[-1][0][places[-1][1]] is _GONE:
        return False
    container, key = places[-1]
    is_exact = not missing and attempt < _EXACT_ROUNDS
    container[key] = _accepted(container[key], problem) if is_exact else _GONE
    if container[key] is _GONE and key in _REQUIRED:
        container[key] = _REQUIRED[key]
    return True


def _depth(places: Sequence[Place], attempt: int) -> int:
    if not places or places[0][1] != "phases":
        return 1
    return 2 if attempt == MAX_ROUNDS - 1 else 3


def _places(record: Any, path: str) -> tuple[list[Place], str]:
    """Return where a path leads, from the outermost value to the innermost, and its unknown rest."""
    places: list[Place] = []
    here, rest = record, path
    while rest and (step := _step(here, rest)) is not None:
        key, length = step
        places.append((here, key))
        here, rest = here[key], rest[length:]
    return places, rest.removeprefix(".")


def _step(here: Any, rest: str) -> tuple[Any, int] | None:
    """Return the first key or index of a path, and its length in the path."""
    if isinstance(here, list):
        found = _INDEX.match(rest)
        return (int(found[1]), found.end()) if found and int(found[1]) < len(here) else None
    if not isinstance(here, dict):
        return None
    dot = int(rest.startswith("."))
    # A key may contain a dot, so the longest one that fits is taken.
    fitting = [key for key in here if rest.startswith(key, dot) and rest[dot + len(key) :][:1] in ("", ".", "[")]
    return max(((key, dot + len(key)) for key in fitting), key=lambda step: step[1], default=None)


def _accepted(value: Any, problem: ErrorProblem) -> Any:
    """Return the closest value that the server may accept."""
    limit = _AT_MOST.search(problem.message)
    if limit and limit[2] == "character" and isinstance(value, str):
        return value[: int(limit[1])]
    if limit and limit[2] == "item" and isinstance(value, list):
        return value[: int(limit[1])]
    if limit and limit[2] == "item" and isinstance(value, dict):
        return dict(list(value.items())[: int(limit[1])])
    if problem.code == _NOT_TEXT and value is not None:
        return json.dumps(value, ensure_ascii=False)
    return _GONE


def _without_gone(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_gone(one) for key, one in value.items() if one is not _GONE}
    if isinstance(value, list):
        return [_without_gone(one) for one in value if one is not _GONE]
    return value
