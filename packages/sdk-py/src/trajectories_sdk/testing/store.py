"""Records of the in-memory server: contract, versions, positions and deletion."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from pydantic import ValidationError

from trajectories_sdk.testing.contract import Trajectory
from trajectories_sdk.testing.facets import Facets, facets_of, selection_method

SET_BY_SERVER: Final = ("recorded_at", "revision")
FREE_FORM_FIELDS: Final = frozenset({"metadata", "external_refs"})
"""Fields whose keys belong to the caller; they are stored in sorted order."""
MAX_RECORD_BYTES: Final = 1024 * 1024
SERVER_FIELDS_BYTES: Final = 116
"""Size of ``id``, ``recorded_at`` and ``revision``, which a record may have on top of the limit."""
_STAMPS_BYTES: Final = 72
MAX_REQUEST_BYTES: Final = 16 * 1024 * 1024
MAX_LINES: Final = 10_000
_MAX_EXACT: Final = 2**53 - 1


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
    return {"type": error["type"], "code": error["code"], "message": error["message"][:60]}


def _refuse_over_limit(size: int) -> None:
    if size > MAX_RECORD_BYTES + SERVER_FIELDS_BYTES:
        raise Refusal(413, "record_too_large", f"A record must not exceed {MAX_RECORD_BYTES} bytes, got {size}.")


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


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """One record. ``seq`` numbers ids in order of arrival; ``recorded_at_us`` and ``revision`` are
    as in the store."""

    id: UUID
    seq: int
    body: str
    recorded_at_us: int
    revision: int
    facets: Facets

    @property
    def position(self) -> tuple[int, UUID]:
        return self.recorded_at_us, self.id

    def json(self) -> str:
        return f'{self.body[:-1]},"recorded_at":"{rfc3339(self.recorded_at_us)}","revision":{self.revision}}}'


class Store:
    """The records of the server. Not thread-safe; the server holds a lock."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._stamp_us = 0
        self._seq = 0
        self._records: dict[UUID, StoredRecord] = {}
        self._deleted: set[UUID] = set()

    def record(self, data: bytes) -> tuple[StoredRecord, bool]:
        """Store one body. Return the record, and whether its id is new.

        Raises:
            Refusal: the store would refuse the body.
        """
        _refuse_over_limit(len(data))
        fields = canonical(data)
        id_ = UUID(fields["id"])
        if id_ in self._deleted:
            raise Refusal(409, "deleted", f"The trajectory {id_} was deleted and cannot be reused.", param="id")
        body = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
        _refuse_over_limit(len(body.encode()) + _STAMPS_BYTES)
        stamp_us, known = self._next_stamp_us(), self._records.get(id_)
        if known is None:
            self._seq += 1
            self._records[id_] = StoredRecord(id_, self._seq, body, stamp_us, stamp_us, facets_of(fields, stamp_us))
        elif known.body != body:
            facets = facets_of(fields, known.recorded_at_us)
            self._records[id_] = replace(known, body=body, revision=stamp_us, facets=facets)
        return self._records[id_], known is None

    def find(self, id_: UUID) -> StoredRecord:
        """Return the record with this id.

        Raises:
            Refusal: 404.
        """
        if id_ not in self._records:
            raise Refusal(404, "not_found", f"There is no trajectory {id_}.", param="id")
        return self._records[id_]

    def in_order(self) -> list[StoredRecord]:
        """Return the records in order of arrival."""
        return sorted(self._records.values(), key=lambda stored: stored.seq)

    def newest_first(self) -> list[StoredRecord]:
        return sorted(self._records.values(), key=lambda stored: stored.position, reverse=True)

    def delete(self, id_: UUID) -> int:
        """Delete a record, and return the number deleted: 0 if it was already deleted.

        Raises:
            Refusal: 404; the id never existed.
        """
        if id_ not in self._deleted:
            self.find(id_)
        self._deleted.add(id_)
        return 0 if self._records.pop(id_, None) is None else 1

    def now_us(self) -> int:
        delta = self._clock() - datetime(1970, 1, 1, tzinfo=UTC)
        return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds

    def _next_stamp_us(self) -> int:
        self._stamp_us = max(self.now_us(), self._stamp_us + 1)
        return self._stamp_us


def rfc3339(us: int) -> str:
    """Return microseconds since 1970 as text."""
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def canonical(data: bytes) -> dict[str, Any]:
    """Return the store's form of a body: without nulls, times in UTC, normalized selection methods,
    an id.

    Raises:
        Refusal: 400, with every problem.
    """
    try:
        given = json.loads(data, parse_float=lambda text: _plain(float(text)))
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "invalid_json", f"Invalid JSON: {error}") from None
    if isinstance(given, dict):
        given = {name: value for name, value in given.items() if name not in SET_BY_SERVER}
    try:
        trajectory = Trajectory.model_validate_json(json.dumps(given))
    except ValidationError as error:
        raise _refusal(error) from None
    fields: dict[str, Any] = _plain(trajectory.model_dump(exclude_none=True))
    fields = {"id": str(uuid4()), **fields}
    for holder in (fields, *fields["phases"]):
        for name in FREE_FORM_FIELDS & holder.keys():
            holder[name] = _sorted(holder[name])
    for phase in fields["phases"]:
        if "model_selection_method" in phase:
            phase["model_selection_method"] = selection_method(phase["model_selection_method"])
    return fields


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {name: _plain(item) for name, item in value.items()}
        case list():
            return [_plain(item) for item in value]
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case UUID():
            return str(value)
        case float() if value.is_integer() and abs(value) <= _MAX_EXACT:
            return int(value)
    return value


def _sorted(value: Any) -> Any:
    match value:
        case dict():
            return {key: _sorted(value[key]) for key in sorted(value)}
        case list():
            return [_sorted(item) for item in value]
    return value


def _refusal(error: ValidationError) -> Refusal:
    details = [
        _problem(one["loc"], one["type"], one["msg"]) for one in error.errors(include_url=False, include_input=False)
    ]
    first = details[0]
    more = f" ({len(details) - 1} more)" if len(details) > 1 else ""
    where = f"{first['path']}: " if first["path"] else ""
    message = f"{where}{first['message']}{more}"
    return Refusal(400, "invalid_input", message, param=first["path"] or None, details=details)


def _problem(loc: tuple[int | str, ...], code: str, message: str) -> dict[str, str]:
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
    return {"path": path, "code": code, "message": message}


def matching(stored: Iterable[StoredRecord], query: Callable[[Facets], bool]) -> Iterator[StoredRecord]:
    """Return the records that match a query."""
    return (one for one in stored if query(one.facets))
