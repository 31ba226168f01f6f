"""The contents that an export has had, for ``dedupe``."""

from __future__ import annotations

import sqlite3
from types import TracebackType

_MOST = 100_000
"""Maximum keys in memory, about 8 MB."""
_CACHE_KIB = 8 * 1024


class Seen:
    """Remembers integers of 64 bits: the last ones in memory, the others in a table of SQLite."""

    def __init__(self, db: sqlite3.Connection | None = None) -> None:
        """Go on with the keys that were saved in ``db``; by default, use a temporary file at need."""
        self._db, self._owns, self._recent = db, db is None, set[int]()
        if db is not None:
            self._make_table(db)

    def __enter__(self) -> Seen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Delete the temporary file, if there is one."""
        if self._owns and self._db is not None:
            self._db.close()

    def is_new(self, key: int) -> bool:
        """Return whether this is the first call with ``key``."""
        if key in self._recent or (self._db is not None and self._is_saved(self._db, key)):
            return False
        self._recent.add(key)
        if len(self._recent) >= _MOST:
            self.save()
        return True

    def save(self) -> None:
        """Move the keys in memory to the table."""
        if self._db is None:
            # An export may be closed in another thread than the one that began it.
            self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = OFF")
            self._db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            self._db.execute("BEGIN")  # never committed: nothing reads the file after it
            self._make_table(self._db)
        self._db.executemany("INSERT INTO seen_key VALUES (?)", ((key,) for key in sorted(self._recent)))
        self._recent.clear()

    def _make_table(self, db: sqlite3.Connection) -> None:
        db.execute("CREATE TABLE IF NOT EXISTS seen_key (key INTEGER PRIMARY KEY)")

    def _is_saved(self, db: sqlite3.Connection, key: int) -> bool:
        return db.execute("SELECT 1 FROM seen_key WHERE key = ?", (key,)).fetchone() is not None
