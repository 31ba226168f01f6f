"""Input of ``record``: one JSON body, or NDJSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

_LOCAL_CODE = "not_a_json_object"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of NDJSON, with its number (from 1, counting blank lines): a body, or the problem with
    it."""

    number: int
    body: Mapping[str, Any] | None
    problem: str = ""

    def refusal(self) -> dict[str, Any]:
        """Return a result in the store's form. This line was never sent."""
        error = {"type": "invalid_request_error", "code": _LOCAL_CODE, "message": self.problem}
        return {"line": self.number, "id": None, "status": 400, "error": error}


@dataclass(slots=True)
class Bodies:
    """Iterates over the valid lines for ``record_many``, and collects the others in ``refused``."""

    lines: Iterable[Line]
    refused: list[Line] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    """Numbers of the lines that were sent."""

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        for line in self.lines:
            if line.body is None:
                self.refused.append(line)
            else:
                self.numbers.append(line.number)
                yield line.body


def read(stream: BinaryIO, *, is_ndjson: bool) -> Mapping[str, Any] | Iterator[Line]:
    """Return one body, or an iterator over the lines of NDJSON.

    The input is NDJSON if ``is_ndjson`` is true, or if more text follows a first line of complete
    JSON.

    Raises:
        ValueError: the input is neither, or empty.
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


def read_one(stream: BinaryIO) -> Mapping[str, Any]:
    """Return one JSON object.

    Raises:
        ValueError: the input is something else.
    """
    return _object(_parsed(stream.read()))


def _read_to_text(numbered: Iterator[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Return the lines up to and including the next non-blank one."""
    taken = []
    for number, data in numbered:
        taken.append((number, data))
        if data.strip():
            break
    return taken


def _parse_all(lines: list[tuple[int, bytes]]) -> Mapping[str, Any] | Iterator[Line]:
    """Return a body that spans several lines, or NDJSON with an invalid first line."""
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
        raise ValueError("is not a JSON object")
    return value


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data, parse_constant=_reject_constant, object_pairs_hook=_reject_duplicate_keys)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error}") from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"is not JSON: {type(error).__name__}") from None


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # The store refuses duplicate keys; Python would silently keep the last one.
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("has an object with a duplicate key")
    return found


def _reject_constant(word: str) -> NoReturn:
    raise ValueError(f"is not JSON: {word} is not a number")


@contextmanager
def open_input(file: str) -> Iterator[BinaryIO]:
    """Open a file, or stdin for ``-``."""
    if file == "-":
        yield sys.stdin.buffer
    else:
        with Path(file).open("rb") as stream:
            yield stream
