"""The answers of recommendations, evaluations and alerts, as Pydantic models; see ``responses``."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from pydantic import Field, RootModel

from trajectories.api.responses import AnswerModel


class SuccessEstimate(AnswerModel):
    """Posterior mean of success, by credit (rule checks) for phases, and its 95 % interval."""

    mean: float
    low: float
    high: float


class ActionFigures(AnswerModel):
    probability: float = Field(description="With which it is chosen; of a candidate, with which it is asked first.")
    success: SuccessEstimate
    samples: int = Field(
        description="Known outcomes at this phase, of all projects and types; of a plan, those of the second model after the"
        " first had failed."
    )
    own_samples: int = Field(description="Those of the same project and type of request.")
    expected_cost_usd: float | None
    value: float = Field(description="Success less cost, in units of success.")
    eligible: bool = Field(description="False where a rule of the request excludes it.")
    reason: str | None = Field(description="Why it is excluded.")


class RecommendedCandidate(ActionFigures):
    model: str


class EscalationPlan(ActionFigures):
    """Ask one model, and another one after a failed check."""

    model: str
    escalate_to: str


class SkipFigures(ActionFigures):
    """Skipping the phase. Success is that of the run; runs that skip may be the easy ones."""

    success_where_ran: SuccessEstimate
    ran_samples: int


class RecommendedAction(AnswerModel):
    action: Literal["run", "skip"]
    model: str | None
    escalate_to: str | None = Field(description="The model to ask after a failed check; null: none.")
    probability: float = Field(description="Probability of this action among all.")
    propensity: float = Field(
        description="Probability of its first step: this model is asked first, or the phase is skipped."
    )
    expected_success: float
    expected_cost_usd: float | None
    value: float


class BestAction(RecommendedAction):
    confidence: float = Field(description="Share of draws in which it is the best eligible action.")


class Recommendation(AnswerModel):
    """An action for a phase with its probability, and what is known of the others."""

    recommendation_id: UUID
    phase: str
    request_type: str | None
    project: str | None
    method: str
    seed: int = Field(description="The same seed and records give the same answer.")
    draws: int = Field(description="Draws of each posterior.")
    choice: RecommendedAction | None = Field(description="Null where no action keeps the rules of the request.")
    best: BestAction | None = Field(description="The eligible action of the highest value, without exploration.")
    candidates: list[RecommendedCandidate]
    plans: list[EscalationPlan]
    skip: SkipFigures | None
    reasoning: str
    complete: bool = Field(description="False when a tier that has records of the tenant was unavailable.")
    record: dict[str, Any] | None = Field(
        None,
        description="Fields to add to the phase when the choice is followed: candidates, propensity and this recommendation.",
    )


class ModelScore(AnswerModel):
    model: str
    score: float


class ModelRecommendation(AnswerModel):
    taskType: str  # noqa: N815  as an existing tool reads it
    recommendedModel: str  # noqa: N815
    confidence: float
    reasoning: str
    alternatives: list[ModelScore]


class ModelRecommendations(RootModel[list[ModelRecommendation]]):
    """The best model of each type of task, as an existing command line tool reads it."""


class CostForecast(AnswerModel):
    """The cost of a run: median, and tenth and ninetieth percentile; null without samples."""

    taskType: str  # noqa: N815  as an existing tool reads it
    complexity: str | None
    estimatedCost: float | None  # noqa: N815
    range: list[float | None] = Field(min_length=2, max_length=2)
    basedOnSamples: int  # noqa: N815


class IntervalFigures(AnswerModel):
    low: float
    high: float


class PolicyEstimate(AnswerModel):
    """An estimate of the mean reward, with 95 % intervals by normal approximation and by bootstrap."""

    method: Literal["ips", "snips", "dr"]
    value: float
    normal: IntervalFigures
    bootstrap: IntervalFigures


class OverlapFigures(AnswerModel):
    effective_samples: float = Field(description="Number of decisions of the policy that the recorded ones are worth.")
    mean_weight: float = Field(description="Near 1 where propensities are right.")
    largest_weight: float


class ExactValue(AnswerModel):
    """The value itself, where every model of the policy worked on every item."""

    value: float
    cost_usd: float | None = Field(description="Mean cost of a choice.")
    items: int


class PolicyEvaluation(AnswerModel):
    """The mean reward that a policy would have had, or why it cannot be known."""

    estimand: Literal["decision", "run"] = Field(
        description="decision: the mean reward of one decision of the policy. run: the mean outcome of runs that it decides."
    )
    runs: int = Field(
        description="Runs that were read: the newest ones, up to 1,000 runs, 4,000 phases and 3 MiB of bodies."
    )
    decisions: int = Field(description="Decisions with propensity and reward; runs where the estimand is run.")
    left_out: dict[str, int] = Field(description="Counts by reason.")
    logged_value: float | None = Field(description="Mean reward of what was done.")
    covered: float | None = Field(description="Share of the policy's choices that the recorded policy could have made.")
    overlap: OverlapFigures | None
    estimates: list[PolicyEstimate] = Field(description="Empty where there is a refusal.")
    exact: ExactValue | None
    refusal: str | None = Field(description="Why the value cannot be estimated, in one sentence.")
    complete: bool = Field(description="False when older runs were left out, or a tier was unavailable.")


class Alert(AnswerModel):
    code: Literal["model_dominates", "success_changed", "recommendations_ignored", "recommendations_worse"]
    phase: str
    request_type: str | None
    model: str | None
    value: float = Field(description="The share or rate of this period.")
    before: float | None = Field(description="The value to compare with; null without one.")
    samples: int
    message: str


class AdviceRate(AnswerModel):
    """Choices, and the credited success of those whose outcome is known, with its Wilson interval."""

    choices: int
    known: int
    rate: float | None
    low: float | None
    high: float | None


class PhaseAdvice(AnswerModel):
    phase: str
    followed: AdviceRate
    ignored: AdviceRate


class Alerts(AnswerModel):
    """Changes in the choices and their success."""

    weeks: int = Field(description="Length of this period, with this week; weeks begin on Monday, UTC.")
    alerts: list[Alert]
    recommendations: list[PhaseAdvice] = Field(description="Recorded recommendations of this period, by phase.")
    complete: bool = Field(description="False when a tier that has records of the tenant was unavailable.")
