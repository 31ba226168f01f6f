"""What became of many records, and of an export."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from trajectory_sdk.models import LineResult


@dataclass(frozen=True, slots=True)
class RecordedMany:
    """``results`` has one for each record, in the order given; ``line`` counts from 1 over all of them."""

    accepted: int
    refused: int
    results: tuple[LineResult, ...]


@dataclass(frozen=True, slots=True)
class Exported:
    """A complete export: how many lines, the SHA-256 of their bytes (newlines included), and the id to go on behind later."""

    count: int
    sha256: str
    cursor: UUID | None


@dataclass(frozen=True, slots=True)
class ExportProgress:
    """How far an export is: lines and bytes so far, and how often it has gone on after a cut."""

    count: int
    bytes: int
    resumed: int
