"""DRF pagination of the list: a cursor is a position, and a page names the tiers that responded."""

from __future__ import annotations

from typing import Any

import orjson
from django.http import HttpResponse
from rest_framework.pagination import BasePagination

from trajectories.domain import answers
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
        cursor, limit = given.pop("cursor", None), self._limit(given.pop("limit", None))
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

    def _limit(self, text: str | None) -> int:
        if text is None:
            return self.default_limit
        is_number = text.isascii() and text.isdigit() and len(text) <= len(str(self.max_limit))
        if not is_number or not 1 <= int(text) <= self.max_limit:
            raise InvalidInput(
                f"limit must be between 1 and {self.max_limit}, got {text}.", code="invalid_parameter", param="limit"
            )
        return int(text)
