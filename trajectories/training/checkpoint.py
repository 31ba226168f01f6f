"""The state of an export to disk that goes on after a cut: one file of SQLite beside the output."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from trajectories import private_files
from trajectories.training.seen import Seen


class ExportRunning(Exception):
    """Another process writes the same export."""


class Checkpoint:
    """The progress of an unfinished export, committed at once: its state, and the contents that it has
    ``seen``.

    ``state`` is None at the start. The file is locked until ``close``.

    Raises:
        ExportRunning: another process has it open.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        private_files.make_file(path)  # its contents are those of records
        self._db = sqlite3.connect(path, isolation_level=None, timeout=0)
        try:
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("BEGIN EXCLUSIVE")
            self._db.execute("CREATE TABLE IF NOT EXISTS state (only INTEGER PRIMARY KEY, value BLOB NOT NULL)")
            self.seen = Seen(self._db)
        except sqlite3.OperationalError as error:
            self._db.close()
            if "locked" in str(error):
                raise ExportRunning(f"Another process writes this export: {path} is locked.") from error
            raise
        row = self._db.execute("SELECT value FROM state").fetchone()
        self.state: dict[str, Any] | None = None if row is None else orjson.loads(row[0])

    def commit(self, state: Mapping[str, Any]) -> None:
        """Keep ``state`` and all that was seen so far."""
        self.seen.save()
        self._db.execute("INSERT OR REPLACE INTO state VALUES (1, ?)", (orjson.dumps(state),))
        self._db.execute("COMMIT")
        self.state = dict(state)
        self._db.execute("BEGIN EXCLUSIVE")

    def close(self) -> None:
        """Release the file; what was not committed is forgotten."""
        self._db.close()

    def delete(self) -> None:
        self.close()
        for path in (self._path, self._path.with_name(f"{self._path.name}-journal")):
            path.unlink(missing_ok=True)
