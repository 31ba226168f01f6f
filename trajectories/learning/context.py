"""The request of a recommendation: what is known before a phase runs, and the rules to keep."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from trajectories.domain.contract_types import MAX_PHASES, Cost, Count, Name, PhaseOutcome, Probability
from trajectories.domain.json_values import expect_few_values
from trajectories.domain.outcomes import phase_group
from trajectories.domain.query import SPAN_PATTERN
from trajectories.domain.schema import invalid_input

MAX_CANDIDATES = 20
Positive = Annotated[float, Field(gt=0, le=1_000_000)]


class Body(BaseModel):
    """A part of a request's body."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True, hide_input_in_errors=True)


class CandidateModel(Body):
    """A model that may run the phase. Without a cost or prices, recorded costs are used."""

    model: Name
    cost_usd: Cost | None = Field(None, description="Expected cost of the phase with this model.")
    input_usd_per_mtok: Cost | None = Field(
        None,
        description="Price of a million input tokens; with the other price and recorded token counts it gives the cost.",
    )
    output_usd_per_mtok: Cost | None = Field(None, description="Price of a million output tokens.")


class EarlierPhase(Body):
    """A phase that this run has had. The last failed model of the same phase decides which outcomes
    are compared: those after its failure."""

    phase_name: Name
    model: Name | None = None
    outcome: PhaseOutcome | None = None


class QualityFloor(Body):
    """The least success: that of a model, or a rate. Give one of the two."""

    model: Name | None = Field(None, description="At least as good as this model.")
    success: Probability | None = Field(None, description="At least this success rate.")
    margin: Probability = Field(0.0, description="How much lower the success may be.")
    confidence: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.95, description="Probability with which the floor must be kept, by what is known."
    )

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if (self.model is None) == (self.success is None):
            raise PydanticCustomError("floor", "Give either model or success")
        return self


class RecommendationRequest(Body):
    """A decision to make now."""

    phase: Name = Field(description="The phase to run; aliases are grouped as in stats.")
    candidates: list[CandidateModel] = Field(
        min_length=1, max_length=MAX_CANDIDATES, description="Models to choose from; each once."
    )
    request_type: Name | None = None
    project: Name | None = None
    phases: list[EarlierPhase] = Field([], max_length=MAX_PHASES, description="Phases of this run so far.")
    allow_skip: bool = Field(False, description="Skipping the phase is an action too.")
    allow_escalation: bool = Field(
        True, description="A plan may try a cheaper model first and another one after a failed check."
    )
    budget_usd: Cost | None = Field(None, description="Highest cost of the phase, with the second model of a plan.")
    floor: QualityFloor | None = None
    min_samples: Count = Field(0, description="Models with fewer known outcomes in these cells are not chosen.")
    cost_weight: Annotated[float, Field(ge=0, le=100)] = Field(
        0.1, description="Success that the cost of the dearest candidate takes away: 0.1 is ten points of a hundred."
    )
    success_value_usd: Annotated[float, Field(ge=1e-6)] | None = Field(
        None, description="The worth of a success in USD; replaces cost_weight."
    )
    explore: Probability = Field(
        0.02,
        description="Share of choices that are made evenly among eligible actions, so that other policies can be evaluated.",
    )
    half_life_days: Positive | None = Field(
        90.0, description="Age at which an outcome counts half, by weeks; null: all count fully."
    )
    since: Annotated[str, Field(pattern=SPAN_PATTERN)] | None = Field(
        None, description="Use outcomes of this span before now only, such as 30d, by weeks."
    )
    seed: Count | None = Field(None, description="Decides the choice among actions; picked by the server by default.")

    @model_validator(mode="after")
    def _names_each_once(self) -> Self:
        names = [candidate.model for candidate in self.candidates]
        if len(set(names)) < len(names):
            raise PydanticCustomError("candidates", "Name each candidate once")
        return self

    @property
    def group(self) -> str:
        return phase_group(self.phase)

    @property
    def after(self) -> str | None:
        """Return the model that failed last at this phase of this run; None if the last one did
        not."""
        same = [earlier for earlier in self.phases if phase_group(earlier.phase_name) == self.group]
        ran = [earlier for earlier in same if earlier.model is not None]
        return ran[-1].model if ran and ran[-1].outcome in ("failure", "partial") else None


def parse_request(data: bytes) -> RecommendationRequest:
    """Parse the body of a request.

    Raises:
        InvalidInput: 400; ``details`` has every problem.
        TooLarge: 413; it has more than ``json_values.MAX_VALUES`` values.
    """
    expect_few_values(data, name="request")
    try:
        return RecommendationRequest.model_validate_json(data)
    except ValidationError as error:
        raise invalid_input(error) from None
