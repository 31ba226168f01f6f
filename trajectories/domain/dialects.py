"""Convert the camelCase body of an existing orchestrator CLI to the canonical body.

This dialect differs as follows. ``timestamp`` is the end of the run. A failed phase has zeros that
mean unknown. Skipped phases are absent. An id need not be a UUID. Unknown keys are kept in
``metadata``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Self
from uuid import UUID, uuid5

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from trajectories.domain.contract_types import (
    MAX_LOOPS,
    MAX_PHASES,
    Cost,
    Count,
    Instant,
    Milliseconds,
    Name,
    Summary,
    Text,
    Tools,
    free_values,
)
from trajectories.domain.json_values import expect_few_values
from trajectories.domain.quotes import Quotes
from trajectories.domain.schema import Trajectory, canonical, has_all_keys, invalid_input, refuse_repeated_keys

DIALECT_ID_NAMESPACE = UUID("6b0c2c57-4a35-5f0e-9d5b-2f6d0f3c1c52")
"""Namespace of the UUIDv5 that replaces an id of this dialect that is not a UUID."""


def _epoch_ms(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    try:
        return datetime.fromtimestamp(value / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        raise PydanticCustomError(
            "datetime_range", "Input should be milliseconds since 1970, within the year 9999"
        ) from None


EpochMs = Annotated[
    Instant,
    BeforeValidator(_epoch_ms),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "format": "date-time"},
                # The years 1 to 9999.
                {"type": "number", "minimum": -62_135_596_800_000, "maximum": 253_402_300_799_999},
            ]
        }
    ),
]
"""RFC 3339 is accepted too. Not a union: each branch would report its own error, under a path that
names the branch."""


class _CamelBody(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False, hide_input_in_errors=True)

    @model_validator(mode="after")
    def _keep_extra(self) -> Self:
        """Check unknown keys together: a validator for each takes a third of a second for 1 MiB."""
        if self.__pydantic_extra__:
            self.__pydantic_extra__ = free_values(self.__pydantic_extra__)
        return self


class CamelPhase(_CamelBody):
    phase: Name
    agentId: Name | None = None
    modelUsed: Name | None = None
    subagentType: Name | None = None
    toolCalls: Tools | None = None
    inputTokens: Count | None = None
    outputTokens: Count | None = None
    cost: Cost | None = None
    duration: Milliseconds | None = None
    success: bool
    skipped: bool = False
    error: Text | None = None
    outputLength: Count | None = None


class CamelOutcome(_CamelBody):
    success: bool
    phasesCompleted: Count | None = None
    phasesTotal: Count | None = None
    buildPassed: bool | None = None
    testsPassed: bool | None = None
    reviewFindings: Count | None = None
    criticalFindings: Count | None = None
    filesChanged: Count | None = None


class CamelFeedbackLoop(_CamelBody):
    from_: Name | None = Field(None, alias="from")
    to: Name | None = None
    reason: Text | None = None
    timestamp: EpochMs | None = None


class CamelTrajectory(_CamelBody):
    """The body of the existing CLI, as it posts it."""

    id: Annotated[Name, Field(min_length=1)] | None = None
    timestamp: EpochMs | None = Field(None, description="End of the run; RFC 3339 or milliseconds since 1970.")
    request: Summary
    projectPath: Name | None = None
    projectType: Name | None = None
    phases: list[CamelPhase] = Field(max_length=MAX_PHASES)
    outcome: CamelOutcome | None = None
    totalCost: Cost | None = None
    totalDuration: Milliseconds | None = None
    feedbackLoops: list[CamelFeedbackLoop] | None = Field(None, max_length=MAX_LOOPS)


class Converted(Trajectory):
    """A trajectory that was sent in a dialect."""


def read(data: bytes) -> Trajectory:
    """Parse ``data``, canonical or in a dialect; the latter is a ``Converted``.

    A body with ``request`` and without ``request_summary`` is camelCase.

    Raises:
        InvalidInput: 400; the paths are those of the detected dialect.
        TooLarge: 413; it has more than ``json_values.MAX_VALUES`` values.
    """
    return read_canonical(data)[0]


def read_canonical(data: bytes, quotes: Quotes | None = None) -> tuple[Trajectory, bytes]:
    """Do as ``read``, and return the canonical form of the trajectory, too.

    Args:
        quotes: those of the request, if it has several bodies.
    """
    expect_few_values(data)
    # Parsing camelCase as the canonical form takes long to fail: each unknown key is an error.
    value = None if b'"request_summary"' in data else _loads(data)
    trajectory = _camel(data, quotes) if value is not None and _is_camel(data, value) else _canonical(data, quotes)
    body = canonical(trajectory)
    # After parsing, which bounds the depth. Not before it: invalid JSON has an error message of its
    # own. A dialect has other keys than its canonical form.
    if isinstance(trajectory, Converted) or not has_all_keys(body, data):
        refuse_repeated_keys(data, value, quotes=quotes)
    return trajectory, body


def _canonical(data: bytes, quotes: Quotes | None) -> Trajectory:
    try:
        return Trajectory.model_validate_json(data)
    except ValidationError as error:
        # Report these errors only if the body is not camelCase: the messages for a hundred unknown
        # keys cost more than the rest of the request.
        if not _is_camel(data, _loads(data)):
            raise invalid_input(error, quotes=quotes) from None
    return _camel(data, quotes)


def _camel(data: bytes, quotes: Quotes | None) -> Trajectory:
    try:
        body = CamelTrajectory.model_validate_json(data)
        converted = orjson.dumps(_without_none(_trajectory(body)), option=orjson.OPT_UTC_Z)
        return Converted.model_validate_json(converted)
    except ValidationError as error:
        raise invalid_input(error, quotes=quotes) from None


def _loads(data: bytes) -> Any:
    """Return ``data`` as JSON, None if it is none: NaN, for example, which is refused later, by name."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None


def _is_camel(data: bytes, value: Any) -> bool:
    if value is None:
        return b'"request_summary"' not in data and b'"request"' in data
    return isinstance(value, dict) and "request" in value and "request_summary" not in value


def _trajectory(body: CamelTrajectory) -> dict[str, Any]:
    outcome = body.outcome
    phases = [_phase(phase) for phase in body.phases]
    ran = sum(1 for phase in phases if phase["outcome"] != "skipped")
    known_id = _uuid(body.id)
    rest = {
        "id": None if known_id else body.id,
        "projectType": body.projectType,
        # Nested under their own names, since a key of theirs may also exist at the top level.
        "outcome": outcome and _extra(outcome) | _without_none({"phasesCompleted": outcome.phasesCompleted}),
        "feedbackLoops": [_extra(loop) for loop in body.feedbackLoops or [] if _extra(loop)],
    }
    metadata = _extra(body) | {key: value for key, value in rest.items() if value}
    canonical: dict[str, Any] = {
        "id": known_id or (body.id and uuid5(DIALECT_ID_NAMESPACE, body.id)),
        "request_summary": body.request,
        "project": body.projectPath,
        "phases": phases,
        "total_cost_usd": body.totalCost,
        "total_duration_ms": body.totalDuration,
        "ended_at": body.timestamp,
        "feedback_loops": body.feedbackLoops and [_feedback_loop(loop) for loop in body.feedbackLoops],
    }
    if outcome:
        total = outcome.phasesTotal
        canonical |= {
            "outcome": "success" if outcome.success else "failure",
            "total_phases": total,
            "phases_skipped": None if total is None else max(0, total - ran),
            "build_passed": outcome.buildPassed,
            "tests_passed": outcome.testsPassed,
            "review_findings": outcome.reviewFindings,
            "critical_findings": outcome.criticalFindings,
            "files_changed": outcome.filesChanged,
        }
    return canonical | {"metadata": metadata or None}


def _phase(phase: CamelPhase) -> dict[str, Any]:
    outcome = "skipped" if phase.skipped else "success" if phase.success else "failure"

    def known(value: float | None) -> float | None:
        return None if outcome == "failure" and value == 0 else value

    rest = {"subagentType": phase.subagentType, "outputLength": known(phase.outputLength)}
    return {
        "phase_name": phase.phase,
        "agent": phase.agentId,
        "model": phase.modelUsed,
        "tools_used": phase.toolCalls,
        "input_tokens": known(phase.inputTokens),
        "output_tokens": known(phase.outputTokens),
        "cost_usd": known(phase.cost),
        "duration_ms": known(phase.duration),
        "outcome": outcome,
        "error": phase.error,
        "metadata": _extra(phase) | _without_none(rest) or None,
    }


def _feedback_loop(loop: CamelFeedbackLoop) -> dict[str, Any]:
    return {"from_phase": loop.from_, "to_phase": loop.to, "reason": loop.reason, "at": loop.timestamp}


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None


def _extra(body: _CamelBody) -> dict[str, Any]:
    return dict(body.model_extra or {})


def _without_none(value: Any) -> Any:
    """Remove unset fields at the two levels that this module builds.

    Nulls inside the client's own data stay.
    """
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if item is not None}
        if "phases" in kept:
            kept["phases"] = [_without_none(phase) for phase in kept["phases"]]
        return kept
    return value
