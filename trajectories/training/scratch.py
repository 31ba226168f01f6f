"""Temporary tables on disk for what an export remembers of all its records.

SQLite keeps them, so memory stays the same however many records there are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

import orjson


class Scratch:
    """A temporary file of SQLite, which deletes it when it is closed."""

    def __init__(self) -> None:
        # An export may be closed in another thread than the one that began it.
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("CREATE TABLE seen (digest BLOB PRIMARY KEY) WITHOUT ROWID")
        self._db.execute("CREATE TABLE item (n INTEGER PRIMARY KEY, grouped_by BLOB NOT NULL, row BLOB NOT NULL)")

    def __enter__(self) -> Scratch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    def is_new(self, digest: bytes) -> bool:
        """Return whether this is the first call with ``digest``."""
        return self._db.execute("INSERT OR IGNORE INTO seen VALUES (?)", (digest,)).rowcount == 1

    def groups(self, items: Iterable[tuple[bytes, dict[str, Any]]]) -> Iterator[list[dict[str, Any]]]:
        """Yield the rows of each key, groups in the order of their first row, rows in their own.

        Args:
            items: key and row. All are read before the first group is yielded.
        """
        self._db.execute("BEGIN")
        self._db.executemany(
            "INSERT INTO item (grouped_by, row) VALUES (?, ?)", ((key, orjson.dumps(row)) for key, row in items)
        )
        self._db.execute("CREATE INDEX by_key ON item (grouped_by, n)")
        self._db.execute("COMMIT")
        firsts = self._db.execute("SELECT grouped_by FROM item GROUP BY grouped_by ORDER BY MIN(n)")
        for (key,) in firsts:
            rows = self._db.execute("SELECT row FROM item WHERE grouped_by = ? ORDER BY n", (key,))
            yield [orjson.loads(row) for (row,) in rows]
