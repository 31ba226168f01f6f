"""Requests and responses of the in-memory server: parameters, cursors, bodies."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx2

from trajectories_sdk.flow import JSON
from trajectories_sdk.testing.facets import FILTERS
from trajectories_sdk.testing.refusals import Refusal
from trajectories_sdk.testing.store import StoredRecord


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """A received request, and the status of its response; None if the connection was broken."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    status: int | None = None


class Stream(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A response in parts; with ``cut`` it breaks off after that many bytes."""

    def __init__(self, data: bytes, cut: int | None) -> None:
        self._data = data
        self._cut = cut

    def __iter__(self) -> Iterator[bytes]:
        part = 16 * 1024
        data = self._data if self._cut is None else self._data[: self._cut]
        for at in range(0, len(data), part):
            yield data[at : at + part]
        if self._cut is not None:
            raise httpx2.RemoteProtocolError("The test cut this response.")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self:
            yield part


def answer(body: str | dict[str, Any], *, status: int = 200) -> httpx2.Response:
    text = body if isinstance(body, str) else json.dumps(body)
    return httpx2.Response(status, content=text.encode(), headers={"Content-Type": JSON})


def stored_answer(stored: StoredRecord, *, status: int = 200) -> httpx2.Response:
    """Return a record, with its revision as ``ETag``."""
    response = answer(stored.whole(), status=status)
    response.headers["ETag"] = f'"{stored.revision}"'
    return response


def replaces(seen: SeenRequest) -> bool:
    """Return whether the request may drop stored phases."""
    return seen.query.get("replace") == "1"


def removed_counts(count: int) -> dict[str, int]:
    return {"outbox": count, "redis": 0, "archive": 0, "quarantine": 0}


def parameters(seen: SeenRequest, *more: str) -> tuple[dict[str, str], dict[str, str]]:
    """Split the parameters into filters and others. Refuse unknown ones."""
    for name in seen.query:
        if name not in FILTERS and name not in more:
            raise Refusal(400, "unknown_parameter", f"Unknown parameter {name!r}.", param=name)
    filters = {name: text for name, text in seen.query.items() if name in FILTERS}
    return filters, {name: text for name, text in seen.query.items() if name in more}


def choice_of(name: str, given: Mapping[str, str], words: Sequence[str]) -> str | None:
    text = given.get(name)
    if text is not None and text not in words:
        message = f"{name} must be one of {', '.join(words)}, got {text[:40]!r}."
        raise Refusal(400, "invalid_parameter", message, param=name)
    return text


def parse_id(path: str) -> UUID:
    with suppress(ValueError):
        return UUID(path[1:])
    raise Refusal(404, "not_found", "There is no such trajectory; ids are UUIDs.", param="id")


def number_of(name: str, text: str | None, default: int, most: int) -> int:
    if text is None:
        return default
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise Refusal(400, "invalid_parameter", f"{name} must be between 1 and {most}, got {text}.", param=name)
    return int(text)


def cursor_of(stored: StoredRecord) -> str:
    return base64.urlsafe_b64encode(f"{stored.recorded_at_us}:{stored.id}".encode()).decode()


def position_of(cursor: str | None) -> tuple[int, UUID] | None:
    if cursor is None:
        return None
    try:
        recorded_at_us, _, id_ = base64.b64decode(cursor, b"-_", validate=True).decode().partition(":")
        return int(recorded_at_us), UUID(id_)
    except ValueError:
        message = "Invalid cursor: use next_cursor of the previous page."
        raise Refusal(400, "invalid_cursor", message, param="cursor") from None
