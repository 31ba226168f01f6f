"""The outbox file: its tables, and the connections of one process to it."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trajectories import private_files
from trajectories.exceptions import OutboxUnavailable

_VERSION = 4
"""The version of the tables, in ``user_version``.

A file of an earlier release is upgraded. A process of an earlier release that still runs ignores
the version.
"""

# Triggers count, so that a process of the previous release on the same file counts too.
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
CREATE TABLE IF NOT EXISTS bindings (name TEXT PRIMARY KEY, store TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS api_keys (prefix TEXT PRIMARY KEY, verified TEXT NOT NULL, verified_at_us INTEGER NOT NULL);
PRAGMA user_version = {_VERSION};
COMMIT;
"""

_TIMEOUT_S = 5.0
_RETRY_S = 0.01
_TURN_EVERY_S = 0.0002
_TURN, _NEXT = 0, 1
"""Bytes of the lock file: that of the process that writes, and that of the one that writes next.

A process that has written must wait for ``_NEXT`` again, which the waiting one holds. With one lock
alone, a busy process takes it back before another one looks, which made that one wait for 35 ms.
"""
_LOG_PAGES, _SHORT_LOG_PAGES, _PAGE_BYTES = 16_000, 1_000, 4_096
"""Pages of the log at which a commit copies them into the file itself, and SQLite's own number. The
relay does it earlier, by ``copy_log``: a commit that does it makes all requests wait."""


class OutboxFile:
    """The connections of one process.

    Every method raises OutboxUnavailable for an error of SQLite or the disk.
    """

    def __init__(self, path: str, *, synchronous: str, max_bytes: int, disk_reserve_bytes: int) -> None:
        self._path = path
        self._folder = os.path.dirname(path) or "."  # noqa: PTH120  at each commit; a Path takes 10 µs
        self._disk_reserve_bytes = disk_reserve_bytes
        self._synchronous = synchronous
        self._max_bytes = max_bytes
        # A dict by thread, not a threading.local: in the child of a fork, a threading.local would
        # close the connections of threads that no longer exist. SQLite forbids that. Thread ids are
        # reused, which bounds the dict.
        self._readers: dict[int, sqlite3.Connection] = {}
        self._writers: dict[tuple[bool, bool], sqlite3.Connection] = {}
        self._lock_file: int | None = None

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a query on this thread's own connection."""
        with _as_unavailable():
            thread = threading.get_ident()
            db = self._readers.get(thread)
            if db is None:
                db = self._readers[thread] = self._connect()
            found: list[tuple[Any, ...]] = db.execute(sql, values).fetchall()
            return found

    @contextmanager
    def transaction(self, *, is_limited: bool = False, is_durable: bool = True) -> Iterator[sqlite3.Connection]:
        """Hold SQLite's write lock from the first statement; one thread at a time.

        Processes take turns by a lock on a file beside it. SQLite's own waiting sleeps up to 100 ms
        between two looks, which made the slowest POSTs wait for a second.

        Args:
            is_limited: apply the size limit and the disk reserve. Settling and deleting need space
                before they release it, so they do not set this.
            is_durable: wait for the disk. If the machine loses power, changes that do not wait are
                lost from the last one backwards, up to a change that does. Only for changes that
                are then made again.
        """
        with _as_unavailable():
            db = self._writer(is_limited=is_limited, is_durable=is_durable)
            with self._turn():
                db.execute("BEGIN IMMEDIATE")
                try:
                    if is_limited and self._free_bytes(db) < self._disk_reserve_bytes:
                        raise _full()
                    yield db
                    db.execute("COMMIT")
                except BaseException:
                    # A failed COMMIT may have ended the transaction already.
                    if db.in_transaction:
                        db.execute("ROLLBACK")
                    raise

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait until no other process writes, for ``_TIMEOUT_S`` at most; then SQLite decides.

        Record locks: a child does not inherit them, and they end with their process.
        """
        if self._lock_file is None:
            self._lock_file = os.open(self._path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            # A store that other settings replace is dropped, not closed: threads may be using it.
            self._close_lock_file = weakref.finalize(self, os.close, self._lock_file)
            self._close_lock_file.atexit = False  # a thread of the relay may still hold its turn
        file, until = self._lock_file, time.monotonic() + _TIMEOUT_S
        try:
            _lock(file, _NEXT, until)
            _lock(file, _TURN, until)
            fcntl.lockf(file, fcntl.LOCK_UN, 1, _NEXT)
            yield
        finally:
            fcntl.lockf(file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the connections of every thread. No thread may be using one."""
        connections: dict[Any, sqlite3.Connection]
        for connections in (self._readers, self._writers):
            while connections:
                connections.popitem()[1].close()
        if self._lock_file is not None:
            self._close_lock_file()
            self._lock_file = None

    def vacuum(self, pages: int) -> None:
        """Release up to ``pages`` free pages to the file system; one thread at a time."""
        with _as_unavailable():
            # Use a script, which runs to the end. The pragma has one step per page and no rows, so
            # execute() would free a single page.
            db = self._writer(is_limited=False, is_durable=False)
            db.executescript(f"PRAGMA incremental_vacuum({pages})")

    def copy_log(self) -> None:
        """Write the log into the file, as far as readers allow, while other threads and processes
        write."""
        self.read("PRAGMA wal_checkpoint(PASSIVE)")

    def empty_log(self) -> bool:
        """Write the log into the file and truncate the log; return False while a reader is active.

        Only this shrinks the file. An idle host would never do it by itself. One thread at a time.
        """
        with _as_unavailable():
            db = self._writer(is_limited=False, is_durable=False)
            db.execute("PRAGMA busy_timeout = 0")  # no process can append during this
            try:
                is_busy, *_ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                db.execute(f"PRAGMA busy_timeout = {round(_TIMEOUT_S * 1000)}")
            return not is_busy

    def has_free_pages(self) -> bool:
        with _as_unavailable():
            return bool(self._writer(is_limited=False, is_durable=False).execute("PRAGMA freelist_count").fetchone()[0])

    def sizes(self) -> tuple[int, int]:
        """Return the bytes of the file and its log, and the size limit of the file."""
        with _as_unavailable():
            files = [Path(self._path + end) for end in ("", "-wal")]
            return sum(file.stat().st_size for file in files if file.exists()), self._max_bytes

    def _free_bytes(self, db: sqlite3.Connection) -> int:
        """Return the free space on the disk and in the file."""
        disk = os.statvfs(self._folder)
        free = disk.f_bavail * disk.f_frsize
        if free >= self._disk_reserve_bytes:
            return free
        pages, size = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_size"))
        return free + int(pages) * int(size)

    def _writer(self, *, is_limited: bool, is_durable: bool) -> sqlite3.Connection:
        db = self._writers.get((is_limited, is_durable))
        if db is None:
            db = self._writers[is_limited, is_durable] = self._connect()
            if is_limited:
                # SQLite then reports "full" by itself, as it does for a full disk.
                page_size = db.execute("PRAGMA page_size").fetchone()[0]
                db.execute(f"PRAGMA max_page_count = {max(1, self._max_bytes // page_size)}")
            if not is_durable:
                db.execute("PRAGMA synchronous = NORMAL")
        return db

    def _connect(self) -> sqlite3.Connection:
        private_files.make_folder(Path(self._path).parent)
        private_files.make_file(Path(self._path))
        db = sqlite3.connect(self._path, timeout=_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        if not db.execute("PRAGMA page_count").fetchone()[0]:
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only in a new file, before its first table
        _switch_to_wal(db)
        db.execute(f"PRAGMA synchronous = {self._synchronous}")
        db.execute("PRAGMA journal_size_limit = 67108864")
        # The log is in the space that the disk reserve leaves for settling.
        log_pages = min(self._disk_reserve_bytes // 2 // _PAGE_BYTES, _LOG_PAGES)
        db.execute(f"PRAGMA wal_autocheckpoint = {max(log_pages, _SHORT_LOG_PAGES)}")
        db.execute("PRAGMA secure_delete = ON")  # deleted data is overwritten, not only unlinked
        if db.execute("PRAGMA user_version").fetchone()[0] < _VERSION:
            db.executescript(_SCHEMA)
        return db


def _lock(file: int, byte: int, until: float) -> None:
    """Lock a byte of ``file``, or give up at ``until``."""
    while True:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
            break
        except (BlockingIOError, PermissionError):  # POSIX allows both for a lock that another process has
            if time.monotonic() >= until:
                break
            time.sleep(_TURN_EVERY_S)


def _switch_to_wal(db: sqlite3.Connection) -> None:
    """Switch to WAL, and retry while the file is locked.

    SQLite does not wait for this lock in a new file, and other processes may create the file too.
    """
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
