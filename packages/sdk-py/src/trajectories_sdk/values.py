"""Conversion of Python values to the JSON and text that the server accepts.

``json_value`` is exact and raises. ``ClosestJson`` takes any value, and counts what it changed.
"""

from __future__ import annotations

import dataclasses
import json
import math
import numbers
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import UTC, date, datetime
from datetime import time as time_of_day
from decimal import Decimal
from enum import Enum
from itertools import count
from typing import Any, Final, TypeAlias
from uuid import UUID

from pydantic import BaseModel

Time: TypeAlias = datetime | str
"""An RFC 3339 time with an offset, or a timezone-aware datetime.

A filter also takes the text of a date in UTC (``2026-01-05``) and of a span before now (``7d``).
"""
Id: TypeAlias = UUID | str

MAX_INT: Final = 2**53 - 1
"""The largest integer that every JSON reader keeps exact, and that the server accepts."""
MAX_DEPTH: Final = 64
"""The server accepts ``metadata`` of this depth."""
MAX_VALUES: Final = 200_000
"""Limit of values in one record. A structure that refers to one list many times can be small in
memory and endless as JSON."""
MAX_REPR_CHARS: Final = 1_000
_TOO_LARGE: Final = "structure that is too large or too deep"


def query_text(value: object) -> str:
    """Return the text of a query parameter.

    Raises:
        ValueError: a datetime has no timezone.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(json_value(value))


def json_value(value: object) -> Any:
    """Return a JSON-serializable form of a value that ``json`` cannot write by itself.

    Raises:
        TypeError: the value has no JSON form.
        ValueError: a datetime has no timezone.
    """
    match value:
        case str() | int() | float():
            return value
        case datetime():
            return _rfc3339(value)
        case date() | time_of_day():
            return value.isoformat()
        case UUID():
            return str(value)
        case os.PathLike():
            return os.fsdecode(value)
        case Decimal():
            return float(value)
        case Enum():
            return value.value
        case BaseModel():
            return value.model_dump(mode="json", by_alias=True, exclude_none=True)
        case Mapping():
            return dict(value)
        case Set():
            return sorted(value, key=str)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _fields(value)
    raise TypeError(f"A {type(value).__name__} cannot be written as JSON")


def _rfc3339(value: datetime) -> str:
    if value.utcoffset() is None:
        raise ValueError(f"The datetime {value.isoformat()} has no timezone; give it one, such as datetime.UTC")
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


class ClosestJson:
    """Writes one record as the closest JSON that the server accepts. It never raises.

    ``replaced`` counts the values that JSON or the server cannot hold as they are, by kind. A
    number becomes text or null, a text loses its invalid characters, any other object becomes its
    ``repr``.

    Args:
        max_chars: longer texts are cut.
    """

    def __init__(self, *, max_chars: int | None = None) -> None:
        self.replaced: Counter[str] = Counter()
        self._max_chars = max_chars
        self._open: set[int] = set()  # ids of the containers around the value
        self._left = MAX_VALUES

    def of(self, value: Any, depth: int = 0) -> Any:
        """Return the JSON of ``value``, made of dict, list, str, int, float, bool and None."""
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is str:
            return value if self._is_plain(value) else self._text(value)
        if kind is float:
            return self._float(value)
        if kind is int:
            return self._integer(value)
        try:
            return self._container(value, depth) if kind in (dict, list) else self._other(value, depth)
        except Exception:  # values of the caller may raise anything
            return self._repr(value)

    def _other(self, value: Any, depth: int) -> Any:
        match value:
            case Enum():
                return self.of(value.value, depth)
            case str():
                return self._text(str.__str__(value))
            case numbers.Integral():
                return self._integer(int(value))
            case numbers.Real() | Decimal():
                return self._float(float(value))
            case BaseException():
                return self._replace("exception", f"{type(value).__name__}: {value}")
            case bytes() | bytearray() | memoryview():
                return self._replace("bytes", bytes(value).decode(errors="backslashreplace"))
            case datetime() if value.utcoffset() is None:
                return self._replace("datetime without timezone", _rfc3339(value.astimezone()))
        return self._container(value, depth)

    def _container(self, value: Any, depth: int) -> Any:
        if id(value) in self._open:
            return self._replace("structure that contains itself", None)
        if self._left <= 0 or depth >= MAX_DEPTH:
            return self._replace(_TOO_LARGE, f"<{type(value).__name__}>")
        self._open.add(id(value))
        try:
            match value:
                case dict():
                    return self._object(list(value.items()), depth)
                case list():
                    return self._array(value, depth)
                case BaseModel():
                    return self.of(_dumped(value), depth)
                case Mapping():
                    return self._object(list(value.items()), depth)
                case Set():
                    return self._array(_sorted(value), depth)
                case Sequence():
                    return self._array(value, depth)
            return self.of(json_value(value), depth)
        finally:
            self._open.discard(id(value))

    def _object(self, items: Iterable[tuple[Any, Any]], depth: int) -> dict[str, Any]:
        written: dict[str, Any] = {}
        for key, item in items:
            if not self._take():
                break
            name = key if type(key) is str and self._is_plain(key) else self._key(key, depth)
            if name in written:  # the server refuses a key that an object has twice
                name = self._replace("key", next(f"{name} ({n})" for n in count(2) if f"{name} ({n})" not in written))
            written[name] = self.of(item, depth + 1)
        return written

    def _array(self, items: Iterable[Any], depth: int) -> list[Any]:
        written: list[Any] = []
        for item in items:
            if not self._take():
                break
            written.append(self.of(item, depth + 1))
        return written

    def _take(self) -> bool:
        self._left -= 1
        if self._left < 0:
            self._replace(_TOO_LARGE, None)
        return self._left >= 0

    def _key(self, key: Any, depth: int) -> str:
        written = self.of(key, depth)
        if isinstance(written, str):
            return written
        if key is None or isinstance(written, bool | int | float):
            return json.dumps(written)
        return str(self._replace("key", repr_of(key)))

    def _is_plain(self, text: str) -> bool:
        # Most texts are, and all other work on a record takes less time than checking them in full.
        return text.isascii() and "\x00" not in text and (self._max_chars is None or len(text) <= self._max_chars)

    def _text(self, text: str) -> str:
        if "\x00" in text:
            self.replaced["text with NUL"] += 1
            text = text.replace("\x00", "\ufffd")
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:  # two halves of a pair are one character
                text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
                self.replaced["text with lone surrogates"] += 1
        if self._max_chars is not None and len(text) > self._max_chars:
            self.replaced["text that is too long"] += 1
            text = f"{text[: self._max_chars]}…"
        return text

    def _integer(self, value: int) -> int | str | None:
        if -MAX_INT <= value <= MAX_INT:
            return value
        return self._replace("integer beyond 2**53 - 1", _digits(value))  # type: ignore[no-any-return]

    def _float(self, value: float) -> float | None:
        return value if math.isfinite(value) else self._replace("NaN or infinity", None)

    def _repr(self, value: Any) -> str:
        kind = type(value).__name__
        return str(self._replace(f"object of type {kind}", repr_of(value)))

    def _replace(self, kind: str, written: Any) -> Any:
        self.replaced[kind] += 1
        return self._text(written) if isinstance(written, str) else written


def text_of(value: Any) -> str:
    """Return the text of any value. It never raises."""
    try:
        return str(value)
    except Exception:  # an object of the caller
        return f"<{type(value).__name__}>"


def _digits(value: int) -> str | None:
    try:
        return str(value)
    except ValueError:  # Python refuses to convert thousands of digits
        return None


def repr_of(value: Any) -> str:
    """Return the ``repr`` of any value, cut. It never raises."""
    try:
        return repr(value)[:MAX_REPR_CHARS]
    except Exception:  # an object of the caller
        return f"<{type(value).__name__}>"


def _sorted(values: Set[Any]) -> list[Any]:
    try:
        return sorted(values, key=str)
    except Exception:  # an object of the caller
        return list(values)


def _dumped(model: BaseModel) -> Any:
    try:
        return model.model_dump(mode="json", by_alias=True, exclude_none=True)
    except Exception:  # a field may hold any object
        return model.model_dump(by_alias=True, exclude_none=True)
