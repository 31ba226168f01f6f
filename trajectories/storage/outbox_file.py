"""The file of the outbox: its tables, and the connections of one process to it."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trajectories.exceptions import OutboxUnavailable

_VERSION = 3
"""Of the tables, in ``user_version``. A file of an earlier release is taken over; one that is still running does not look at it."""

# Triggers count, so that a process of the release before, on the same file, counts as well.
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS rows (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL DEFAULT 'record',
    tenant TEXT NOT NULL,
    id BLOB NOT NULL,
    stamp INTEGER NOT NULL,
    digest TEXT NOT NULL,
    revision INTEGER NOT NULL,
    recorded_at_us INTEGER NOT NULL,
    body BLOB NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting',
    settled_at_us INTEGER
);
CREATE INDEX IF NOT EXISTS rows_by_id ON rows (tenant, id, stamp);
CREATE INDEX IF NOT EXISTS rows_waiting ON rows (n) WHERE state = 'waiting';
CREATE INDEX IF NOT EXISTS rows_waiting_by_position ON rows (tenant, recorded_at_us, id) WHERE state = 'waiting';
CREATE INDEX IF NOT EXISTS rows_settled ON rows (settled_at_us) WHERE state <> 'waiting';
CREATE TABLE IF NOT EXISTS tombstones (
    tenant TEXT NOT NULL,
    id BLOB NOT NULL,
    deleted_at_us INTEGER NOT NULL,
    PRIMARY KEY (tenant, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tombstones_by_age ON tombstones (deleted_at_us);
CREATE TABLE IF NOT EXISTS erasures (digest TEXT PRIMARY KEY, stamp INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS numbers (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
INSERT OR IGNORE INTO numbers
    VALUES ('last_stamp', 0), ('pruned_n', 0), ('quarantines', 0), ('sent', 0), ('resent', 0), ('probed_at', 0),
    ('deleted', 0);
INSERT OR IGNORE INTO numbers SELECT 'quarantined', value FROM numbers WHERE name = 'quarantines';
INSERT OR IGNORE INTO numbers SELECT 'confirmed', coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'rows'), 0)
    - (SELECT count(*) FROM rows WHERE state = 'waiting') - (SELECT value FROM numbers WHERE name = 'quarantined');
CREATE TRIGGER IF NOT EXISTS rows_confirmed AFTER UPDATE OF state ON rows
    WHEN old.state = 'waiting' AND new.state = 'confirmed'
    BEGIN UPDATE numbers SET value = value + 1 WHERE name = 'confirmed'; END;
CREATE TRIGGER IF NOT EXISTS rows_quarantined AFTER UPDATE OF state ON rows
    WHEN old.state = 'waiting' AND new.state = 'quarantined'
    BEGIN UPDATE numbers SET value = value + 1 WHERE name = 'quarantined'; END;
CREATE TRIGGER IF NOT EXISTS rows_deleted AFTER DELETE ON rows
    WHEN old.state = 'waiting'
    BEGIN UPDATE numbers SET value = value + 1 WHERE name = 'deleted'; END;
CREATE TABLE IF NOT EXISTS api_keys (prefix TEXT PRIMARY KEY, verified TEXT NOT NULL, verified_at_us INTEGER NOT NULL);
PRAGMA user_version = {_VERSION};
COMMIT;
"""

_TIMEOUT_S = 5.0
_RETRY_S = 0.01


class OutboxFile:
    """One process's connections. Every method raises OutboxUnavailable for what SQLite or the disk refuses."""

    def __init__(self, path: str, *, synchronous: str, max_bytes: int, disk_reserve_bytes: int) -> None:
        self._path = path
        self._disk_reserve_bytes = disk_reserve_bytes
        self._synchronous = synchronous
        self._max_bytes = max_bytes
        # By thread and not in a threading.local: in the child of a fork that would close the connections of threads that are
        # gone, which SQLite forbids. Thread numbers are used again, which bounds it.
        self._readers: dict[int, sqlite3.Connection] = {}
        self._writers: dict[bool, sqlite3.Connection] = {}

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """On a connection of this thread's own."""
        with _as_unavailable():
            thread = threading.get_ident()
            db = self._readers.get(thread)
            if db is None:
                db = self._readers[thread] = self._connect()
            found: list[tuple[Any, ...]] = db.execute(sql, values).fetchall()
            return found

    @contextmanager
    def transaction(self, *, is_limited: bool = False) -> Iterator[sqlite3.Connection]:
        """Holds SQLite's write lock from its first statement; one thread at a time.

        Args:
            is_limited: size limit and disk reserve hold. Not for settling and deleting, which take room before they give it back.
        """
        with _as_unavailable():
            db = self._writer(is_limited=is_limited)
            db.execute("BEGIN IMMEDIATE")
            try:
                if is_limited and self._free_bytes(db) < self._disk_reserve_bytes:
                    raise _full()
                yield db
                db.execute("COMMIT")
            except BaseException:
                # A failed COMMIT may have ended the transaction by itself.
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    def vacuum(self, pages: int) -> None:
        """Give up to ``pages`` free pages back to the file system; one thread at a time."""
        with _as_unavailable():
            # As a script, which runs to its end: execute() would free one page, as the pragma has a step a page and no rows.
            db = self._writer(is_limited=False)
            db.executescript(f"PRAGMA incremental_vacuum({pages})")

    def empty_log(self) -> bool:
        """Bring the log into the file, which gets shorter only then, and leave nothing in it; False while somebody reads.

        One thread at a time. An idle host would never come to it by itself.
        """
        with _as_unavailable():
            db = self._writer(is_limited=False)
            db.execute("PRAGMA busy_timeout = 0")  # nobody can append meanwhile
            try:
                is_busy, *_ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                db.execute(f"PRAGMA busy_timeout = {round(_TIMEOUT_S * 1000)}")
            return not is_busy

    def has_free_pages(self) -> bool:
        with _as_unavailable():
            return bool(self._writer(is_limited=False).execute("PRAGMA freelist_count").fetchone()[0])

    def sizes(self) -> tuple[int, int]:
        """Bytes of the file and its log, and how large the file may get."""
        with _as_unavailable():
            files = [Path(self._path + end) for end in ("", "-wal")]
            return sum(file.stat().st_size for file in files if file.exists()), self._max_bytes

    def _free_bytes(self, db: sqlite3.Connection) -> int:
        """Room on the disk and in the file."""
        disk = os.statvfs(Path(self._path).parent)
        free = disk.f_bavail * disk.f_frsize
        if free >= self._disk_reserve_bytes:
            return free
        pages, size = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_size"))
        return free + int(pages) * int(size)

    def _writer(self, *, is_limited: bool) -> sqlite3.Connection:
        db = self._writers.get(is_limited)
        if db is None:
            db = self._writers[is_limited] = self._connect()
            if is_limited:
                # SQLite itself says "full" then, as it does when the disk is.
                page_size = db.execute("PRAGMA page_size").fetchone()[0]
                db.execute(f"PRAGMA max_page_count = {max(1, self._max_bytes // page_size)}")
        return db

    def _connect(self) -> sqlite3.Connection:
        Path(self._path).parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self._path, timeout=_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        if not db.execute("PRAGMA page_count").fetchone()[0]:
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # in a new file only, before its first table
        _switch_to_wal(db)
        db.execute(f"PRAGMA synchronous = {self._synchronous}")
        db.execute("PRAGMA journal_size_limit = 67108864")
        db.execute("PRAGMA secure_delete = ON")  # what was deleted is overwritten, not only let go of
        if db.execute("PRAGMA user_version").fetchone()[0] < _VERSION:
            db.executescript(_SCHEMA)
        return db


def _switch_to_wal(db: sqlite3.Connection) -> None:
    """For the lock that this takes in a new file SQLite does not wait by itself, and others may make the file as well."""
    until = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                raise
            time.sleep(_RETRY_S)
        else:
            return


@contextmanager
def _as_unavailable() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise _full() from error
        raise OutboxUnavailable(f"The outbox does not answer: {error}.") from error


def _full() -> OutboxUnavailable:
    return OutboxUnavailable("The outbox is full: its own limit, or that of its disk.", code="outbox_full")
