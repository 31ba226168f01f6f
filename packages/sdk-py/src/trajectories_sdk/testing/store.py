"""Records of the in-memory server: contract, versions, positions and deletion."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from pydantic import ValidationError

from trajectories_sdk.testing import patch
from trajectories_sdk.testing.contract import Trajectory
from trajectories_sdk.testing.facets import Facets, derived_of, facets_of, selection_method
from trajectories_sdk.testing.late_outcomes import CountedOutcome, LateOutcomes, counted
from trajectories_sdk.testing.outcomes import phase_group
from trajectories_sdk.testing.refusals import Refusal, refusal_of
from trajectories_sdk.testing.warnings import MAX_WARNINGS, warnings_of

FREE_FORM_FIELDS: Final = frozenset({"metadata", "external_refs"})
"""Fields whose keys belong to the caller; they are stored in sorted order."""
MAX_RECORD_BYTES: Final = 1024 * 1024
ID_BYTES: Final = 44
SERVER_FIELDS_BYTES: Final = 32 * 1024
"""Size of ``id`` and of what answers add, which a posted record may have on top of the limit."""
MAX_REQUEST_BYTES: Final = 16 * 1024 * 1024
MAX_LINES: Final = 10_000
SHORT_LINES: Final = 1_000
BYTES_PER_LINE: Final = 1_024
"""A request may have SHORT_LINES lines, one more for each BYTES_PER_LINE bytes, and at most
MAX_LINES."""
_MAX_EXACT: Final = 2**53 - 1


def _refuse_over_limit(size: int, added: int) -> None:
    if size > MAX_RECORD_BYTES + added:
        raise Refusal(413, "record_too_large", f"A record must not exceed {MAX_RECORD_BYTES} bytes, got {size}.")


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
    late: LateOutcomes

    @property
    def position(self) -> tuple[int, UUID]:
        return self.recorded_at_us, self.id

    def json(self) -> str:
        """Return the record as lists and exports show it."""
        return self._json({"derived": derived_of(self.facets), **self._outcomes()})

    def whole(self) -> str:
        """Return the record as the answer of a request for it alone."""
        warnings = self.warnings()
        added = {"derived": derived_of(self.facets), **self._outcomes()}
        return self._json(added | ({"warnings": warnings} if warnings else {}))

    def _outcomes(self) -> dict[str, Any]:
        found = self.late.of(json.loads(self.body))
        return {"outcomes": found} if found else {}

    def counted_outcomes(self) -> tuple[list[CountedOutcome], list[CountedOutcome]]:
        """Return its late outcomes as stats count them, and those of its phases."""
        fields = json.loads(self.body)
        ids = [phase.get("phase_id") for phase in fields["phases"]]
        return counted(self.late.of(fields), self.facets.phases, ids)

    def warnings(self, limit: int = MAX_WARNINGS) -> list[dict[str, str]]:
        return [one._asdict() for one in warnings_of(json.loads(self.body), limit)]

    def _json(self, added: Mapping[str, Any]) -> str:
        stamps = {"recorded_at": rfc3339(self.recorded_at_us), "revision": self.revision}
        return f"{self.body[:-1]},{json.dumps({**stamps, **added}, ensure_ascii=False, separators=(',', ':'))[1:]}"


class Store:
    """The records of the server. Not thread-safe; the server holds a lock."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._stamp_us = 0
        self._seq = 0
        self._records: dict[UUID, StoredRecord] = {}
        self._deleted: set[UUID] = set()
        self.late = LateOutcomes(lambda: rfc3339(self._next_stamp_us()))

    def record(self, data: bytes, *, replace: bool = False) -> tuple[StoredRecord, bool]:
        """Store one body. Return the record, and whether its id is new.

        Raises:
            Refusal: the store would refuse the body.
        """
        _refuse_over_limit(len(data), SERVER_FIELDS_BYTES)
        fields = canonical(data)
        id_ = UUID(fields["id"])
        self._refuse_deleted(id_)
        if id_ in self._records and not replace:
            _refuse_dropped_phases(json.loads(self._records[id_].body), fields)
        return self._keep(fields)

    def update(self, id_: UUID, data: bytes, if_match: str | None) -> StoredRecord:
        """Apply a merge patch, and return the record.

        Raises:
            Refusal: the store would refuse the patch.
        """
        self._refuse_deleted(id_)
        known = self.find(id_)
        if if_match is not None and if_match.strip('"') != str(known.revision):
            message = f"The trajectory {id_} has the revision {known.revision}, not {if_match}."
            raise Refusal(412, "revision_mismatch", message, param="If-Match")
        changes = patch.parse(data, id_)
        stored, _ = self._keep(canonical(json.dumps(patch.applied(json.loads(known.body), changes)).encode()))
        return stored

    def record_outcome(
        self, data: bytes, id_: UUID | None = None, key: str | None = None
    ) -> tuple[dict[str, Any], bool]:
        """Store one late outcome. Return it, and whether it is new.

        Raises:
            Refusal: the store would refuse it.
        """
        if id_ is not None:
            self._refuse_deleted(id_)
        return self.late.record(data, id_, key)

    def _refuse_deleted(self, id_: UUID) -> None:
        if id_ in self._deleted:
            raise Refusal(409, "deleted", f"The trajectory {id_} was deleted and cannot be reused.", param="id")

    def _keep(self, fields: dict[str, Any]) -> tuple[StoredRecord, bool]:
        id_ = UUID(fields["id"])
        body = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
        _refuse_over_limit(len(body.encode()), ID_BYTES)
        stamp_us, known = self._next_stamp_us(), self._records.get(id_)
        if known is None:
            self._seq += 1
            facets = facets_of(fields, stamp_us)
            self._records[id_] = StoredRecord(id_, self._seq, body, stamp_us, stamp_us, facets, self.late)
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
        self.late.delete(id_)
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
        given = {name: value for name, value in given.items() if name not in patch.SET_BY_SERVER}
    try:
        trajectory = Trajectory.model_validate_json(json.dumps(given))
    except ValidationError as error:
        raise refusal_of(error) from None
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


def _refuse_dropped_phases(known: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    before, after = known["phases"], fields["phases"]
    known_ids = {phase["phase_id"] for phase in before if "phase_id" in phase}
    lacking = known_ids - {phase.get("phase_id") for phase in after}
    if len(after) < len(before) or lacking or _groups(before, known_ids) - _groups(after, known_ids):
        message = "The record lacks phases that are stored. Send all phases, use PATCH, or add ?replace=1."
        raise Refusal(409, "phases_would_be_dropped", message, param="phases")


def _groups(phases: Sequence[Mapping[str, Any]], but: Set[str]) -> Counter[str]:
    """Return how many phases each group has, without those that have one of the ids in ``but``."""
    return Counter(phase_group(phase["phase_name"]) for phase in phases if phase.get("phase_id") not in but)


def matching(stored: Iterable[StoredRecord], query: Callable[[Facets], bool]) -> Iterator[StoredRecord]:
    """Return the records that match a query."""
    return (one for one in stored if query(one.facets))
