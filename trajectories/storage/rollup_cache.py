"""Rows of roll-ups that this process has just written, kept as sums.

The next batch of a tenant changes the same rows, and reading them back from JSON takes as long as
adding to them. A row is used only while the database has the very text that was made from the sums,
so neither another process nor a transaction that failed makes them wrong.
"""

from __future__ import annotations

import threading

from trajectories.domain.stats import Summary

MAX_CHARACTERS = 2 << 20
"""Bound of the texts. Sums take about four times their memory."""


class RollUpCache:
    """Sums by the key of their row, the oldest given up first. Thread-safe."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Drop all rows. After a fork too, where a thread that no longer exists may have the lock."""
        self._lock = threading.Lock()
        self._rows: dict[str, tuple[str, str, Summary]] = {}
        self.size = 0

    def take(self, key: str, cell: str, details: str) -> Summary | None:
        """Return the sums of a row with this text, for the caller alone, which may change them."""
        with self._lock:
            row = self._pop(key)
        return row[2] if row and row[0] == cell and row[1] == details else None

    def put(self, key: str, cell: str, details: str, sums: Summary) -> None:
        """Keep the sums of a row with this text. The caller must not change them afterwards."""
        with self._lock:
            self._pop(key)
            self._rows[key] = cell, details, sums
            self.size += len(cell) + len(details)
            while self.size > MAX_CHARACTERS:
                self._pop(next(iter(self._rows)))

    def _pop(self, key: str) -> tuple[str, str, Summary] | None:
        row = self._rows.pop(key, None)
        if row:
            self.size -= len(row[0]) + len(row[1])
        return row


# Global because the threads of a worker write the rows of the same tenants in turn.
written = RollUpCache()
