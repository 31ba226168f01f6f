"""The API's answers as Pydantic models: the source of the OpenAPI document, compared with the real
answers by tests."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from trajectories.domain.contract_types import Outcome
from trajectories.domain.schema import Trajectory
from trajectories.domain.warnings import MAX_WARNINGS


class AnswerModel(BaseModel):
    model_config = ConfigDict(extra="forbid")


CreditRule = Literal["checks", "phase_outcome", "run_outcome"]


class PhaseCredit(AnswerModel):
    outcome: Literal["success", "failure", "partial"] | None = Field(
        description="The outcome that the phase earned; null where it did not run, or nothing is known."
    )
    source: str = Field(
        description="Where it comes from, such as tests_passed, review or feedback_loop; docs/contract.md has them all."
        " Checks that agree are joined by +."
    )


class DerivedCredit(AnswerModel):
    rule: CreditRule
    phases: list[PhaseCredit] = Field(description="In the order of the phases.")


class Derived(AnswerModel):
    """Values that follow from the record, by the rules of docs/contract.md. Unknown is null, never
    0."""

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


class RecordWarning(AnswerModel):
    """A contradiction within a record, which is stored all the same."""

    path: str = Field(description="Where, such as phases[0].model.")
    code: str = Field(description="The contradiction, for programs.")
    message: str = Field(description="The contradiction, and what to do, for people.")


class StoredOutcome(AnswerModel):
    """A late outcome as stored. Fields that were not given are absent, not null."""

    id: UUID = Field(description="The same wherever the same outcome is sent again.")
    name: str
    value: bool | float | str
    phase_id: str | None = None
    source: str | None = Field(None, description="That of the API key; absent if the key has none.")
    reference: dict[str, str] | None = Field(None, description="The reference that it is about, if it named one.")
    evidence: dict[str, str] | None = None
    at: datetime = Field(description="When it became known, as given; else recorded_at.")
    recorded_at: datetime = Field(description="When it was accepted.")


class OutcomeList(AnswerModel):
    data: list[StoredOutcome]


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
    outcomes: list[StoredOutcome] | None = Field(
        None, description="Late outcomes, in the order of their acceptance; absent without any."
    )


class ErrorProblem(AnswerModel):
    path: str = Field(description="Where, such as phases[0].cost_usd; empty for the body as a whole.")
    code: str
    message: str


class ErrorObject(AnswerModel):
    type: str = Field(description="The family of the error.")
    code: str = Field(description="The error, for programs.")
    message: str = Field(description="The error, for people.")
    param: str | None = Field(None, description="The field or parameter that it is about.")
    details: list[ErrorProblem] | None = Field(None, description="Every problem that was found, at most 100.")


class ErrorBody(AnswerModel):
    """The one shape of every error."""

    error: ErrorObject


class LineResult(AnswerModel):
    """The result of one line of NDJSON: either ``revision`` or ``error``."""

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


class RemovedCounts(AnswerModel):
    """Records that a deletion found in each part: a record is usually in several."""

    outbox: int = Field(description="Rows of this host's outbox.")
    redis: int
    archive: int
    quarantine: int = Field(description="Versions that the archive had refused.")


class DeletedTrajectory(AnswerModel):
    id: UUID
    deleted: Literal[True]
    removed: RemovedCounts


class MatchingTrajectories(AnswerModel):
    """The result of a dry run."""

    count: int
    token: str = Field(description="For the call that deletes them; good for an hour, for these filters.")


class DeletedTrajectories(AnswerModel):
    deleted: int
    has_more: bool = Field(description="There are more than one call deletes; the same call again goes on.")
    removed: RemovedCounts


class RecordedLines(AnswerModel):
    accepted: int
    refused: int
    results: list[LineResult]


class OutcomeLineResult(AnswerModel):
    """The result of one line of NDJSON: either ``id`` or ``error``."""

    line: int = Field(description="Counted from 1, blank lines too.")
    id: UUID | None = None
    status: int = Field(description="The HTTP status that this line alone would have got.")
    error: ErrorObject | None = Field(None, description="With its first problem only.")


class RecordedOutcomeLines(AnswerModel):
    accepted: int
    refused: int
    results: list[OutcomeLineResult]


Tier = Literal["hot", "redis", "archive"]


class TrajectoryPage(AnswerModel):
    data: list[StoredTrajectory]
    next_cursor: str | None = Field(description="Give it as cursor to get the next page; null on the last one.")
    has_more: bool
    tiers: list[Tier] = Field(description="Which tiers have answered.")
    complete: bool = Field(description="False when a tier that this answer needs was unavailable.")
