"""Recording late outcomes: one, or many as NDJSON, and those that the background queue keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias
from uuid import uuid4

from trajectories_sdk import params
from trajectories_sdk.config import Config
from trajectories_sdk.flow import JSON, NDJSON, Flow, call_for, one_path, request
from trajectories_sdk.models import LineResult, OutcomeList, RecordedOutcomeLines, StoredOutcome
from trajectories_sdk.recording import encoded
from trajectories_sdk.values import Id, Time, json_value

PATH: Final = "/v1/agent/outcomes"
Value: TypeAlias = bool | float | str
_OPEN, _CLOSE = b"[", b"]"


def fields_of(
    name: str,
    value: Value,
    *,
    trajectory_id: Id | None = None,
    reference: Mapping[str, str] | None = None,
    phase_id: str | None = None,
    at: Time | None = None,
    evidence: Mapping[str, str] | None = None,
    idempotency_key: str | None = None,
) -> params.LateOutcome:
    """Return the fields to send, with an idempotency key of their own if none is given. A resend is
    then the same outcome.

    Raises:
        ValueError: there is not exactly one target.
    """
    if (trajectory_id is None) == (reference is None):
        raise ValueError("Give either trajectory_id or reference")
    fields: dict[str, Any] = {
        "name": name,
        "value": value,
        "trajectory_id": None if trajectory_id is None else str(trajectory_id),
        "reference": reference,
        "phase_id": phase_id,
        "at": at,
        "evidence": evidence,
        "idempotency_key": uuid4().hex if idempotency_key is None else idempotency_key,
    }
    given: Any = {name: json_value(field) for name, field in fields.items() if field is not None}
    return given  # type: ignore[no-any-return]


def record(config: Config, fields: params.LateOutcome) -> Flow[StoredOutcome]:
    """Record one outcome, and return it as stored."""
    sent = request(config, "POST", PATH, body=encoded(fields), content_type=JSON)
    return (yield from call_for(config, sent, StoredOutcome))


def list_of(config: Config, id_: Id) -> Flow[list[StoredOutcome]]:
    """Return the outcomes of one trajectory."""
    found = yield from call_for(config, request(config, "GET", f"{one_path(id_)}/outcomes"), OutcomeList)
    return found.data


def kept(fields: params.LateOutcome) -> bytes:
    """Return an outcome as a line of the background queue: in brackets, which no record has."""
    return _OPEN + encoded(fields) + _CLOSE


def is_kept(line: bytes) -> bool:
    """Return whether a line of the background queue is an outcome."""
    return line.startswith(_OPEN)


def record_kept_lines(config: Config, lines: Sequence[bytes]) -> Flow[tuple[LineResult, ...]]:
    """Record lines of ``kept`` in one request, and return a result for each."""
    body = b"\n".join(line[len(_OPEN) : -len(_CLOSE)] for line in lines) + b"\n"
    sent = request(config, "POST", PATH, body=body, content_type=NDJSON)
    answer = yield from call_for(config, sent, RecordedOutcomeLines)
    return tuple(LineResult(line=one.line, id=one.id, status=one.status, error=one.error) for one in answer.results)
