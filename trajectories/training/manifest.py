"""The manifest of an export: what is in it, where it came from, and what was left out."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from trajectories.domain.clock import rfc3339
from trajectories.training.run import Run

SCHEMA_VERSION = 1
"""Version of the columns of all formats. It rises when a column is removed or changes its meaning;
an added column does not change it."""
MAX_POLICIES = 1_000
"""Maximum policies in a manifest: their number is the client's choice."""


@dataclass(frozen=True)
class File:
    """A file of an export: its part of the split, its lines or rows, and the SHA-256 of its bytes."""

    name: str
    part: str | None
    lines: int
    bytes: int
    sha256: str


@dataclass
class Tally:
    """The counts of an export so far."""

    records_read: int = 0
    records: int = 0
    lines: int = 0
    first: dict[str, Any] | None = None
    last: dict[str, Any] | None = None
    left_out: Counter[str] = field(default_factory=Counter)
    policies: Counter[str] = field(default_factory=Counter)

    def copy(self) -> Tally:
        return Tally.from_json(self.as_json())

    def as_json(self) -> dict[str, Any]:
        return vars(self) | {"left_out": dict(self.left_out), "policies": dict(self.policies)}

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Tally:
        return cls(**kept | {"left_out": Counter(kept["left_out"]), "policies": Counter(kept["policies"])})

    def add(self, run: Run) -> None:
        """Count a record that is exported."""
        position = {"id": run.id, "recorded_at": rfc3339(run.record.recorded_at_us).decode()}
        self.records += 1
        self.first = self.first or position
        self.last = position

    def add_policy(self, run: Run) -> None:
        policy = run.fields.get("policy")
        if policy is not None and (policy in self.policies or len(self.policies) < MAX_POLICIES):
            self.policies[policy] += 1


@dataclass(frozen=True)
class Manifest:
    """The manifest as ``manifest.json`` and ``GET …/export/manifest`` show it.

    ``records_read`` match the filters, ``records`` of them are exported in ``lines``. ``left_out``
    has the number of records and of decisions by the reason for which they are not exported.
    ``columns`` has the names and kinds of the columns of a row.
    """

    format: str
    options: dict[str, Any]
    filters: dict[str, str]
    split: str | None
    split_by: str | None
    part: str | None
    deduplicated: bool
    schema_version: int
    columns: Any
    tenant: str
    store: str
    as_of: str
    records_read: int
    records: int
    lines: int
    first: dict[str, Any] | None
    last: dict[str, Any] | None
    policies: dict[str, int]
    left_out: dict[str, int]
    sha256: str | None = None
    files: list[File] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)
