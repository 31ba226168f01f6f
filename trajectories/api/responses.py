"""What the API answers with, as Pydantic models: the source of the OpenAPI document, held to the real answers by tests."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from trajectories.domain.schema import Trajectory


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class StoredTrajectory(Trajectory):
    """A trajectory as stored. Fields that were not given are absent, not null."""

    id: UUID
    recorded_at: datetime = Field(description="When its id was first accepted; its place in the list.")
    revision: int = Field(description="Microseconds since 1970 at which this version was accepted.")


class ErrorProblem(_Answer):
    path: str = Field(description="Where, such as phases[0].cost_usd; empty for the body as a whole.")
    code: str
    message: str


class ErrorObject(_Answer):
    type: str = Field(description="The family of the error.")
    code: str = Field(description="The error, for programs.")
    message: str = Field(description="The error, for people.")
    param: str | None = Field(None, description="The field or parameter that it is about.")
    details: list[ErrorProblem] | None = Field(None, description="Every problem that was found, at most 100.")


class ErrorBody(_Answer):
    """The one shape of every error."""

    error: ErrorObject


class LineResult(_Answer):
    """What became of one line of NDJSON: either ``revision`` or ``error``."""

    line: int = Field(description="Counted from 1, blank lines too.")
    id: UUID | None = None
    status: int = Field(description="The HTTP status that this line alone would have got.")
    revision: int | None = None
    error: ErrorObject | None = Field(
        None,
        description="Without param and details, and with the beginning of the message only, after the first 100 refused"
        " lines; at most 10 details before.",
    )


class RemovedCounts(_Answer):
    """Records that a deletion found in each part: a record is usually in several."""

    outbox: int = Field(description="Rows of this host's outbox.")
    redis: int
    archive: int
    quarantine: int = Field(description="Versions that the archive had refused.")


class DeletedTrajectory(_Answer):
    id: UUID
    deleted: Literal[True]
    removed: RemovedCounts


class MatchingTrajectories(_Answer):
    """What a dry run found."""

    count: int
    token: str = Field(description="For the call that deletes them; good for an hour, for these filters.")


class DeletedTrajectories(_Answer):
    deleted: int
    has_more: bool = Field(description="There are more than one call deletes; the same call again goes on.")
    removed: RemovedCounts


class RecordedLines(_Answer):
    accepted: int
    refused: int
    results: list[LineResult]


Tier = Literal["hot", "redis", "archive"]


class TrajectoryPage(_Answer):
    data: list[StoredTrajectory]
    next_cursor: str | None = Field(description="Give it as cursor to get the next page; null on the last one.")
    has_more: bool
    tiers: list[Tier] = Field(description="Which tiers have answered.")
    complete: bool = Field(description="False when a tier that this answer needs was unavailable.")


class Rate(_Answer):
    """A proportion with its Wilson interval (z = 1.96); null of nothing."""

    known: int
    rate: float | None
    low: float | None
    high: float | None


class MeasureSummary(_Answer):
    """Over those for which the value is known."""

    known: int
    sum: float | None
    mean: float | None


class MeasureDistribution(MeasureSummary):
    """With percentiles: the value at rank ceil(p * known), at most 1 % off."""

    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None


class OutcomeCounts(_Answer):
    success: int
    failure: int
    partial: int
    unknown: int


class PhaseOutcomeCounts(OutcomeCounts):
    skipped: int
    cancelled: int
    paused: int


class TrajectoryFigures(_Answer):
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


class RequestTypeGroup(TrajectoryFigures):
    request_type: str | None


class SourceGroup(TrajectoryFigures):
    source: str | None


class ProjectGroup(TrajectoryFigures):
    project: str | None


class PhaseFigures(_Answer):
    count: int
    outcomes: PhaseOutcomeCounts
    success_rate: Rate
    skip_rate: float | None
    value_per_dollar: float | None = Field(description="Wilson lower bound / (mean cost in USD + 0.001).")
    cost_usd: MeasureSummary
    duration_ms: MeasureSummary
    input_tokens: MeasureSummary
    output_tokens: MeasureSummary


class PhaseGroup(PhaseFigures):
    phase: str


class ModelGroup(PhaseFigures):
    model: str | None


class SelectionMethodGroup(PhaseFigures):
    selection_method: str | None


class PhaseModelGroup(PhaseFigures):
    phase: str
    model: str | None
    selection_method: str | None


class PhaseTotals(_Answer):
    count: int
    outcomes: PhaseOutcomeCounts
    skip_rate: float | None


class OtherTrajectories(TrajectoryFigures):
    groups: int = Field(description="How many groups are summed here.")


class OtherPhases(PhaseFigures):
    groups: int = Field(description="How many groups are summed here.")


class Other(_Answer):
    """Per grouping, the sum of what is beyond the 1,000 largest groups; absent where nothing is."""

    by_request_type: OtherTrajectories | None = None
    by_source: OtherTrajectories | None = None
    by_project: OtherTrajectories | None = None
    by_phase: OtherPhases | None = None
    by_model: OtherPhases | None = None
    by_selection_method: OtherPhases | None = None
    by_phase_model: OtherPhases | None = None


class Window(_Answer):
    from_: datetime | None = Field(alias="from", description="The since of the query.")
    to: datetime | None = Field(description="The until of the query.")
    tiers: list[Tier]
    as_of: datetime
    complete: bool = Field(description="False when a tier that this answer needs was unavailable.")


class Stats(TrajectoryFigures):
    """Totals and groups of all matching trajectories. Unknown is null, never 0."""

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


class Share(_Answer):
    """Cases of which something is known or true; the share is null without cases."""

    known: int
    of: int
    share: float | None


class ReadinessShares(_Answer):
    """Shares of what is known: the first four of runs, the others of phases that ran."""

    cost: Share
    outcome: Share = Field(description="Given or derived, and not unknown.")
    build: Share
    tests: Share
    tools: Share
    model: Share
    method: Share
    propensity: Share


class SkippedPhases(_Answer):
    count: int
    with_reason: int


class Overlap(_Answer):
    """Contexts are a request type and a phase; skipping is an action too."""

    contexts: int = Field(description="A sample, where there are more than 20,000.")
    with_several_actions: int = Field(description="Where several actions were taken.")
    with_overlap: int = Field(description="Where several actions had a recorded probability above 0.")
    explored_phases: Share = Field(description="Phases that ran, for which several actions had one.")


class ModelShare(_Answer):
    count: int = Field(description="How many models; at most 10,000 are counted.")
    largest: str | None = Field(description="The model of most phases.")
    largest_share: float | None


class Leaks(_Answer):
    """Signs that an example can show its own result."""

    late_phases: Share = Field(description="Phases that started before an earlier phase of the list had ended.")
    requests_with_errors: Share = Field(description="Runs whose request_summary has the text of their own error.")
    shared_requests: Share = Field(description="Runs whose request was also made in another session or project.")
    one_outcome_types: list[str] = Field(description="Request types whose runs all have one outcome; at most 10.")


class ReadinessCheck(_Answer):
    code: str
    passed: bool
    value: float | None = Field(description="Null where nothing could be measured.")
    threshold: float
    message: str | None = Field(description="What is wrong and what to do; null where it passed.")


class Readiness(_Answer):
    """Whether runs are worth training on, and what to do where they are not."""

    ready: bool = Field(description="Every check has passed.")
    checks: list[ReadinessCheck]
    runs: int = Field(description="How many were measured.")
    runs_with_cost_and_tools: int = Field(description="With a cost above 0, and tools of a phase.")
    projects: int = Field(description="At most 10,000 are counted.")
    request_types: int = Field(description="At most 10,000 are counted.")
    shares: ReadinessShares
    skipped_phases: SkippedPhases
    overlap: Overlap
    duplicates: Share = Field(description="Runs that repeat an earlier one: request, phases, models and outcomes.")
    models: ModelShare
    leaks: Leaks
    warnings: dict[str, int] = Field(description="Runs by the code of their warnings.")
    as_of: datetime
    complete: bool = Field(description="False where older runs were left out, or a tier was unavailable.")


class ExportPosition(_Answer):
    id: UUID
    recorded_at: datetime


class ExportManifest(_Answer):
    """What an export has, where it came from, and what it leaves out."""

    format: str
    options: dict[str, Any] = Field(description="The format's options, defaults included.")
    filters: dict[str, str]
    split: str | None
    split_by: str | None
    part: str | None
    deduplicated: bool
    schema_version: int = Field(description="Rises when a column is removed or changes its meaning.")
    columns: dict[str, Any] = Field(description="Names and kinds: text, int, float, bool, time, json, lists, objects.")
    tenant: str
    store: str = Field(description="Identity of the store.")
    as_of: datetime
    records_read: int = Field(description="Trajectories that match the filters.")
    records: int = Field(description="Of these, the ones that are exported.")
    lines: int
    first: ExportPosition | None
    last: ExportPosition | None
    policies: dict[str, int] = Field(description="Trajectories by their policy; at most 1,000 policies.")
    left_out: dict[str, int] = Field(description="Trajectories and decisions without a line, by the reason.")
    sha256: str | None = Field(description="Of the lines, newlines included.")
    files: list[Any] = Field(description="Empty here; manifest.json of an export to disk lists its files.")
