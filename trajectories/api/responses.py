"""What the API answers with, as Pydantic models: the source of the OpenAPI document, held to the real answers by tests."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from trajectories.domain.contract_types import Outcome
from trajectories.domain.schema import Trajectory
from trajectories.domain.warnings import MAX_WARNINGS


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


CreditRule = Literal["checks", "phase_outcome", "run_outcome"]


class PhaseCredit(_Answer):
    outcome: Literal["success", "failure", "partial"] | None = Field(
        description="The outcome that the phase earned; null where it did not run, or nothing is known."
    )
    source: str = Field(
        description="Where it comes from, such as tests_passed, review or feedback_loop; docs/contract.md has them all."
        " Checks that agree are joined by +."
    )


class DerivedCredit(_Answer):
    rule: CreditRule
    phases: list[PhaseCredit] = Field(description="In the order of the phases.")


class Derived(_Answer):
    """What follows from the record, by the rules of docs/contract.md. Unknown is null, never 0."""

    outcome: Outcome = Field(description="As given, else from the checks and the last attempt of each phase.")
    total_cost_usd: float | None = Field(description="As given, else the sum of the phases that know theirs.")
    phases_cost_usd: float | None = Field(description="The sum of the phases that know theirs.")
    unattributed_cost_usd: float | None = Field(
        description="The total less the sum of the phases; negative where the phases add up to more."
    )
    total_duration_ms: float | None = Field(description="As given, else the sum of the phases that know theirs.")
    input_tokens: int | None
    output_tokens: int | None
    total_tokens: int | None
    credit: DerivedCredit


class RecordWarning(_Answer):
    """A contradiction within a record, which is stored all the same."""

    path: str = Field(description="Where, such as phases[0].model.")
    code: str = Field(description="The contradiction, for programs.")
    message: str = Field(description="The contradiction, and what to do, for people.")


class StoredTrajectory(Trajectory):
    """A trajectory as stored. Fields that were not given are absent, not null."""

    id: UUID
    recorded_at: datetime = Field(description="When its id was first accepted; its place in the list.")
    revision: int = Field(description="Microseconds since 1970 at which this version was accepted.")
    derived: Derived
    warnings: list[RecordWarning] | None = Field(
        None,
        max_length=MAX_WARNINGS,
        description="Contradictions within the record, at most 20; absent without any, and from lists and exports.",
    )


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
    warnings: list[RecordWarning] | None = Field(
        None,
        description="Contradictions within the record, at most 10. Messages are cut after the first 100 lines with some.",
    )
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
    cost_per_success_usd: float | None = Field(
        description="The cost of all runs whose cost is known, divided by the successful ones among them."
    )
    cost_usd: MeasureSummary
    duration_ms: MeasureSummary
    input_tokens: MeasureSummary
    output_tokens: MeasureSummary
    tokens: MeasureSummary
    unattributed_cost_usd: MeasureSummary = Field(
        description="The total cost less the sum of the phases; negative where the phases add up to more."
    )


class RequestTypeGroup(TrajectoryFigures):
    request_type: str | None


class SourceGroup(TrajectoryFigures):
    source: str | None


class ProjectGroup(TrajectoryFigures):
    project: str | None


class PolicyGroup(TrajectoryFigures):
    policy: str | None


class PhaseFigures(_Answer):
    count: int
    outcomes: PhaseOutcomeCounts
    success_rate: Rate = Field(description="By the phase's own outcome. A phase that returned is a success here.")
    credited_success_rate: Rate = Field(description="By the outcome that credit_rule gives. Rank models by this one.")
    skip_rate: float | None
    value_per_dollar: float | None = Field(
        description="Lower bound of credited_success_rate / (mean cost in USD + 0.001)."
    )
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


class RunsByPresence(_Answer):
    """Runs in which a phase ran, or was skipped."""

    runs: int
    success_rate: Rate = Field(description="Of these runs, by their outcome, given or derived.")


class SkipFigures(_Answer):
    ran: RunsByPresence = Field(description="Runs in which any phase of the group was not skipped.")
    skipped: RunsByPresence = Field(
        description="Runs in which the group was skipped. Phases not in the record do not count."
    )


class SkipGroup(SkipFigures):
    phase: str
    request_type: str | None


class Bucket(TrajectoryFigures):
    """Totals of a day or week."""

    start: date = Field(description="First day, in UTC.")


class OtherTrajectories(TrajectoryFigures):
    groups: int = Field(description="How many groups are summed here.")


class OtherPhases(PhaseFigures):
    groups: int = Field(description="How many groups are summed here.")


class OtherSkips(SkipFigures):
    groups: int = Field(description="How many groups are summed here.")


class Other(_Answer):
    """Per grouping, the sum of what is beyond the 1,000 largest groups; absent where nothing is.

    Of series, the sum of what is before the newest 1,000.
    """

    by_request_type: OtherTrajectories | None = None
    by_source: OtherTrajectories | None = None
    by_project: OtherTrajectories | None = None
    by_policy: OtherTrajectories | None = None
    by_phase: OtherPhases | None = None
    by_model: OtherPhases | None = None
    by_selection_method: OtherPhases | None = None
    by_phase_model: OtherPhases | None = None
    skips: OtherSkips | None = None
    series: OtherTrajectories | None = None


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
    by_policy: list[PolicyGroup]
    by_phase: list[PhaseGroup]
    by_model: list[ModelGroup]
    by_selection_method: list[SelectionMethodGroup]
    by_phase_model: list[PhaseModelGroup]
    credit_rule: CreditRule = Field(
        description="The rule by which credited_success_rate and value_per_dollar were counted."
    )
    skips: list[SkipGroup] = Field(
        description="How runs ended where a phase ran and where it was skipped, by request type."
    )
    series: list[Bucket] | None = Field(None, description="Only with bucket; oldest first, without empty buckets.")
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
