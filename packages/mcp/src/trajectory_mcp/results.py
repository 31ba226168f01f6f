"""What the tools answer with. A value that is not known is left out, never 0.

Every text is cut and every list has a bound (``briefs``), so that an answer has one too, whatever is stored.
"""

from __future__ import annotations

from typing import Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

MAX_RESULT_CHARS: Final = 32_000
"""Of an answer as JSON. It follows from the bounds below; a property test holds it."""
MAX_ITEMS: Final = 20
"""Runs or groups in one answer."""
MAX_PHASES: Final = 12
"""Phases in detail in one answer."""
MAX_NAMES: Final = 6
"""Names in one list."""
MAX_NAME_CHARS: Final = 60
MAX_TEXT_CHARS: Final = 200


class Result(BaseModel):
    """A part of an answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def as_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude_none=True)


class Recorded(Result):
    """A run that is stored."""

    id: UUID = Field(description="Of the run: to ask for it, or to record more of it under the same id.")
    recorded_at: str = Field(description="When the id was first taken.")
    revision: int = Field(description="Of the version that this call has stored.")
    phases: int = Field(description="How many phases it has, skipped ones too.")
    redacted: int = Field(description="Credentials that the store has replaced before it kept the run.")
    summary: str


class PhaseBrief(Result):
    """A phase of one run. Long texts are cut."""

    phase_name: str
    outcome: str | None = None
    model: str | None = None
    requested_model: str | None = Field(default=None, description="Asked for first; another model answered.")
    model_selection_method: str | None = None
    selection_probability: float | None = None
    agent: str | None = None
    attempt: int | None = None
    tools_used: list[str] | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    duration_ms: float | None = None
    skip_reason: str | None = None
    error: str | None = None


class RunBrief(Result):
    """A run in a list. Ask for its id to see the phases one by one."""

    id: UUID
    recorded_at: str
    request_summary: str
    request_type: str | None = None
    source: str | None = None
    project: str | None = None
    outcome: str | None = Field(default=None, description="As it was given; where it was not, look at the phases.")
    build_passed: bool | None = None
    tests_passed: bool | None = None
    total_cost_usd: float | None = None
    total_duration_ms: float | None = None
    phases: list[str] = Field(description="In order, with what became of them: name (outcome, model).")
    phases_left_out: int | None = None


class RunDetail(RunBrief):
    """One run. ``phases_in_detail`` begins at ``phases_from``."""

    error: str | None = None
    tags: list[str] | None = None
    review_findings: int | None = None
    critical_findings: int | None = None
    files_changed: int | None = None
    started_at: str | None = None
    ended_at: str | None = None
    phases_in_detail: list[PhaseBrief]
    next_phases_from: int | None = Field(
        default=None, description="Ask again with it as phases_from for the phases behind."
    )


class Proportion(Result):
    """A proportion of what is known, with its Wilson interval (z = 1.96). Without a known case there are no bounds."""

    known: int
    rate: float | None = None
    low: float | None = Field(default=None, description="Wilson lower bound: what can be relied on with so few cases.")
    high: float | None = None


class Group(Result):
    """Phases, or runs, that have something in common."""

    phase: str | None = None
    model: str | None = None
    selection_method: str | None = None
    request_type: str | None = None
    source: str | None = None
    project: str | None = None
    count: int
    success_rate: Proportion
    skip_rate: float | None = Field(default=None, description="Of phases: how many of them were skipped.")
    mean_cost_usd: float | None = None
    mean_duration_ms: float | None = None
    mean_output_tokens: float | None = None
    value_per_dollar: float | None = Field(
        default=None, description="Of phases: lower bound / (mean cost in USD + 0.001); higher is better."
    )


class Totals(Result):
    """Of all runs that the filters find."""

    count: int
    success_rate: Proportion
    build_pass_rate: Proportion
    test_pass_rate: Proportion
    phase_skip_rate: float | None = None
    mean_cost_usd: float | None = None
    p95_cost_usd: float | None = None
    mean_duration_ms: float | None = None
    p95_duration_ms: float | None = None


class Stats(Result):
    totals: Totals
    group_by: str
    groups: list[Group] = Field(description="The largest ones, by phase, then the best proven first.")
    groups_left_out: int = Field(description="Smaller groups; narrow the question by filters to see them.")


class Answer(Result):
    """What was found: ``runs``, ``run`` or ``stats``, as was asked."""

    show: Literal["runs", "run", "stats"]
    summary: str = Field(description="What was found, and what to ask next.")
    complete: bool = Field(description="False: a part of the store was away, and some runs may be missing.")
    runs: list[RunBrief] | None = None
    next_cursor: str | None = Field(default=None, description="Ask again with it as cursor for older runs.")
    run: RunDetail | None = None
    stats: Stats | None = None
