# Made by packages/sdk-py/generate.py from docs/openapi.json.
"""What is sent to the server, as typed dicts."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from trajectory_sdk.values import Id, Time


class Candidate(TypedDict):
    """A model that could have been picked."""

    model: str
    score: NotRequired[float | None]
    """What the selector gave it; the scale is the selector's."""
    probability: NotRequired[float | None]
    """With which the selector would have picked it."""


class FeedbackLoop(TypedDict):
    """A later phase sent work back to an earlier one."""

    from_phase: NotRequired[str | None]
    to_phase: NotRequired[str | None]
    reason: NotRequired[str | None]
    at: NotRequired[Time | None]


class Filters(TypedDict):
    """Which trajectories: the query parameters that list, stats, export and delete_matching have in common."""

    agent: NotRequired[str]
    """A phase of this agent."""
    build_passed: NotRequired[bool]
    """Whether the build passed."""
    max_cost_usd: NotRequired[float]
    """Cost at most this."""
    max_duration_ms: NotRequired[float]
    """Took at most this."""
    min_cost_usd: NotRequired[float]
    """Cost at least this."""
    min_duration_ms: NotRequired[float]
    """Took at least this."""
    model: NotRequired[str]
    """A phase that this model answered."""
    outcome: NotRequired[Literal["success", "failure", "partial", "unknown"]]
    """Outcome, given or derived."""
    phase: NotRequired[str]
    """A phase of this name or an alias of it."""
    project: NotRequired[str]
    """Exactly this project."""
    q: NotRequired[str]
    """Each word is part of the request summary; case and compatibility forms (NFKC) do not matter."""
    request_type: NotRequired[str]
    """Exactly this type of request."""
    selection_method: NotRequired[str]
    """A phase whose model was picked this way."""
    since: NotRequired[Time]
    """Recorded at or after."""
    source: NotRequired[str]
    """Exactly this orchestrator."""
    started_since: NotRequired[Time]
    """Started at or after."""
    started_until: NotRequired[Time]
    """Started before."""
    tag: NotRequired[str]
    """Has this tag."""
    tests_passed: NotRequired[bool]
    """Whether the tests passed."""
    tool: NotRequired[str]
    """A phase that used this tool."""
    until: NotRequired[Time]
    """Recorded before."""


class Phase(TypedDict):
    """One phase of the run, in the order in which they ran; a name may repeat."""

    phase_name: str
    """Kept as sent; stats and filters group it by the alias table."""
    agent: NotRequired[str | None]
    model: NotRequired[str | None]
    """The model that answered."""
    requested_model: NotRequired[str | None]
    """The model that was asked for, where a fallback answered."""
    model_selection_method: NotRequired[str | None]
    """explicit, thompson-sampling, pattern-recommendation; other words are kept."""
    candidates: NotRequired[list[Candidate] | None]
    selection_probability: NotRequired[float | None]
    """Propensity: the probability with which the model was picked."""
    tools_used: NotRequired[list[str] | None]
    steps_taken: NotRequired[int | None]
    input_tokens: NotRequired[int | None]
    output_tokens: NotRequired[int | None]
    cached_input_tokens: NotRequired[int | None]
    reasoning_tokens: NotRequired[int | None]
    cost_usd: NotRequired[float | None]
    duration_ms: NotRequired[float | None]
    outcome: NotRequired[Literal["success", "failure", "partial", "skipped", "unknown"] | None]
    skip_reason: NotRequired[str | None]
    attempt: NotRequired[int | None]
    error: NotRequired[str | None]
    started_at: NotRequired[Time | None]
    metadata: NotRequired[dict[str, Any] | None]


class PhaseFields(TypedDict):
    """What `phase.set` takes."""

    agent: NotRequired[str | None]
    model: NotRequired[str | None]
    """The model that answered."""
    requested_model: NotRequired[str | None]
    """The model that was asked for, where a fallback answered."""
    model_selection_method: NotRequired[str | None]
    """explicit, thompson-sampling, pattern-recommendation; other words are kept."""
    candidates: NotRequired[list[Candidate] | None]
    selection_probability: NotRequired[float | None]
    """Propensity: the probability with which the model was picked."""
    tools_used: NotRequired[list[str] | None]
    steps_taken: NotRequired[int | None]
    input_tokens: NotRequired[int | None]
    output_tokens: NotRequired[int | None]
    cached_input_tokens: NotRequired[int | None]
    reasoning_tokens: NotRequired[int | None]
    cost_usd: NotRequired[float | None]
    duration_ms: NotRequired[float | None]
    outcome: NotRequired[Literal["success", "failure", "partial", "skipped", "unknown"] | None]
    skip_reason: NotRequired[str | None]
    attempt: NotRequired[int | None]
    error: NotRequired[str | None]
    started_at: NotRequired[Time | None]
    metadata: NotRequired[dict[str, Any] | None]


class RunFields(TypedDict):
    """What `run.set` takes."""

    request_summary: NotRequired[str]
    request_type: NotRequired[str | None]
    source: NotRequired[str | None]
    """The orchestrator that ran it."""
    project: NotRequired[str | None]
    outcome: NotRequired[Literal["success", "failure", "partial", "unknown"] | None]
    total_cost_usd: NotRequired[float | None]
    """Given totals stand, even where the phases add up to others."""
    total_duration_ms: NotRequired[float | None]
    total_phases: NotRequired[int | None]
    phases_skipped: NotRequired[int | None]
    build_passed: NotRequired[bool | None]
    tests_passed: NotRequired[bool | None]
    review_findings: NotRequired[int | None]
    critical_findings: NotRequired[int | None]
    files_changed: NotRequired[int | None]
    planned_phases: NotRequired[list[str] | None]
    feedback_loops: NotRequired[list[FeedbackLoop] | None]
    error: NotRequired[str | None]
    started_at: NotRequired[Time | None]
    ended_at: NotRequired[Time | None]
    session_id: NotRequired[str | None]
    trace_id: NotRequired[str | None]
    tags: NotRequired[list[str] | None]
    external_refs: NotRequired[dict[str, str] | None]
    """Where the run can be found elsewhere: pull request, commit."""
    metadata: NotRequired[dict[str, Any] | None]
    """The client's own data; any JSON. The server adds 'trajectories:redacted' where it has replaced credentials: how many of each kind."""


class Trajectory(TypedDict):
    """One run of a multi-phase workflow."""

    id: NotRequired[Id | None]
    """Chosen by the client, so that sending again is safe; else the server picks one."""
    request_summary: str
    request_type: NotRequired[str | None]
    source: NotRequired[str | None]
    """The orchestrator that ran it."""
    project: NotRequired[str | None]
    phases: list[Phase]
    outcome: NotRequired[Literal["success", "failure", "partial", "unknown"] | None]
    total_cost_usd: NotRequired[float | None]
    """Given totals stand, even where the phases add up to others."""
    total_duration_ms: NotRequired[float | None]
    total_phases: NotRequired[int | None]
    phases_skipped: NotRequired[int | None]
    build_passed: NotRequired[bool | None]
    tests_passed: NotRequired[bool | None]
    review_findings: NotRequired[int | None]
    critical_findings: NotRequired[int | None]
    files_changed: NotRequired[int | None]
    planned_phases: NotRequired[list[str] | None]
    feedback_loops: NotRequired[list[FeedbackLoop] | None]
    error: NotRequired[str | None]
    started_at: NotRequired[Time | None]
    ended_at: NotRequired[Time | None]
    session_id: NotRequired[str | None]
    trace_id: NotRequired[str | None]
    tags: NotRequired[list[str] | None]
    external_refs: NotRequired[dict[str, str] | None]
    """Where the run can be found elsewhere: pull request, commit."""
    metadata: NotRequired[dict[str, Any] | None]
    """The client's own data; any JSON. The server adds 'trajectories:redacted' where it has replaced credentials: how many of each kind."""
