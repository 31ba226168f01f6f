# Made by packages/sdk-py/generate.py from docs/openapi.json.
"""What the server answers with. Unknown fields are kept; unknown values of known fields are, too."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field, StringConstraints

from trajectory_sdk.response_base import ResponseModel


class Candidate(ResponseModel):
    """A model that could have been picked."""

    model: str
    score: float | None = None
    """What the selector gave it; the scale is the selector's."""
    probability: float | None = None
    """With which the selector would have picked it."""


class DeletedTrajectories(ResponseModel):
    deleted: int
    has_more: bool
    """There are more than one call deletes; the same call again goes on."""
    removed: RemovedCounts


class DeletedTrajectory(ResponseModel):
    id: UUID
    deleted: Literal[True]
    removed: RemovedCounts


class ErrorBody(ResponseModel):
    """The one shape of every error."""

    error: ErrorObject


class ErrorObject(ResponseModel):
    type: str
    """The family of the error."""
    code: str
    """The error, for programs."""
    message: str
    """The error, for people."""
    param: str | None = None
    """The field or parameter that it is about."""
    details: list[ErrorProblem] | None = None
    """Every problem that was found, at most 100."""


class ErrorProblem(ResponseModel):
    path: str
    """Where, such as phases[0].cost_usd; empty for the body as a whole."""
    code: str
    message: str


class FeedbackLoop(ResponseModel):
    """A later phase sent work back to an earlier one."""

    from_phase: str | None = None
    to_phase: str | None = None
    reason: str | None = None
    at: AwareDatetime | None = None


class LineResult(ResponseModel):
    """What became of one line of NDJSON: either ``revision`` or ``error``."""

    line: int
    """Counted from 1, blank lines too."""
    id: UUID | None = None
    status: int
    """The HTTP status that this line alone would have got."""
    revision: int | None = None
    error: ErrorObject | None = None


class MatchingTrajectories(ResponseModel):
    """What a dry run found."""

    count: int
    token: str
    """For the call that deletes them; good for an hour, for these filters."""


class MeasureDistribution(ResponseModel):
    """With percentiles: the value at rank ceil(p * known), at most 1 % off."""

    known: int
    sum: float | None
    mean: float | None
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None


class MeasureSummary(ResponseModel):
    """Over those for which the value is known."""

    known: int
    sum: float | None
    mean: float | None


class ModelGroup(ResponseModel):
    count: int
    outcomes: PhaseOutcomeCounts
    success_rate: Rate
    skip_rate: float | None
    value_per_dollar: float | None
    """Wilson lower bound / (mean cost in USD + 0.001)."""
    cost_usd: MeasureSummary
    duration_ms: MeasureSummary
    input_tokens: MeasureSummary
    output_tokens: MeasureSummary
    model: str | None


class Other(ResponseModel):
    """Per grouping, the sum of what is beyond the 1,000 largest groups; absent where nothing is."""

    by_request_type: OtherTrajectories | None = None
    by_source: OtherTrajectories | None = None
    by_project: OtherTrajectories | None = None
    by_phase: OtherPhases | None = None
    by_model: OtherPhases | None = None
    by_selection_method: OtherPhases | None = None
    by_phase_model: OtherPhases | None = None


class OtherPhases(ResponseModel):
    count: int
    outcomes: PhaseOutcomeCounts
    success_rate: Rate
    skip_rate: float | None
    value_per_dollar: float | None
    """Wilson lower bound / (mean cost in USD + 0.001)."""
    cost_usd: MeasureSummary
    duration_ms: MeasureSummary
    input_tokens: MeasureSummary
    output_tokens: MeasureSummary
    groups: int
    """How many groups are summed here."""


class OtherTrajectories(ResponseModel):
    count: int
    outcomes: OutcomeCounts
    success_rate: Rate
    build_pass_rate: Rate
    test_pass_rate: Rate
    cost_usd: MeasureSummary
    duration_ms: MeasureSummary
    input_tokens: MeasureSummary
    output_tokens: MeasureSummary
    tokens: MeasureSummary
    groups: int
    """How many groups are summed here."""


class OutcomeCounts(ResponseModel):
    success: int
    failure: int
    partial: int
    unknown: int


class Phase(ResponseModel):
    """One phase of the run, in the order in which they ran; a name may repeat."""

    phase_name: str
    """Kept as sent; stats and filters group it by the alias table."""
    agent: str | None = None
    model: str | None = None
    """The model that answered."""
    requested_model: str | None = None
    """The model that was asked for, where a fallback answered."""
    model_selection_method: str | None = None
    """explicit, thompson-sampling, pattern-recommendation; other words are kept."""
    candidates: list[Candidate] | None = None
    selection_probability: float | None = None
    """Propensity: the probability with which the model was picked."""
    tools_used: list[str] | None = None
    steps_taken: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_input_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None
    duration_ms: float | None = None
    outcome: Literal["success", "failure", "partial", "skipped", "unknown"] | str | None = None
    skip_reason: str | None = None
    attempt: int | None = None
    error: str | None = None
    started_at: AwareDatetime | None = None
    metadata: dict[str, Any] | None = None


class PhaseGroup(ResponseModel):
    count: int
    outcomes: PhaseOutcomeCounts
    success_rate: Rate
    skip_rate: float | None
    value_per_dollar: float | None
    """Wilson lower bound / (mean cost in USD + 0.001)."""
    cost_usd: MeasureSummary
    duration_ms: MeasureSummary
    input_tokens: MeasureSummary
    output_tokens: MeasureSummary
    phase: str


class PhaseModelGroup(ResponseModel):
    count: int
    outcomes: PhaseOutcomeCounts
    success_rate: Rate
    skip_rate: float | None
    value_per_dollar: float | None
    """Wilson lower bound / (mean cost in USD + 0.001)."""
    cost_usd: MeasureSummary
    duration_ms: MeasureSummary
    input_tokens: MeasureSummary
    output_tokens: MeasureSummary
    phase: str
    model: str | None
    selection_method: str | None


class PhaseOutcomeCounts(ResponseModel):
    success: int
    failure: int
    partial: int
    unknown: int
    skipped: int


class PhaseTotals(ResponseModel):
    count: int
    outcomes: PhaseOutcomeCounts
    skip_rate: float | None


class ProjectGroup(ResponseModel):
    count: int
    outcomes: OutcomeCounts
    success_rate: Rate
    build_pass_rate: Rate
    test_pass_rate: Rate
    cost_usd: MeasureSummary
    duration_ms: MeasureSummary
    input_tokens: MeasureSummary
    output_tokens: MeasureSummary
    tokens: MeasureSummary
    project: str | None


class Rate(ResponseModel):
    """A proportion with its Wilson interval (z = 1.96); null of nothing."""

    known: int
    rate: float | None
    low: float | None
    high: float | None


class RecordedLines(ResponseModel):
    accepted: int
    refused: int
    results: list[LineResult]


class RemovedCounts(ResponseModel):
    """Records that a deletion found in each part: a record is usually in several."""

    outbox: int
    """Rows of this host's outbox."""
    redis: int
    archive: int
    quarantine: int
    """Versions that the archive had refused."""


class RequestTypeGroup(ResponseModel):
    count: int
    outcomes: OutcomeCounts
    success_rate: Rate
    build_pass_rate: Rate
    test_pass_rate: Rate
    cost_usd: MeasureSummary
    duration_ms: MeasureSummary
    input_tokens: MeasureSummary
    output_tokens: MeasureSummary
    tokens: MeasureSummary
    request_type: str | None


class SelectionMethodGroup(ResponseModel):
    count: int
    outcomes: PhaseOutcomeCounts
    success_rate: Rate
    skip_rate: float | None
    value_per_dollar: float | None
    """Wilson lower bound / (mean cost in USD + 0.001)."""
    cost_usd: MeasureSummary
    duration_ms: MeasureSummary
    input_tokens: MeasureSummary
    output_tokens: MeasureSummary
    selection_method: str | None


class SourceGroup(ResponseModel):
    count: int
    outcomes: OutcomeCounts
    success_rate: Rate
    build_pass_rate: Rate
    test_pass_rate: Rate
    cost_usd: MeasureSummary
    duration_ms: MeasureSummary
    input_tokens: MeasureSummary
    output_tokens: MeasureSummary
    tokens: MeasureSummary
    source: str | None


class Stats(ResponseModel):
    """Totals and groups of all matching trajectories. Unknown is null, never 0."""

    count: int
    outcomes: OutcomeCounts
    success_rate: Rate
    build_pass_rate: Rate
    test_pass_rate: Rate
    cost_usd: MeasureDistribution
    duration_ms: MeasureDistribution
    input_tokens: MeasureDistribution
    output_tokens: MeasureDistribution
    tokens: MeasureDistribution
    phases: PhaseTotals
    by_request_type: list[RequestTypeGroup]
    by_source: list[SourceGroup]
    by_project: list[ProjectGroup]
    by_phase: list[PhaseGroup]
    by_model: list[ModelGroup]
    by_selection_method: list[SelectionMethodGroup]
    by_phase_model: list[PhaseModelGroup]
    other: Other
    window: Window


class StoredTrajectory(ResponseModel):
    """A trajectory as stored. Fields that were not given are absent, not null."""

    id: UUID
    request_summary: str
    request_type: str | None = None
    source: str | None = None
    """The orchestrator that ran it."""
    project: str | None = None
    phases: list[Phase]
    outcome: Literal["success", "failure", "partial", "unknown"] | str | None = None
    total_cost_usd: float | None = None
    """Given totals stand, even where the phases add up to others."""
    total_duration_ms: float | None = None
    total_phases: int | None = None
    phases_skipped: int | None = None
    build_passed: bool | None = None
    tests_passed: bool | None = None
    review_findings: int | None = None
    critical_findings: int | None = None
    files_changed: int | None = None
    planned_phases: list[str] | None = None
    feedback_loops: list[FeedbackLoop] | None = None
    error: str | None = None
    started_at: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None
    session_id: str | None = None
    trace_id: str | None = None
    tags: list[str] | None = None
    external_refs: dict[Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")], str] | None = None
    """Where the run can be found elsewhere: pull request, commit."""
    metadata: dict[str, Any] | None = None
    """The client's own data; any JSON. The server adds 'trajectories:redacted' where it has replaced credentials: how many of each kind."""
    recorded_at: AwareDatetime
    """When its id was first accepted; its place in the list."""
    revision: int
    """Microseconds since 1970 at which this version was accepted."""


class Trajectory(ResponseModel):
    """One run of a multi-phase workflow."""

    id: UUID | None = None
    """Chosen by the client, so that sending again is safe; else the server picks one."""
    request_summary: str
    request_type: str | None = None
    source: str | None = None
    """The orchestrator that ran it."""
    project: str | None = None
    phases: list[Phase]
    outcome: Literal["success", "failure", "partial", "unknown"] | str | None = None
    total_cost_usd: float | None = None
    """Given totals stand, even where the phases add up to others."""
    total_duration_ms: float | None = None
    total_phases: int | None = None
    phases_skipped: int | None = None
    build_passed: bool | None = None
    tests_passed: bool | None = None
    review_findings: int | None = None
    critical_findings: int | None = None
    files_changed: int | None = None
    planned_phases: list[str] | None = None
    feedback_loops: list[FeedbackLoop] | None = None
    error: str | None = None
    started_at: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None
    session_id: str | None = None
    trace_id: str | None = None
    tags: list[str] | None = None
    external_refs: dict[Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")], str] | None = None
    """Where the run can be found elsewhere: pull request, commit."""
    metadata: dict[str, Any] | None = None
    """The client's own data; any JSON. The server adds 'trajectories:redacted' where it has replaced credentials: how many of each kind."""


class TrajectoryPage(ResponseModel):
    data: list[StoredTrajectory]
    next_cursor: str | None
    """Give it as cursor to get the next page; null on the last one."""
    has_more: bool
    tiers: list[Literal["hot", "redis", "archive"] | str]
    """Which tiers have answered."""
    complete: bool
    """False when a tier that this answer needs was away."""


class Window(ResponseModel):
    from_: Annotated[AwareDatetime | None, Field(alias="from")]
    """The since of the query."""
    to: AwareDatetime | None
    """The until of the query."""
    tiers: list[Literal["hot", "redis", "archive"] | str]
    as_of: AwareDatetime
    complete: bool
    """False when a tier that this answer needs was away."""
