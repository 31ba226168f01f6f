"""DRF pagination of the list: a cursor is a position, and a page names the tiers that responded."""

from __future__ import annotations

from typing import Any

import orjson
from django.http import HttpResponse
from rest_framework.pagination import BasePagination

from trajectories.domain import answers, redaction
from trajectories.domain.query import decode_cursor, encode_cursor
from trajectories.domain.record import Position
from trajectories.exceptions import InvalidInput


class PositionPagination(BasePagination):
    """Read ``cursor`` and ``limit``, and join the stored bytes of a page."""

    default_limit = 50
    max_limit = 1_000
    parameters = ("cursor", "limit")

    def read(self, given: dict[str, str]) -> tuple[Position | None, int]:
        """Remove the page parameters from ``given``.

        Returns:
            The position to continue after, and the limit.
        """
        cursor, limit = (
            given.pop("cursor", None),
            bounded("limit", given.pop("limit", None), default=self.default_limit, most=self.max_limit),
        )
        return None if cursor is None else decode_cursor(cursor), limit

    def response(self, page: Any) -> HttpResponse:
        rest = {
            "next_cursor": page.next_position and encode_cursor(page.next_position),
            "has_more": page.next_position is not None,
            "tiers": page.tiers,
            "complete": page.is_complete,
        }
        data = b",".join(answers.item(record, page.facets.get(record.id)) for record in page.records)
        return HttpResponse(b'{"data":[%b],%b' % (data, orjson.dumps(rest)[1:]), content_type="application/json")


def bounded(name: str, text: str | None, *, default: int, most: int) -> int:
    """Return the number in a parameter, ``default`` if it is not given.

    Raises:
        InvalidInput: 400; it is not a number between 1 and ``most``.
    """
    if text is None:
        return default
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(most))
    if not is_number or not 1 <= int(text) <= most:
        shown = redaction.quoted(text, max_chars=40)
        raise InvalidInput(f"{name} must be between 1 and {most}, got {shown}.", code="invalid_parameter", param=name)
    return int(text)
