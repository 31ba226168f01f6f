"""The outbox: a SQLite file of this host in which an acknowledged record is durable before anything else happens to it.

Every process of the host opens the same file. Rows are numbered in commit order, so what is new is what lies above the
last number seen. A row is ``waiting`` until the archive has it (``confirmed``) or has refused it (``quarantined``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from trajectories.domain import clock
from trajectories.domain.record import Position, Record
from trajectories.exceptions import OutboxUnavailable
from trajectories.storage import outbox_rows
from trajectories.storage.outbox_file import OutboxFile
from trajectories.storage.outbox_rows import CHUNK, RECORD_COLUMNS, Appended, Draft, Row

_NEWEST_WAITING_OF_ITS_ID = (
    "NOT EXISTS (SELECT 1 FROM rows newer WHERE newer.tenant = rows.tenant AND newer.id = rows.id"
    " AND newer.stamp > rows.stamp AND newer.state = 'waiting')"
)
_VACUUM_PAGES = 256
_PAGE = 200
_END_OF_TIME_US = 2**63 - 1


class Counts(NamedTuple):
    """Rows that this outbox has had, tombstones included, at one moment: ``acknowledged = waiting + confirmed + quarantined + deleted``.

    ``deleted`` are those that were waiting when their id was deleted.

    ``sent`` and ``resent`` count handing over, the first time and again; a process killed in between has not counted.
    """

    acknowledged: int
    sent: int
    resent: int
    confirmed: int
    quarantined: int
    deleted: int
    waiting: int
    oldest_waiting_us: int | None
    bytes: int
    max_bytes: int


@dataclass(slots=True)
class _Waiter:
    drafts: Sequence[Draft]
    result: list[Appended | None] = field(default_factory=list)
    error: OutboxUnavailable | None = None
    is_done: bool = False


class Outbox:
    """One process's view of the outbox file. Safe to use from threads; not to be carried over a fork."""

    def __init__(
        self,
        path: str,
        *,
        synchronous: str,
        max_bytes: int,
        disk_reserve_bytes: int = 0,
        now_us: Callable[[], int] = clock.now_us,
    ) -> None:
        self._now_us = now_us
        self._file = OutboxFile(
            path, synchronous=synchronous, max_bytes=max_bytes, disk_reserve_bytes=disk_reserve_bytes
        )
        self._waiters: list[_Waiter] = []
        self._waiters_lock = threading.Lock()
        self._write_lock = threading.Lock()

    # The request path.

    def append(self, drafts: Sequence[Draft]) -> list[Appended | None]:
        """Commit ``drafts`` as rows with their stamps; durable on return. Concurrent callers share one commit.

        Returns:
            For each draft its row; None where its id was deleted, and nothing of it was taken.

        Raises:
            OutboxUnavailable: 503; nothing of ``drafts`` was taken: size limit, full disk, or locked for 5 s.
        """
        waiter = _Waiter(drafts)
        with self._waiters_lock:
            self._waiters.append(waiter)
        # Whoever gets the lock commits for all who queued while the commit before was being synced.
        with self._write_lock:
            if not waiter.is_done:
                with self._waiters_lock:
                    together, self._waiters = self._waiters, []
                self._commit(together)
        if waiter.error is not None:
            # One per caller: an exception that several threads raise would mix their tracebacks.
            raise OutboxUnavailable(waiter.error.message, code=waiter.error.code) from waiter.error
        return waiter.result

    def _commit(self, waiters: list[_Waiter]) -> None:
        try:
            results = self._insert_all(waiters)
        except OutboxUnavailable as error:
            for waiter in waiters:
                waiter.error, waiter.is_done = error, True
        else:
            for waiter, result in zip(waiters, results, strict=True):
                waiter.result, waiter.is_done = result, True

    def _insert_all(self, waiters: list[_Waiter]) -> list[list[Appended | None]]:
        while True:
            try:
                with self._file.transaction(is_limited=True) as db:
                    return outbox_rows.insert_all(db, [waiter.drafts for waiter in waiters], self._now_us())
            except OutboxUnavailable as error:
                # Under pressure settled rows go before their time; waiting ones never do.
                if error.code != "outbox_full" or not self._delete_settled(_END_OF_TIME_US):
                    raise

    def _delete_settled(self, before_us: int) -> int:
        with self._file.transaction() as db:
            return outbox_rows.delete_settled(db, before_us)

    # Deletion.

    def delete(self, tenant: str, ids: Iterable[UUID]) -> int:
        """Delete every row of ``ids``, quarantined ones too, and refuse these ids from now on; how many records there were.

        A tombstone for each that had none is appended as a row, so that other processes hear of it and the relay hands it over.
        """
        with self._write_lock, self._file.transaction() as db:
            return sum(outbox_rows.delete(db, tenant, id_, self._now_us()) for id_ in dict.fromkeys(ids))

    def is_deleted(self, tenant: str, id_: UUID) -> bool:
        found = self._file.read("SELECT 1 FROM tombstones WHERE tenant = ? AND id = ?", (tenant, id_.bytes))
        return bool(found)

    def erase(self, digest: str, stamp: int) -> int:
        """Delete everything of the tenant with this ``tenant_digest``, and take nothing of it any more; how many records there were.

        A row that says so is appended, by which other processes forget it. Repeating is safe.

        Args:
            stamp: of the erasure, as ``erasures`` tells it.
        """
        gone = 0
        with self._write_lock, self._file.transaction() as db:
            tenants = outbox_rows.begin_erasure(db, digest, stamp, self._now_us())
        for tenant in tenants:
            has_more = True
            while has_more:
                with self._write_lock, self._file.transaction() as db:
                    some, has_more = outbox_rows.erase_some(db, tenant)
                gone += some
        with self._write_lock, self._file.transaction() as db:
            outbox_rows.end_erasure(db, digest, stamp)
        return gone

    def count_of(self, tenant: str) -> int:
        """Rows of ``tenant``, whatever became of them."""
        return int(self._file.read("SELECT count(*) FROM rows WHERE tenant = ?", (tenant,))[0][0])

    def erasures(self) -> dict[str, int]:
        """Stamps of the erasures that this host has carried out, below that of one that it has only begun; by the ``tenant_digest`` of each."""
        return dict(self._file.read("SELECT digest, stamp FROM erasures"))

    def compact(self) -> bool:
        """Give all free room back and empty the log, so that the file holds nothing but what it shows; False while somebody reads."""
        with self._write_lock:
            while self._file.has_free_pages():
                self._file.vacuum(_VACUUM_PAGES)
            return self._file.empty_log()

    def forget_tombstones(self, before_us: int) -> int:
        """Let go of some tombstones, and of erasures, from before ``before_us``; how many tombstones."""
        with self._write_lock, self._file.transaction() as db:
            db.execute("DELETE FROM erasures WHERE stamp < ?", (before_us,))
            return db.execute(
                "DELETE FROM tombstones WHERE (tenant, id) IN (SELECT tenant, id FROM tombstones"
                " WHERE deleted_at_us < ? ORDER BY deleted_at_us LIMIT ?)",
                (before_us, CHUNK),
            ).rowcount

    # What readers follow.

    def rows_after(self, n: int, limit: int) -> list[Row]:
        """The next rows of every tenant in commit order, at most ``limit``."""
        return self._rows("n > ? ORDER BY n LIMIT ?", (n, limit))

    def last_n(self) -> int:
        """Number of the newest row ever committed."""
        found = self._file.read("SELECT seq FROM sqlite_sequence WHERE name = 'rows'")
        return int(found[0][0]) if found else 0

    def pruned_n(self) -> int:
        """Highest number of a row that is gone; a reader that has not seen it has missed something."""
        return int(self._file.read("SELECT value FROM numbers WHERE name = 'pruned_n'")[0][0])

    def quarantines(self) -> int:
        """How many rows the archive has refused so far; a reader that took one of them in has to forget it."""
        return int(self._file.read("SELECT value FROM numbers WHERE name = 'quarantines'")[0][0])

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Every read of this thread inside sees the outbox at one moment: that of the first."""
        self._file.read("BEGIN DEFERRED")
        try:
            yield
        finally:
            self._file.read("ROLLBACK")

    def waiting_below(self, tenant: str, below: Position) -> Iterator[Record]:
        """Of each id its newest version that the archive may not have yet, at positions below ``below``, highest first."""
        while page := self._rows(
            f"tenant = ? AND state = 'waiting' AND kind = 'record' AND (recorded_at_us, id) < (?, ?) AND {_NEWEST_WAITING_OF_ITS_ID}"
            " ORDER BY recorded_at_us DESC, id DESC LIMIT ?",
            (tenant, below.recorded_at_us, below.id.bytes, _PAGE),
        ):
            yield from (row.record for row in page)
            below = page[-1].record.position

    def waiting_ids(self, tenant: str) -> list[UUID]:
        """Ids with a version that the archive may not have yet."""
        # SQLite would rather take the index by id, and so look at every row that has not been pruned.
        found = self._file.read(
            "SELECT DISTINCT id FROM rows INDEXED BY rows_waiting_by_position WHERE tenant = ? AND state = 'waiting'",
            (tenant,),
        )
        return [UUID(bytes=row[0]) for row in found]

    def waiting_versions(self, tenant: str, ids: Iterable[UUID]) -> dict[UUID, list[Record]]:
        """Those of ``ids`` that the archive may not have as they are, each with its waiting versions in commit order."""
        versions: dict[UUID, list[Record]] = {}
        remaining = [id_.bytes for id_ in ids]
        while chunk := remaining[:_PAGE]:
            del remaining[:_PAGE]
            marks = ", ".join("?" * len(chunk))
            for row in self._rows(f"tenant = ? AND id IN ({marks}) AND state = 'waiting' ORDER BY n", (tenant, *chunk)):
                versions.setdefault(row.record.id, []).append(row.record)
        return versions

    def versions(self, tenant: str, id_: UUID) -> list[Record]:
        """What this host still holds of an id, without what the archive has refused, in commit order."""
        rows = self._rows("tenant = ? AND id = ? AND state <> 'quarantined' ORDER BY n", (tenant, id_.bytes))
        return [row.record for row in rows]

    # What the relay does.

    def waiting(self, after_n: int, limit: int) -> list[Row]:
        """Rows to be sent, in commit order."""
        return self._rows("state = 'waiting' AND n > ? ORDER BY n LIMIT ?", (after_n, limit))

    def has_waiting(self, tenant: str, up_to_n: int) -> bool:
        """Whether a row of ``tenant`` numbered at most ``up_to_n`` is still waiting."""
        return bool(
            self._file.read(
                "SELECT 1 FROM rows INDEXED BY rows_waiting WHERE state = 'waiting' AND n <= ? AND tenant = ? LIMIT 1",
                (up_to_n, tenant),
            )
        )

    def settle(self, confirmed: Iterable[int], quarantined: Iterable[int] = ()) -> None:
        """Mark rows as decided by the archive."""
        at = self._now_us()
        marks = [("confirmed", at, n) for n in confirmed] + [("quarantined", at, n) for n in quarantined]
        with self._write_lock, self._file.transaction() as db:
            db.executemany("UPDATE rows SET state = ?, settled_at_us = ? WHERE n = ?", marks)
            refused = sum(1 for state, _, _ in marks if state == "quarantined")
            db.execute("UPDATE numbers SET value = value + ? WHERE name = 'quarantines'", (refused,))

    def prune(self, before_us: int) -> int:
        """Delete some of the rows that were settled before ``before_us``, give some room back; how many were deleted."""
        with self._write_lock:
            gone = self._delete_settled(before_us)
            # A little each time, since nobody can append meanwhile; the file goes on shrinking when nothing is left to delete.
            self._file.vacuum(_VACUUM_PAGES)
            # Of what was deleted no copy stays in the log either.
            self._file.empty_log()
        return gone

    def count_sent(self, records: int, *, is_again: bool) -> None:
        """Add to what was handed over so far."""
        name = "resent" if is_again else "sent"
        with self._write_lock, self._file.transaction() as db:
            db.execute("UPDATE numbers SET value = value + ? WHERE name = ?", (records, name))

    # What operators ask.

    def counts(self) -> Counts:
        """What is under way, counted in the file, so the same in every process of the host."""
        with self.snapshot():
            numbers = dict(self._file.read("SELECT name, value FROM numbers"))
            acknowledged = self.last_n()
            ((waiting,),) = self._file.read("SELECT count(*) FROM rows WHERE state = 'waiting'")
            oldest = self.waiting(0, 1)
        return Counts(
            acknowledged,
            numbers["sent"],
            numbers["resent"],
            numbers["confirmed"],
            numbers["quarantined"],
            numbers["deleted"],
            waiting,
            oldest[0].record.stamp if oldest else None,
            *self._file.sizes(),
        )

    def expect_room(self, size: int) -> None:
        """Write, and look whether a record of this size would be taken now.

        Raises:
            OutboxUnavailable: 503; it would not.
        """
        with self._write_lock:
            try:
                with self._file.transaction(is_limited=True) as db:
                    db.execute("UPDATE numbers SET value = ? WHERE name = 'probed_at'", (self._now_us(),))
                    db.execute("SAVEPOINT probe")
                    db.execute("INSERT INTO api_keys VALUES ('', zeroblob(?), 0)", (size,))
                    db.execute("ROLLBACK TO probe")
            except OutboxUnavailable as error:
                # What is settled would make room.
                if error.code != "outbox_full" or not self._file.read(
                    "SELECT 1 FROM rows WHERE state <> 'waiting' LIMIT 1"
                ):
                    raise

    # API keys, so that a restart while the database is away still knows the good ones.

    def remember_key(self, prefix: str, verified: str) -> None:
        with self._write_lock, self._file.transaction() as db:
            db.execute("INSERT OR REPLACE INTO api_keys VALUES (?, ?, ?)", (prefix, verified, self._now_us()))

    def forget_key(self, prefix: str) -> None:
        with self._write_lock, self._file.transaction() as db:
            db.execute("DELETE FROM api_keys WHERE prefix = ?", (prefix,))

    def remembered_key(self, prefix: str, since_us: int) -> str | None:
        found = self._file.read(
            "SELECT verified FROM api_keys WHERE prefix = ? AND verified_at_us >= ?", (prefix, since_us)
        )
        return str(found[0][0]) if found else None

    def _rows(self, condition: str, values: Sequence[Any]) -> list[Row]:
        found = self._file.read(f"SELECT n, state, kind, {RECORD_COLUMNS} FROM rows WHERE {condition}", values)
        return [Row(row[0], Record.from_row(row[3:]), row[1], row[2]) for row in found]
