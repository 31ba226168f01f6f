# Made by packages/sdk-py/generate.py from docs/openapi.json.
"""What the server takes, with its bounds: for the server of the tests, which refuses what the real one would."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field, RootModel, StringConstraints

from trajectory_sdk.testing.body import Body


class Candidate(Body):
    """A model that could have been picked."""

    model: Annotated[str, Field(max_length=512, pattern="^[^\\x00]*$")]
    score: float | None = None
    """What the selector gave it; the scale is the selector's."""
    probability: Annotated[float | None, Field(ge=0.0, le=1.0)] = None
    """With which the selector would have picked it."""


class FeedbackLoop(Body):
    """A later phase sent work back to an earlier one."""

    from_phase: Annotated[str | None, Field(max_length=512, pattern="^[^\\x00]*$")] = None
    to_phase: Annotated[str | None, Field(max_length=512, pattern="^[^\\x00]*$")] = None
    reason: Annotated[str | None, Field(pattern="^[^\\x00]*$")] = None
    at: AwareDatetime | None = None


class Phase(Body):
    """One phase of the run, in the order in which they ran; a name may repeat."""

    phase_name: Annotated[str, Field(max_length=512, pattern="^[^\\x00]*$")]
    """Kept as sent; stats and filters group it by the alias table."""
    agent: Annotated[str | None, Field(max_length=512, pattern="^[^\\x00]*$")] = None
    model: Annotated[str | None, Field(max_length=512, pattern="^[^\\x00]*$")] = None
    """The model that answered."""
    requested_model: Annotated[str | None, Field(max_length=512, pattern="^[^\\x00]*$")] = None
    """The model that was asked for, where a fallback answered."""
    model_selection_method: Annotated[str | None, Field(max_length=512, pattern="^[^\\x00]*$")] = None
    """explicit, thompson-sampling, pattern-recommendation; other words are kept."""
    candidates: Annotated[list[Candidate] | None, Field(max_length=200)] = None
    selection_probability: Annotated[float | None, Field(ge=0.0, le=1.0)] = None
    """Propensity: the probability with which the model was picked."""
    tools_used: Annotated[list[ToolsUsedItem] | None, Field(max_length=10000)] = None
    steps_taken: Annotated[int | None, Field(ge=0, le=9007199254740991)] = None
    input_tokens: Annotated[int | None, Field(ge=0, le=9007199254740991)] = None
    output_tokens: Annotated[int | None, Field(ge=0, le=9007199254740991)] = None
    cached_input_tokens: Annotated[int | None, Field(ge=0, le=9007199254740991)] = None
    reasoning_tokens: Annotated[int | None, Field(ge=0, le=9007199254740991)] = None
    cost_usd: Annotated[float | None, Field(ge=0.0, le=1000000.0)] = None
    duration_ms: Annotated[float | None, Field(ge=0.0, le=10000000000000.0)] = None
    outcome: Literal["success", "failure", "partial", "skipped", "unknown"] | None = None
    skip_reason: Annotated[str | None, Field(pattern="^[^\\x00]*$")] = None
    attempt: Annotated[int | None, Field(ge=0, le=9007199254740991)] = None
    error: Annotated[str | None, Field(pattern="^[^\\x00]*$")] = None
    started_at: AwareDatetime | None = None
    metadata: dict[str, Any] | None = None


class PlannedPhase(RootModel[str]):
    root: Annotated[str, Field(max_length=512, pattern="^[^\\x00]*$")]


class Tag(RootModel[str]):
    root: Annotated[str, Field(max_length=512, pattern="^[^\\x00]*$")]


class ToolsUsedItem(RootModel[str]):
    root: Annotated[str, Field(pattern="^[^\\x00]*$")]


class Trajectory(Body):
    """One run of a multi-phase workflow."""

    id: UUID | None = None
    """Chosen by the client, so that sending again is safe; else the server picks one."""
    request_summary: Annotated[str, Field(pattern="^[^\\x00]*$")]
    request_type: Annotated[str | None, Field(max_length=512, pattern="^[^\\x00]*$")] = None
    source: Annotated[str | None, Field(max_length=512, pattern="^[^\\x00]*$")] = None
    """The orchestrator that ran it."""
    project: Annotated[str | None, Field(max_length=512, pattern="^[^\\x00]*$")] = None
    phases: Annotated[list[Phase], Field(max_length=200)]
    outcome: Literal["success", "failure", "partial", "unknown"] | None = None
    total_cost_usd: Annotated[float | None, Field(ge=0.0, le=1000000.0)] = None
    """Given totals stand, even where the phases add up to others."""
    total_duration_ms: Annotated[float | None, Field(ge=0.0, le=10000000000000.0)] = None
    total_phases: Annotated[int | None, Field(ge=0, le=9007199254740991)] = None
    phases_skipped: Annotated[int | None, Field(ge=0, le=9007199254740991)] = None
    build_passed: bool | None = None
    tests_passed: bool | None = None
    review_findings: Annotated[int | None, Field(ge=0, le=9007199254740991)] = None
    critical_findings: Annotated[int | None, Field(ge=0, le=9007199254740991)] = None
    files_changed: Annotated[int | None, Field(ge=0, le=9007199254740991)] = None
    planned_phases: Annotated[list[PlannedPhase] | None, Field(max_length=200)] = None
    feedback_loops: Annotated[list[FeedbackLoop] | None, Field(max_length=1000)] = None
    error: Annotated[str | None, Field(pattern="^[^\\x00]*$")] = None
    started_at: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None
    session_id: Annotated[str | None, Field(max_length=512, pattern="^[^\\x00]*$")] = None
    trace_id: Annotated[str | None, Field(max_length=512, pattern="^[^\\x00]*$")] = None
    tags: Annotated[list[Tag] | None, Field(max_length=200)] = None
    external_refs: dict[Annotated[str, StringConstraints(pattern=r"^[^\x00]*$", max_length=512)], str] | None = None
    """Where the run can be found elsewhere: pull request, commit."""
    metadata: dict[str, Any] | None = None
    """The client's own data; any JSON. The server adds 'trajectories:redacted' where it has replaced credentials: how many of each kind."""
