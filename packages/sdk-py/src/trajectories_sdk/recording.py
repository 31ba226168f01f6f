"""Recording: one trajectory, or many in batches of NDJSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias
from uuid import UUID, uuid4

from pydantic import BaseModel

from trajectories_sdk import params
from trajectories_sdk.config import Config
from trajectories_sdk.errors import PayloadTooLargeError, TrajectoryError
from trajectories_sdk.flow import (
    JSON,
    MERGE_PATCH,
    NDJSON,
    NO_MORE,
    PATH,
    Flow,
    Request,
    Take,
    call_for,
    one_path,
    request,
)
from trajectories_sdk.models import (
    ErrorObject,
    ErrorProblem,
    LineResult,
    RecordedLines,
    StoredTrajectory,
    Trajectory,
)
from trajectories_sdk.repair import MAX_ROUNDS, LeftOut, repaired
from trajectories_sdk.results import RecordedMany
from trajectories_sdk.values import Id, json_value
from trajectories_sdk.warning_log import WarningLog

AnyTrajectory: TypeAlias = params.Trajectory | Trajectory | StoredTrajectory
"""A recordable trajectory. A stored one can be sent back; the server ignores the fields that it
added."""
BAD_REQUEST: Final = 400
MAX_LINES: Final = 500
MAX_BYTES: Final = 8 * 1024 * 1024
NOT_SERIALIZABLE: Final = "not_serializable"
"""Error code of a record that was not sent because it has no JSON form."""


def fields_of(trajectory: AnyTrajectory | Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields to send, with a generated ``id`` if there is none. A resend is then the
    same record."""
    is_model = isinstance(trajectory, BaseModel)
    fields = json_value(trajectory) if is_model else dict(trajectory)
    if fields.get("id") is None:
        fields["id"] = str(uuid4())
    return fields


def encoded(fields: Mapping[str, Any]) -> bytes:
    """Return JSON on one line.

    Raises:
        TypeError, ValueError: a value has no JSON form: NaN, a datetime without timezone, a lone
            surrogate.
        RecursionError: it is nested too deeply, or contains itself.
    """
    text = json.dumps(fields, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=json_value)
    return text.encode()


def record(
    config: Config, trajectory: AnyTrajectory, log: WarningLog, *, replace: bool = False
) -> Flow[StoredTrajectory]:
    """Record one trajectory, and return it as stored."""
    return (yield from record_body(config, encoded(fields_of(trajectory)), log, replace=replace))


def record_body(config: Config, body: bytes, log: WarningLog, *, replace: bool = False) -> Flow[StoredTrajectory]:
    """Record the JSON of one trajectory, and return it as stored."""
    query = _replacing(replace)
    sent = request(config, "POST", PATH, query, body=body, content_type=JSON)
    return (yield from _stored(config, sent, log))


def update(
    config: Config, id_: Id, patch: params.TrajectoryPatch, if_match: int | None, log: WarningLog
) -> Flow[StoredTrajectory]:
    """Change fields of one trajectory, and return it as stored."""
    sent = request(config, "PATCH", one_path(id_), body=encoded(patch), content_type=MERGE_PATCH, if_match=if_match)
    return (yield from _stored(config, sent, log))


def _stored(config: Config, sent: Request, log: WarningLog) -> Flow[StoredTrajectory]:
    stored = yield from call_for(config, sent, StoredTrajectory)
    log.note(stored.id, stored.warnings)
    return stored


def _replacing(replace: bool) -> dict[str, object]:
    return {"replace": 1 if replace else None}


@dataclass(slots=True)
class _Line:
    number: int
    id: UUID | None
    data: bytes


@dataclass(slots=True)
class _Batch:
    """Lines to send, and the results so far."""

    max_lines: int
    max_bytes: int
    log: WarningLog
    replace: bool = False
    lines: list[_Line] = field(default_factory=list)
    size: int = 0
    results: dict[int, LineResult] = field(default_factory=dict)

    def log_warnings(self) -> None:
        self.log.note_all((result.id, result.warnings) for result in self.results.values())

    def has_room(self, line: _Line) -> bool:
        return not self.lines or (len(self.lines) < self.max_lines and self.size + len(line.data) + 1 <= self.max_bytes)

    def add(self, line: _Line) -> None:
        self.lines.append(line)
        self.size += len(line.data) + 1

    def take_lines(self) -> list[_Line]:
        lines, self.lines, self.size = self.lines, [], 0
        return lines

    def summary(self) -> RecordedMany:
        results = tuple(self.results[number] for number in sorted(self.results))
        refused = sum(1 for result in results if result.error is not None)
        return RecordedMany(len(results) - refused, refused, results)


def record_many(
    config: Config, log: WarningLog, *, max_lines: int, max_bytes: int, replace: bool
) -> Flow[RecordedMany]:
    """Record all items from ``Take`` in batches. An invalid record becomes a refused line.

    Raises:
        TrajectoryError: a whole batch failed; ``recorded`` has the results of the lines before it.
    """
    if max_lines < 1 or max_bytes < 1:
        raise ValueError(f"max_lines and max_bytes must be at least 1, got {max_lines} and {max_bytes}")
    batch, number = _Batch(max_lines, max_bytes, log, replace), 0
    try:
        while (item := (yield Take())) is not NO_MORE:
            number += 1
            line = _line(number, item)
            if isinstance(line, LineResult):
                batch.results[number] = line
                continue
            if not batch.has_room(line):
                yield from _send(config, batch, batch.take_lines())
            batch.add(line)
        yield from _send(config, batch, batch.take_lines())
    except TrajectoryError as error:
        error.recorded = batch.summary()
        raise
    finally:
        batch.log_warnings()
    return batch.summary()


def record_lines(config: Config, bodies: Sequence[bytes], log: WarningLog) -> Flow[tuple[LineResult, ...]]:
    """Record JSON bodies in one request, and return a result for each."""
    batch = _Batch(len(bodies), MAX_BYTES, log)
    yield from _send(config, batch, [_Line(number, None, body) for number, body in enumerate(bodies, 1)])
    batch.log_warnings()
    return batch.summary().results


EXPLAINED_LINES: Final = 100
"""The server names the problems of at most this many refused lines of a request."""


def record_kept_lines(
    config: Config, bodies: Sequence[bytes], log: WarningLog, on_left_out: Callable[[str, LeftOut], None]
) -> Flow[tuple[LineResult, ...]]:
    """Like ``record_lines``, but leave out the fields that the server refuses.

    Args:
        on_left_out: called with the id of the record, for each field of a record that was accepted.
    """
    results = list((yield from record_lines(config, bodies, log)))
    refused = [at for at, result in enumerate(results) if result.status == BAD_REQUEST]
    for start in range(0, len(refused), EXPLAINED_LINES):
        yield from _keep(config, bodies, results, refused[start : start + EXPLAINED_LINES], log, on_left_out)
    return tuple(results)


def _keep(
    config: Config,
    bodies: Sequence[bytes],
    results: list[LineResult],
    refused: Sequence[int],
    log: WarningLog,
    on_left_out: Callable[[str, LeftOut], None],
) -> Flow[None]:
    """Send refused lines again without the fields at fault, and update their ``results``."""
    sent = {at: bodies[at] for at in refused}
    # The server does not explain every line of a long batch.
    yield from _send_again(config, {at: body for at, body in sent.items() if not _problems(results[at])}, results, log)
    changes: dict[int, list[LeftOut]] = {}
    for attempt in range(MAX_ROUNDS):
        fixed = {at: repaired(body, _problems(results[at]), attempt) for at, body in sent.items()}
        again = {at: one for at, one in fixed.items() if one is not None}
        yield from _send_again(config, {at: body for at, (body, _) in again.items()}, results, log)
        for at, (_, changed) in again.items():
            changes.setdefault(at, []).extend(changed)
        sent = {at: body for at, (body, _) in again.items() if results[at].status == BAD_REQUEST}
        if not sent:
            break
    for at, changed in changes.items():
        if results[at].error is None:
            for one in changed:
                on_left_out(str(results[at].id), one)


def _send_again(config: Config, lines: Mapping[int, bytes], results: list[LineResult], log: WarningLog) -> Flow[None]:
    if lines:
        answers = yield from record_lines(config, list(lines.values()), log)
        for at, result in zip(lines, answers, strict=True):
            results[at] = result.model_copy(update={"line": at + 1})


def _problems(result: LineResult) -> Sequence[ErrorProblem]:
    return (result.error and result.error.details) or ()


def _line(number: int, item: Any) -> _Line | LineResult:
    id_: UUID | None = None
    try:
        fields = fields_of(item)
        id_ = _uuid(fields["id"])
        return _Line(number, id_, encoded(fields))
    except Exception as error:  # a caller's mapping may raise anything, and must not block other records
        error_object = ErrorObject(
            type="invalid_request_error",
            code=NOT_SERIALIZABLE,
            message=f"The record has no JSON form: {type(error).__name__}: {str(error)[:200]}",
        )
        return LineResult(line=number, id=id_, status=400, error=error_object)


def _uuid(value: object) -> UUID | None:
    try:
        return value if isinstance(value, UUID) else UUID(str(value))
    except ValueError:
        return None  # the server refuses it with its own message


def _send(config: Config, batch: _Batch, lines: list[_Line]) -> Flow[None]:
    if not lines:
        return
    body = b"\n".join(line.data for line in lines) + b"\n"
    sent = request(config, "POST", PATH, _replacing(batch.replace), body=body, content_type=NDJSON)
    try:
        response = yield from call_for(config, sent, RecordedLines)
    except PayloadTooLargeError as error:
        # A proxy may have a lower limit. Split the batch, so that only a single line can be refused.
        if len(lines) == 1:
            batch.results[lines[0].number] = _refused_line(lines[0], error)
            return
        for half in _split_in_half(lines):
            yield from _send(config, batch, half)
        return
    for line, result in zip(lines, response.results, strict=True):
        batch.results[line.number] = result.model_copy(update={"line": line.number, "id": result.id or line.id})


def _split_in_half(lines: list[_Line]) -> Iterator[list[_Line]]:
    middle = len(lines) // 2
    yield lines[:middle]
    yield lines[middle:]


def _refused_line(line: _Line, error: PayloadTooLargeError) -> LineResult:
    error_object = ErrorObject(type="invalid_request_error", code=error.code, message=error.message, param=error.param)
    return LineResult(line=line.number, id=line.id, status=error.status, error=error_object)
