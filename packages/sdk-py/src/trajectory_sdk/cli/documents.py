"""What ``record`` reads: one JSON body, or NDJSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, BinaryIO, NoReturn

_LOCAL_CODE = "not_a_json_object"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of NDJSON, counted from 1 and blank ones too: a body, or why it is none."""

    number: int
    body: Mapping[str, Any] | None
    problem: str = ""

    def refusal(self) -> dict[str, Any]:
        """As the store would answer for a line that it refuses. This one was never sent."""
        error = {"type": "invalid_request_error", "code": _LOCAL_CODE, "message": self.problem}
        return {"line": self.number, "id": None, "status": 400, "error": error}


@dataclass(slots=True)
class Bodies:
    """The good lines, for ``record_many`` to take; meanwhile the others gather in ``refused``."""

    lines: Iterable[Line]
    refused: list[Line] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    """Of the lines that were taken."""

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        for line in self.lines:
            if line.body is None:
                self.refused.append(line)
            else:
                self.numbers.append(line.number)
                yield line.body


def read(stream: BinaryIO, *, is_ndjson: bool) -> Mapping[str, Any] | Iterator[Line]:
    """One body, or the lines of NDJSON as they come in.

    It is NDJSON where ``is_ndjson`` says so, or where more follows after a first line that is complete JSON.

    Raises:
        ValueError: it is neither, or empty.
    """
    numbered = enumerate(stream, start=1)
    if is_ndjson:
        return _lines(numbered)
    head = _read_to_text(numbered)
    if not head:
        raise ValueError("is empty")
    try:
        first = _parsed(head[-1][1])
    except ValueError:
        return _parse_all(head + list(numbered))
    more = _read_to_text(numbered)
    if more and more[-1][1].strip():
        return _lines(chain(head, more, numbered))
    return _object(first)


def _read_to_text(numbered: Iterator[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Up to and with the next line that is not blank."""
    taken = []
    for number, data in numbered:
        taken.append((number, data))
        if data.strip():
            break
    return taken


def _parse_all(lines: list[tuple[int, bytes]]) -> Mapping[str, Any] | Iterator[Line]:
    """A body on several lines, or NDJSON whose first line is bad."""
    try:
        return _object(_parsed(b"".join(data for _, data in lines)))
    except ValueError:
        found = list(_lines(iter(lines)))
        if any(line.body is not None for line in found):
            return iter(found)
        raise


def _lines(numbered: Iterable[tuple[int, bytes]]) -> Iterator[Line]:
    for number, data in numbered:
        if not data.strip():
            continue
        try:
            yield Line(number, _object(_parsed(data)))
        except ValueError as error:
            yield Line(number, None, f"The line {error}.")


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("is no JSON object")
    return value


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data, parse_constant=_reject_constant, object_pairs_hook=_reject_duplicate_keys)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error}") from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"is not JSON: {type(error).__name__}") from None


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # The store refuses such a body; here the last one would win, and nobody would know.
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("has an object with a key twice")
    return found


def _reject_constant(word: str) -> NoReturn:
    raise ValueError(f"is not JSON: {word} is no number")
