"""Pages of a list by position: nothing is counted or skipped, and rows that arrive move no page.

An *order* is a sequence of field names as Django's ``order_by`` takes them. It is total: the last
name is a key. No field of it is null. A position has the values of these fields.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import orjson
from django.core.exceptions import ValidationError
from django.db.models import Field, Model, Q, QuerySet

M = TypeVar("M", bound=Model)

_MAX_CHARS = 1_000
_AFTER, _BEFORE = "after.", "before."


class Place(NamedTuple):
    """Where a page begins, or with ``is_before`` where it ends; the row there is not part of it."""

    values: tuple[Any, ...]
    is_before: bool = False

    def __str__(self) -> str:
        text = base64.urlsafe_b64encode(orjson.dumps(self.values)).decode().rstrip("=")
        return f"{_BEFORE if self.is_before else _AFTER}{text}"


class Page(NamedTuple):
    """Rows in their order, and the places of the pages around them; None where there is none."""

    rows: list[Any]
    previous: Place | None
    next: Place | None


def parse(text: str, model: type[Model], order: Sequence[str]) -> Place | None:
    """Return the place in ``text`` that ``str`` of a place made; None if it is not one of this
    order."""
    kind, encoded = text[: text.find(".") + 1], text[text.find(".") + 1 :]
    if kind not in (_AFTER, _BEFORE) or len(encoded) > _MAX_CHARS:
        return None
    try:
        values = orjson.loads(base64.b64decode(encoded + "=" * (-len(encoded) % 4), b"-_", validate=True))
        fields = [_field(model, name) for name in order]
        if not isinstance(values, list) or "\x00" in "".join(map(str, values)):
            return None
        found = tuple(field.to_python(value) for field, value in zip(fields, values, strict=True))
    except (ValueError, TypeError, ValidationError, binascii.Error):
        return None
    return None if None in found else Place(found, is_before=kind == _BEFORE)


def read(rows: QuerySet[M], order: Sequence[str], place: Place | None, size: int) -> Page:
    """Return the page of at most ``size`` rows at ``place``; None is the first page.

    One statement, or two where a page that ends at a place has less than ``size`` rows: the first
    page then stands in for it.
    """
    if place is None or not place.is_before:
        after = rows if place is None else beyond(rows, order, place.values)
        found = list(after.order_by(*order)[: size + 1])
        page = found[:size]
        previous = None if place is None else at(page[0], order, is_before=True) if page else None
        return Page(page, previous, at(page[-1], order) if len(found) > size else None)
    back = flipped(order)
    found = list(beyond(rows, back, place.values).order_by(*back)[: size + 1])
    if len(found) < size:
        return read(rows, order, None, size)
    page = found[:size][::-1]
    return Page(page, at(page[0], order, is_before=True) if len(found) > size else None, at(page[-1], order))


def beyond(rows: QuerySet[M], order: Sequence[str], values: Sequence[Any]) -> QuerySet[M]:
    """Return those of ``rows`` that come after the position ``values`` in ``order``."""
    condition = Q()
    for name, value in reversed([*zip(order, values, strict=True)]):
        field, lookup = name.lstrip("-"), "lt" if name.startswith("-") else "gt"
        later = Q(**{f"{field}__{lookup}": value})
        condition = later | (Q(**{field: value}) & condition) if condition else later
    first, lookup = order[0].lstrip("-"), "lte" if order[0].startswith("-") else "gte"
    # The first condition is implied by the other; it lets the database seek in an index.
    return rows.filter(**{f"{first}__{lookup}": values[0]}).filter(condition)


def flipped(order: Sequence[str]) -> tuple[str, ...]:
    """Return the opposite order."""
    return tuple(name[1:] if name.startswith("-") else f"-{name}" for name in order)


def at(row: Model, order: Sequence[str], *, is_before: bool = False) -> Place:
    """Return the place of ``row``."""
    return Place(tuple(getattr(row, name.lstrip("-")) for name in order), is_before)


def _field(model: type[Model], name: str) -> Field[Any, Any]:
    plain = name.lstrip("-")
    found: Any = model._meta.pk if plain == "pk" else model._meta.get_field(plain)
    return found  # type: ignore[no-any-return]
