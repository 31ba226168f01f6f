"""Outboxes that tests open and fill."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.storage.hosts import draft, new_id, taken
from trajectories.domain import clock
from trajectories.storage.outbox import Outbox
from trajectories.storage.outbox_rows import Row

MEBIBYTE = 1024**2


def opened(path: Path, *, max_bytes: int = 2**30, now_us: Callable[[], int] = clock.now_us) -> Outbox:
    return Outbox(str(path), synchronous="NORMAL", max_bytes=max_bytes, now_us=now_us)


def at(us: int) -> Callable[[], int]:
    """A clock that stands still."""
    return lambda: us


def append(outbox: Outbox, id_: UUID | None = None, **fields: Any) -> Row:
    return taken(outbox.append([draft(id_ or new_id(), **fields)]))[0].row


def all_rows(outbox: Outbox) -> list[Row]:
    return outbox.rows_after(0, 1_000_000)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let nothing write to the file meanwhile."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        db.execute("ROLLBACK")
        db.close()
