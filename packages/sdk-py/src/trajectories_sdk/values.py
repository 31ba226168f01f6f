"""Conversion of Python values to the text forms that the server accepts."""

from __future__ import annotations

from collections.abc import Mapping, Set
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, TypeAlias
from uuid import UUID

from pydantic import BaseModel

Time: TypeAlias = datetime | str
"""An RFC 3339 time with an offset, or a timezone-aware datetime.

A filter also takes the text of a date in UTC (``2026-01-05``) and of a span before now (``7d``).
"""
Id: TypeAlias = UUID | str


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
        case UUID():
            return str(value)
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
    raise TypeError(f"A {type(value).__name__} cannot be written as JSON")


def _rfc3339(value: datetime) -> str:
    if value.utcoffset() is None:
        raise ValueError(f"The datetime {value.isoformat()} has no timezone; give it one, such as datetime.UTC")
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
