"""Outboxes that tests open and fill."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

from tests.storage.hosts import draft, new_id, taken
from trajectories.storage.outbox import Outbox
from trajectories.storage.outbox_rows import Row


def opened(path: Path, *, max_bytes: int = 2**30) -> Outbox:
    return Outbox(str(path), synchronous="NORMAL", max_bytes=max_bytes)


def append(outbox: Outbox, id_: UUID | None = None, **fields: Any) -> Row:
    return taken(outbox.append([draft(id_ or new_id(), **fields)]))[0].row


def all_rows(outbox: Outbox) -> list[Row]:
    return outbox.rows_after(0, 1_000_000)
