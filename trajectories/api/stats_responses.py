"""The answer of stats, as Pydantic models; see ``responses``."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

from pydantic import Field

from trajectories.api.responses import AnswerModel, CreditRule, Tier


class Rate(AnswerModel):
    """A proportion with its Wilson interval (z = 1.96); null of nothing."""

    known: int
    rate: float | None
    low: float | None
    high: float | None


class MeasureSummary(AnswerModel):
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


class OutcomeCounts(AnswerModel):
    success: int
    failure: int
    partial: int
    unknown: int


class FitCounts(AnswerModel):
    good_fit: int
    underpowered: int
    overprovisioned: int
    failed: int


class LateOutcomeFigures(AnswerModel):
    """Late outcomes of one name."""

    count: int
    rate: Rate = Field(description="Share of true among the outcomes with true or false.")
    mean: float | None = Field(description="Mean of the outcomes with a number.")
    numbers: int = Field(description="How many have a number.")
    fits: FitCounts = Field(description="Count of each word of the outcome fit.")


class LateOutcomeGroup(LateOutcomeFigures):
    name: str


class LateOutcomePhaseGroup(LateOutcomeGroup):
    phase: str
    model: str | None


class OtherLateOutcomes(LateOutcomeFigures):
    groups: int = Field(description="How many groups are summed here.")


class PhaseOutcomeCounts(OutcomeCounts):
    skipped: int
    cancelled: int
    paused: int


class TrajectoryFigures(AnswerModel):
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


class PhaseFigures(AnswerModel):
    count: int
    outcomes: PhaseOutcomeCounts
    success_rate: Rate = Field(description="By the phase's own outcome. A phase that returned is a success here.")
    credited_success_rate: Rate = Field(description="By the outcome that credit_rule gives. Rank models by this one.")
    skip_rate: float | None
    fits: FitCounts = Field(description="How phases say that their model suited them.")
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


class PhaseTotals(AnswerModel):
    count: int
    outcomes: PhaseOutcomeCounts
    skip_rate: float | None


class RunsByPresence(AnswerModel):
    """Runs in which a phase ran, or was skipped."""

    runs: int
    success_rate: Rate = Field(description="Of these runs, by their outcome, given or derived.")
    cost_usd: MeasureSummary = Field(description="Of these runs.")


class SkipFigures(AnswerModel):
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
    duration_ms: MeasureDistribution


class OtherTrajectories(TrajectoryFigures):
    groups: int = Field(description="How many groups are summed here.")


class OtherPhases(PhaseFigures):
    groups: int = Field(description="How many groups are summed here.")


class OtherSkips(SkipFigures):
    groups: int = Field(description="How many groups are summed here.")


class Other(AnswerModel):
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
    late_outcomes: OtherLateOutcomes | None = None
    late_outcomes_by_phase_model: OtherLateOutcomes | None = None
    series: OtherTrajectories | None = None


class Window(AnswerModel):
    from_: datetime | None = Field(alias="from", description="The since of the query.")
    to: datetime | None = Field(description="The until of the query.")
    tiers: list[Tier]
    as_of: datetime
    complete: bool = Field(description="False when a tier that this answer needs was unavailable.")
    computed_from: Literal["rollups", "records"] = Field(
        description="rollups: from sums that the archive keeps for each day. records: from the records, which takes"
        " longer the more there are."
    )


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
    late_outcomes: list[LateOutcomeGroup] = Field(description="By name, over the matching trajectories.")
    late_outcomes_by_phase_model: list[LateOutcomePhaseGroup] = Field(
        description="An outcome of a phase counts for that phase, and one of the run for each phase that ran."
    )
    series: list[Bucket] | None = Field(None, description="Only with bucket; oldest first, without empty buckets.")
    other: Other
    window: Window
