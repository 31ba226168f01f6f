"""Recording late outcomes: one, or many as NDJSON, and those that the background queue keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias, TypedDict
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


class OutcomeFields(TypedDict, total=False):
    """Fields of an outcome besides its name and value. None is the same as no field."""

    trajectory_id: Id | None
    """The run that it is about."""
    reference: Mapping[str, str] | None
    """Instead of a run, one entry of ``external_refs``, or ``{"session_id": …}``: the outcome is
    one of each run that has it."""
    phase_id: str | None
    """The phase that it is about; else the run."""
    at: Time | None
    """When it became known; by default, when it is accepted."""
    evidence: Mapping[str, str] | None
    """Texts that say where it can be seen."""
    idempotency_key: str | None
    """The same key for the same target is the same outcome. Default: a new one."""


def fields_of(name: str, value: Value, given: OutcomeFields) -> params.LateOutcome:
    """Return the fields to send, with an idempotency key of their own if none is given. A resend is
    then the same outcome.

    Raises:
        TypeError: a field is unknown.
        ValueError: there is not exactly one target.
    """
    unknown = given.keys() - OutcomeFields.__annotations__.keys()
    if unknown:
        raise TypeError(
            f"An outcome has no field {min(unknown)}; its fields are {', '.join(OutcomeFields.__annotations__)}"
        )
    known: dict[str, Any] = {field: one for field, one in given.items() if one is not None}
    if ("trajectory_id" in known) == ("reference" in known):
        raise ValueError("Give either trajectory_id or reference")
    if "trajectory_id" in known:
        known["trajectory_id"] = str(known["trajectory_id"])
    fields: Any = {"name": name, "value": value, "idempotency_key": uuid4().hex, **known}
    return {field: json_value(one) for field, one in fields.items()}  # type: ignore[return-value]


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
