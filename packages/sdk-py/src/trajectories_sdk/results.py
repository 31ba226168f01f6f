"""Results of recording many records and of an export."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from trajectories_sdk.models import LineResult


@dataclass(frozen=True, slots=True)
class RecordedMany:
    """Results of ``record_many``.

    ``results`` has one entry per record, in the order given. ``line`` counts from 1 over all
    records.
    """

    accepted: int
    refused: int
    results: tuple[LineResult, ...]


@dataclass(frozen=True, slots=True)
class Exported:
    """A complete export.

    ``count`` is the number of lines, ``sha256`` the hash of their bytes (newlines included). Pass
    ``cursor`` as ``after`` to continue from here later.
    """

    count: int
    sha256: str
    cursor: UUID | None


@dataclass(frozen=True, slots=True)
class ExportProgress:
    """Progress of an export: lines and bytes so far, and how often it resumed after a broken
    connection."""

    count: int
    bytes: int
    resumed: int
