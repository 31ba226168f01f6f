"""The outbox: a SQLite file of this host that makes an acknowledged record durable first.

Every process of the host opens the same file. Row numbers follow commit order, so new rows are
those above the last number seen. A row is ``waiting`` until the archive has it (``confirmed``) or
has refused it (``quarantined``).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple
from uuid import UUID

from trajectories.domain import clock
from trajectories.domain.record import Position, Record
from trajectories.exceptions import OutboxUnavailable, StoreMismatch
from trajectories.storage import outbox_rows
from trajectories.storage.change_hint import ChangeHint
from trajectories.storage.group_commit import GroupCommit, Waiter
from trajectories.storage.outbox_file import OutboxFile
from trajectories.storage.outbox_rows import CHUNK, RECORD_COLUMNS, Appended, Binding, Draft, Row

_NEWEST_WAITING_OF_ITS_ID = (
    "NOT EXISTS (SELECT 1 FROM rows newer WHERE newer.tenant = rows.tenant AND newer.id = rows.id"
    " AND newer.stamp > rows.stamp AND newer.state = 'waiting' AND newer.kind <> 'outcome')"
)
_VACUUM_PAGES = 256
_KEYS_KNOWN_S = 1.0
"""How long the number of key changes may be unknown if a process of an earlier release, or one that
was killed, has changed it."""
_PAGE = 200
_END_OF_TIME_US = 2**63 - 1


class Rebound(StoreMismatch):
    """The file was bound to another store than its writer has verified; nothing was accepted."""


class Counts(NamedTuple):
    """All rows that this outbox has had, including tombstones, counted at one moment.

    ``acknowledged = waiting + confirmed + quarantined + deleted``. ``deleted`` counts rows that
    were waiting when their id was deleted.

    ``sent`` and ``resent`` count first and repeated deliveries to the workers. A process that is
    killed between delivery and counting does not count.
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


class Outbox:
    """The outbox file as one process uses it. Thread-safe; must not be carried over a fork."""

    def __init__(
        self,
        path: str,
        *,
        synchronous: str,
        max_bytes: int,
        disk_reserve_bytes: int = 0,
        now_us: Callable[[], int] = clock.now_us,
    ) -> None:
        self.path = path
        self._now_us = now_us
        self._file = OutboxFile(
            path, synchronous=synchronous, max_bytes=max_bytes, disk_reserve_bytes=disk_reserve_bytes
        )
        self._key_hint = ChangeHint(path + ".keys")
        self._key_changes: tuple[int, bytes | None, float] = 0, None, 0.0
        self._write_lock = threading.Lock()
        self._appends = GroupCommit(self._insert_all, self._write_lock)

    def close(self) -> None:
        """Close the file. No thread may be using it."""
        self._file.close()
        self._key_hint.close()

    # The request path.

    def append(self, drafts: Sequence[Draft], *, store: str | None = None) -> list[Appended | Exception]:
        """Commit ``drafts`` as rows with their stamps; they are durable on return.

        Concurrent callers share one commit.

        Args:
            store: the store that the caller has verified this file to belong to; None: not
                verified.

        Returns:
            The row of each draft, or why it was refused: ``Deleted``, or what its ``revise``
            raised.

        Raises:
            OutboxUnavailable: 503; no draft was accepted: size limit, full disk, or locked for 5 s.
            StoreMismatch: 503; no draft was accepted: this file belongs to another store.
            Rebound: 503; no draft was accepted: this file belongs to another store than ``store``.
        """
        return self._appends.append(drafts, store)

    def _insert_all(self, waiters: Sequence[Waiter]) -> list[list[Appended | Exception]]:
        drafts = [waiter.drafts for waiter in waiters]
        verified = {waiter.store for waiter in waiters if waiter.store is not None}

        def expect(binding: Binding) -> None:
            self._expect_bound(binding)
            if verified - {binding.store}:
                raise Rebound(f"The outbox {self.path} was bound to another store just now. Send the request again.")

        while True:
            try:
                with self._file.transaction(is_limited=True) as db:
                    return outbox_rows.insert_all(db, drafts, self._now_us(), expect)
            except OutboxUnavailable as error:
                # If the file is full, settled rows are deleted early; waiting rows never are.
                if error.code != "outbox_full" or not self._delete_settled(_END_OF_TIME_US):
                    raise

    def _delete_settled(self, before_us: int) -> int:
        with self._file.transaction(is_durable=False) as db:
            return outbox_rows.delete_settled(db, before_us)

    # Deletion.

    def delete(self, tenant: str, ids: Iterable[UUID]) -> int:
        """Delete every row of ``ids``, including quarantined ones, and refuse these ids afterwards.

        Each id without a tombstone gets one as a new row. Other processes read it, and the relay
        sends it.

        Returns:
            The number of records deleted.
        """
        with self._write_lock, self._file.transaction() as db:
            return sum(outbox_rows.delete(db, tenant, id_, self._now_us()) for id_ in dict.fromkeys(ids))

    def is_deleted(self, tenant: str, id_: UUID) -> bool:
        found = self._file.read("SELECT 1 FROM tombstones WHERE tenant = ? AND id = ?", (tenant, id_.bytes))
        return bool(found)

    def erase(self, digest: str, stamp: int) -> int:
        """Delete everything of the tenant with this ``tenant_digest``, and refuse it afterwards.

        A new row makes other processes drop the tenant. Repeating is safe.

        Args:
            stamp: the stamp of the erasure, as in ``erasures``.

        Returns:
            The number of records deleted.
        """
        gone = 0
        with self._write_lock, self._file.transaction() as db:
            tenants = outbox_rows.begin_erasure(db, digest, stamp, self._now_us())
        self._hint_at_keys()
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
        """Return the number of rows of ``tenant``, in any state."""
        return int(self._file.read("SELECT count(*) FROM rows WHERE tenant = ?", (tenant,))[0][0])

    def erasures(self) -> dict[str, int]:
        """Return the stamps of the erasures of this host, by ``tenant_digest``.

        An erasure that this host has only begun has a stamp below its final one.
        """
        return dict(self._file.read("SELECT digest, stamp FROM erasures"))

    def compact(self) -> bool:
        """Release all free space and empty the log, so that no deleted data remains in the file.

        Returns:
            False if a reader prevented it.
        """
        with self._write_lock:
            while self._file.has_free_pages():
                self._file.vacuum(_VACUUM_PAGES)
            return self._file.empty_log()

    def forget_tombstones(self, before_us: int) -> int:
        """Delete some tombstones, and all erasures, from before ``before_us``.

        Returns:
            The number of tombstones deleted.
        """
        with self._write_lock, self._file.transaction(is_durable=False) as db:
            db.execute("DELETE FROM erasures WHERE stamp < ?", (before_us,))
            return db.execute(
                "DELETE FROM tombstones WHERE (tenant, id) IN (SELECT tenant, id FROM tombstones"
                " WHERE deleted_at_us < ? ORDER BY deleted_at_us LIMIT ?)",
                (before_us, CHUNK),
            ).rowcount

    # Used by readers.

    def rows_after(self, n: int, limit: int) -> list[Row]:
        """Return the next rows of all tenants in commit order, at most ``limit``."""
        return self._rows("n > ? ORDER BY n LIMIT ?", (n, limit))

    def last_n(self) -> int:
        """Return the number of the newest row ever committed."""
        found = self._file.read("SELECT seq FROM sqlite_sequence WHERE name = 'rows'")
        return int(found[0][0]) if found else 0

    def pruned_n(self) -> int:
        """Return the highest number of a deleted row.

        A reader that has not seen this row has missed rows.
        """
        return int(self._file.read("SELECT value FROM numbers WHERE name = 'pruned_n'")[0][0])

    def quarantines(self) -> int:
        """Return how many rows the archive has refused so far.

        A reader that applied such a row must drop it.
        """
        return int(self._file.read("SELECT value FROM numbers WHERE name = 'quarantines'")[0][0])

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Make every read of this thread inside see the outbox as of the first read."""
        self._file.read("BEGIN DEFERRED")
        try:
            yield
        finally:
            self._file.read("ROLLBACK")

    def waiting_below(self, tenant: str, below: Position) -> Iterator[Record]:
        """Return the newest waiting version of each id below ``below``, highest position first."""
        while page := self._rows(
            f"tenant = ? AND state = 'waiting' AND kind = 'record' AND (recorded_at_us, id) < (?, ?) AND {_NEWEST_WAITING_OF_ITS_ID}"
            " ORDER BY recorded_at_us DESC, id DESC LIMIT ?",
            (tenant, below.recorded_at_us, below.id.bytes, _PAGE),
        ):
            yield from (row.record for row in page)
            below = page[-1].record.position

    def waiting_ids(self, tenant: str) -> list[UUID]:
        """Return ids with a version that the archive may not have yet."""
        # Otherwise SQLite uses the index by id and reads every row that has not been pruned.
        found = self._file.read(
            "SELECT DISTINCT id FROM rows INDEXED BY rows_waiting_by_position WHERE tenant = ? AND state = 'waiting'",
            (tenant,),
        )
        return [UUID(bytes=row[0]) for row in found]

    def waiting_versions(self, tenant: str, ids: Iterable[UUID]) -> dict[UUID, list[Record]]:
        """Return the waiting versions of ``ids`` in commit order; ids without any are left out.

        Those of a waiting run end with its late outcomes that the archive has: it joins them when
        the run arrives.
        """
        versions: dict[UUID, list[Record]] = {}
        for record in self._of_ids(tenant, ids, "state = 'waiting'"):
            versions.setdefault(record.id, []).append(record)
        runs = [id_ for id_, found in versions.items() if any(one.is_visible for one in found)]
        for record in self._of_ids(tenant, runs, "kind = 'outcome' AND state = 'confirmed'"):
            versions[record.id].append(record)
        return versions

    def outcomes(self, tenant: str, ids: Iterable[UUID]) -> list[Record]:
        """Return the late outcomes of ``ids`` that this host has, without refused ones."""
        return list(self._of_ids(tenant, ids, "kind = 'outcome' AND state <> 'quarantined'"))

    def versions(self, tenant: str, id_: UUID) -> list[Record]:
        """Return this host's versions of an id in commit order, without refused ones."""
        rows = self._rows("tenant = ? AND id = ? AND state <> 'quarantined' ORDER BY n", (tenant, id_.bytes))
        return [row.record for row in rows]

    # Used by the relay.

    def waiting(self, after_n: int, limit: int) -> list[Row]:
        """Return rows to send, in commit order."""
        return self._rows("state = 'waiting' AND n > ? ORDER BY n LIMIT ?", (after_n, limit))

    def has_waiting(self, tenant: str, up_to_n: int) -> bool:
        """Return whether a row of ``tenant`` numbered at most ``up_to_n`` is still waiting."""
        return bool(
            self._file.read(
                "SELECT 1 FROM rows INDEXED BY rows_waiting WHERE state = 'waiting' AND n <= ? AND tenant = ? LIMIT 1",
                (up_to_n, tenant),
            )
        )

    def confirmed(self, after_n: int, limit: int) -> list[Row]:
        """Return rows of records that the archive has confirmed, in commit order."""
        return self._rows("state = 'confirmed' AND kind = 'record' AND n > ? ORDER BY n LIMIT ?", (after_n, limit))

    def reopen(self, confirmed: Iterable[int]) -> None:
        """Let these confirmed rows wait again, because the archive lacks them."""
        with self._write_lock, self._file.transaction() as db:
            outbox_rows.reopen(db, confirmed)

    def settle(self, confirmed: Iterable[int], quarantined: Iterable[int] = ()) -> None:
        """Mark rows as confirmed or quarantined by the archive."""
        at = self._now_us()
        marks = [("confirmed", at, n) for n in confirmed] + [("quarantined", at, n) for n in quarantined]
        # A row whose mark is lost is sent again, and the archive says the same.
        with self._write_lock, self._file.transaction(is_durable=False) as db:
            db.executemany("UPDATE rows SET state = ?, settled_at_us = ? WHERE n = ?", marks)
            refused = sum(1 for state, _, _ in marks if state == "quarantined")
            db.execute("UPDATE numbers SET value = value + ? WHERE name = 'quarantines'", (refused,))

    def copy_log(self) -> None:
        """Write SQLite's log into its file, while others append, so that no append has to do it."""
        self._file.copy_log()

    def prune(self, before_us: int) -> int:
        """Delete some rows that were settled before ``before_us``, and release some space.

        Returns:
            The number of rows deleted.
        """
        self.copy_log()  # so that little is left to copy while no process can append
        with self._write_lock:
            gone = self._delete_settled(before_us)
            # Release a little each time, because no process can append during it. Later calls
            # continue when no row is left to delete.
            self._file.vacuum(_VACUUM_PAGES)
            # The log must not keep a copy of deleted data either.
            self._file.empty_log()
        return gone

    def count_sent(self, records: int, *, is_again: bool) -> None:
        """Add to the number of records delivered so far."""
        name = "resent" if is_again else "sent"
        with self._write_lock, self._file.transaction(is_durable=False) as db:
            db.execute("UPDATE numbers SET value = value + ? WHERE name = ?", (records, name))

    # Used by operators.

    def counts(self) -> Counts:
        """Return the current counts from the file; they are equal in every process of the host."""
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
        """Check by a write whether a record of this size would be accepted now.

        Raises:
            OutboxUnavailable: 503; it would be refused.
        """
        with self._write_lock:
            try:
                with self._file.transaction(is_limited=True) as db:
                    db.execute("UPDATE numbers SET value = ? WHERE name = 'probed_at'", (self._now_us(),))
                    db.execute("SAVEPOINT probe")
                    db.execute("INSERT INTO api_keys VALUES ('', zeroblob(?), 0)", (size,))
                    db.execute("ROLLBACK TO probe")
            except OutboxUnavailable as error:
                # Deleting settled rows would make room.
                if error.code != "outbox_full" or not self._file.read(
                    "SELECT 1 FROM rows WHERE state <> 'waiting' LIMIT 1"
                ):
                    raise

    # The store that the file belongs to.

    def binding(self) -> Binding:
        """Return the binding of this file."""
        found = dict(self._file.read("SELECT name, store FROM bindings"))
        return Binding(found.get("store"), found.get("other"))

    def expect_bound(self) -> Binding:
        """Return the binding; check that the archive last seen behind this outbox is that of its
        store.

        Raises:
            StoreMismatch: 503; it is another store's, so records must not go from one to the other.
        """
        binding = self.binding()
        self._expect_bound(binding)
        return binding

    def _expect_bound(self, binding: Binding) -> None:
        if binding.other is not None:
            raise StoreMismatch(
                f"The outbox {self.path} belongs to the store {binding.store}, and the database to the store"
                f" {binding.other}. Correct DATABASES or OUTBOX_PATH, or run `manage.py store_identity --adopt-outbox`."
            )

    def bind(self, identity: str, *, is_forced: bool = False) -> None:
        """Bind this file to the store ``identity``, whose archive was found behind it.

        A file that is bound to another store keeps that binding as long as records wait in it. If
        none wait, it is emptied and bound anew: its store's database was replaced.

        Args:
            is_forced: deliver waiting records to the archive of ``identity`` too.

        Raises:
            StoreMismatch: 503; records of another store wait here.
        """
        if self.binding() != (identity, None):
            with self._write_lock:
                self._bind(identity, is_forced=is_forced)
        self.expect_bound()

    def _bind(self, identity: str, *, is_forced: bool) -> None:
        with self._file.transaction() as db:
            known = dict(db.execute("SELECT name, store FROM bindings"))
            is_other = known.get("store") not in (None, identity)
            if is_other and not is_forced and outbox_rows.has_waiting(db):
                db.execute("INSERT OR REPLACE INTO bindings VALUES ('other', ?)", (identity,))
                return
            if is_other:
                outbox_rows.forget_store(db)
            db.execute("INSERT OR REPLACE INTO bindings VALUES ('store', ?)", (identity,))
            db.execute("DELETE FROM bindings WHERE name = 'other'")

    # API keys, so that a process that restarts while the database is unavailable knows valid keys.

    def remember_key(self, prefix: str, verified: str) -> None:
        with self._write_lock, self._file.transaction() as db:
            db.execute("INSERT OR REPLACE INTO api_keys VALUES (?, ?, ?)", (prefix, verified, self._now_us()))

    def forget_keys(self, prefixes: Iterable[str]) -> None:
        """Forget what was verified of these keys, in every process of this host."""
        with self._write_lock, self._file.transaction() as db:
            outbox_rows.forget_keys(db, prefixes)
        self._hint_at_keys()

    def _hint_at_keys(self) -> None:
        with suppress(OSError):  # the other processes then look within a second
            self._key_hint.change()

    def key_changes(self) -> int:
        """Return a number that grows whenever keys are forgotten; a process compares it at each use
        of a key."""
        # The mark first: keys that are forgotten during the query change it again. Each request asks
        # here, and a query gives up the GIL, for which all threads of the process compete.
        mark, now = self._key_hint.read(), time.monotonic()
        changes, seen, until = self._key_changes
        if mark is None or mark != seen or now >= until:
            found = self._file.read("SELECT value FROM numbers WHERE name = 'key_changes'")
            changes = int(found[0][0]) if found else 0
            self._key_changes = changes, mark, now + _KEYS_KNOWN_S
        return changes

    def remembered_key(self, prefix: str, since_us: int) -> str | None:
        found = self._file.read(
            "SELECT verified FROM api_keys WHERE prefix = ? AND verified_at_us >= ?", (prefix, since_us)
        )
        return str(found[0][0]) if found else None

    def _of_ids(self, tenant: str, ids: Iterable[UUID], condition: str) -> Iterator[Record]:
        """Yield versions of ``ids``, those of one id in commit order."""
        remaining = [id_.bytes for id_ in ids]
        while chunk := remaining[:_PAGE]:
            del remaining[:_PAGE]
            marks = ", ".join("?" * len(chunk))
            rows = self._rows(f"tenant = ? AND id IN ({marks}) AND {condition} ORDER BY n", (tenant, *chunk))
            yield from (row.record for row in rows)

    def _rows(self, condition: str, values: Sequence[Any]) -> list[Row]:
        found = self._file.read(f"SELECT n, state, kind, {RECORD_COLUMNS} FROM rows WHERE {condition}", values)
        return [Row(row[0], Record.from_row(row[3:]), row[1], row[2]) for row in found]
