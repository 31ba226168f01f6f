"""The answers of readiness and of an export's manifest, as Pydantic models; see ``responses``."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import Field

from trajectories.api.responses import AnswerModel


class Share(AnswerModel):
    """Cases of which something is known or true; the share is null without cases."""

    known: int
    of: int
    share: float | None


class ReadinessShares(AnswerModel):
    """Shares of what is known: the first four of runs, the others of phases that ran."""

    cost: Share
    outcome: Share = Field(description="Given or derived, and not unknown.")
    build: Share
    tests: Share
    tools: Share
    model: Share
    method: Share
    propensity: Share


class SkippedPhases(AnswerModel):
    count: int
    with_reason: int


class Overlap(AnswerModel):
    """Contexts are a request type and a phase; skipping is an action too."""

    contexts: int = Field(description="A sample, where there are more than 20,000.")
    with_several_actions: int = Field(description="Where several actions were taken.")
    with_overlap: int = Field(description="Where several actions had a recorded probability above 0.")
    explored_phases: Share = Field(description="Phases that ran, for which several actions had one.")


class ModelShare(AnswerModel):
    count: int = Field(description="How many models; at most 10,000 are counted.")
    largest: str | None = Field(description="The model of most phases.")
    largest_share: float | None


class Leaks(AnswerModel):
    """Signs that an example can show its own result."""

    late_phases: Share = Field(description="Phases that started before an earlier phase of the list had ended.")
    requests_with_errors: Share = Field(description="Runs whose request_summary has the text of their own error.")
    shared_requests: Share = Field(description="Runs whose request was also made in another session or project.")
    one_outcome_types: list[str] = Field(description="Request types whose runs all have one outcome; at most 10.")


class ReadinessCheck(AnswerModel):
    code: str
    passed: bool
    value: float | None = Field(description="Null where nothing could be measured.")
    threshold: float
    message: str | None = Field(description="The failure and what to do about it; null where it passed.")


class Readiness(AnswerModel):
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
    matching: int | None = Field(
        default=None,
        description="How many runs match, by stats. Where it is more than runs, the newest ones were measured.",
    )
    note: str | None = Field(
        default=None, description="Where only a sample is measured: says so, and how to measure all. Null otherwise."
    )
    as_of: datetime
    complete: bool = Field(description="False where older runs were left out, or a tier was unavailable.")


class ExportPosition(AnswerModel):
    id: UUID
    recorded_at: datetime


class ExportManifest(AnswerModel):
    """The content of an export, its origin, and what it leaves out."""

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
