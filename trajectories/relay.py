"""The relay: send outbox rows to the workers, and resend them until the archive has every row.

A lock on a file beside the outbox allows one relay per host. Two at once do no harm: they only send
more often than needed.
"""

from __future__ import annotations

import fcntl
import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

from django.db import Error as DatabaseError
from django.db import close_old_connections, connections
from kombu.exceptions import OperationalError as BrokerError

from trajectories import metrics, private_files, tasks, test_environment
from trajectories.conf import Settings
from trajectories.domain.clock import SECOND_US
from trajectories.exceptions import StoreMismatch, Unavailable
from trajectories.persistence import REBUILD_CLAIM_S
from trajectories.relay_log import RelayLog
from trajectories.storage import archive_reads
from trajectories.storage.archive_delivery import DeliveryStatus, Version, delivery_status
from trajectories.storage.outbox_rows import Row
from trajectories.storage.redis_tier import REBUILDING, RETAINING, SETTLING, RedisError
from trajectories.storage.store import Store, get_store

logger = logging.getLogger(__name__)

_IDLE_S = 0.1
"""Pause between two checks of an outbox that other processes write to."""
_SEND_EVERY_S, _SEND_UNDER_LOAD_S = 0.1, 0.25
"""Pause between two batches that are not full. A batch costs the worker as much as twenty records
in it."""
_LOAD = 10
"""Records of a batch after which the pause is that under load."""
_CONFIRM_FIRST_S = 0.05
_CONFIRM_LATER_S = 0.5
_RECHECKED_AT_ONCE = 200
_PRUNE_EVERY_S, _COPY_EVERY_S = 5.0, 1.0
_REDIS_CHECK_EVERY_S = 2.0
_ERASURES_EVERY_S = 5.0
_KEYS_EVERY_S = 1.0
_LOCK_EVERY_S = 1.0
_AFTER_FAILURE_S = 1.0
RETAIN_EVERY_S = 600.0


@dataclass(slots=True)
class _Batch:
    """Rows that were sent together, of which some are not archived yet."""

    rows: dict[int, Row]
    versions: dict[int, Version]
    attempts: int = 1
    sent_at: float = field(default_factory=time.monotonic)
    look_at: float = 0.0
    look_after_s: float = _CONFIRM_FIRST_S
    looks: int = 0

    @classmethod
    def of(cls, rows: Sequence[Row], first_look_s: float) -> _Batch:
        versions = {row.n: Version.of(row.record) for row in rows}
        batch = cls({row.n: row for row in rows}, versions, look_after_s=first_look_s)
        batch.look_at = batch.sent_at + first_look_s
        return batch

    def settle(self, decided: Set[Version]) -> None:
        """Forget rows that the archive has decided on."""
        self.versions = {n: version for n, version in self.versions.items() if version not in decided}
        self.rows = {n: self.rows[n] for n in self.versions}

    def sent(self, attempts: int) -> None:
        self.sent_at, self.attempts, self.look_after_s = time.monotonic(), attempts, _CONFIRM_FIRST_S

    def look_again(self, now: float) -> None:
        self.looks += 1
        self.look_at, self.look_after_s = now + self.look_after_s, min(self.look_after_s * 2, _CONFIRM_LATER_S)

    def resend_at(self, conf: Settings) -> float:
        return self.sent_at + min(conf.resend_after_s * 2.0 ** (self.attempts - 1), conf.resend_max_s)


def settle(store: Store, versions: Mapping[int, Version]) -> DeliveryStatus:
    """Record the archive's decision on these rows, keyed by row number, in the outbox."""
    decided = delivery_status(list(versions.values()))
    # This host may not know of the deletion yet; the appended rows inform its processes.
    if decided.erased:
        follow_erasures(store)
    for tenant, of_tenant in groupby(sorted(decided.deleted), key=attrgetter("tenant")):
        if tenant not in decided.erased:
            store.outbox.delete(tenant, [version.id for version in of_tenant])
    if any(decided):
        store.outbox.settle(
            [n for n, version in versions.items() if version in decided.confirmed | decided.deleted],
            [n for n, version in versions.items() if version in decided.refused],
        )
    return decided


def follow_erasures(store: Store) -> None:
    """Erase tenants here that were erased in the archive, with rows that arrived since."""
    known = store.outbox.erasures()
    since_us = store.now_us() - store.conf.tombstone_keep_s * SECOND_US  # older ones expired here
    for digest, stamp in archive_reads.erasures(since_us).items():
        if known.get(digest, 0) < stamp:
            store.outbox.erase(digest, stamp)


class Relay:
    """State of delivery from this host's outbox to the archive, bounded by batches_in_flight."""

    def __init__(self, store: Store) -> None:
        self._store, self._conf = store, store.conf
        self._batches: list[_Batch] = []
        self._first_look_s = _CONFIRM_FIRST_S
        self._sent_n, self._pause_s = 0, _SEND_EVERY_S
        self._sent_at = self._pruned_at = self._copied_at = self._redis_checked_at = float("-inf")
        self._retention_checked_at = self._erasures_checked_at = float("-inf")
        self._keys_looked_at, self._keys_seen = float("-inf"), 0
        self._redis_server: str | None = None
        self._verified_at, self._is_refused = float("-inf"), False
        self._rechecked_n, self._has_rechecked = 0, False
        self._failing: set[str] = set()
        self._log = RelayLog(store)

    def step(self) -> bool:
        """Confirm, send and tidy once; return whether any batch is in flight.

        An unavailable server, and a statement that the archive refuses, stop only the part that
        needs it.
        """
        if not self._is_verified():
            return False
        parts = (
            *(self._confirm, self._recheck, self._resend, self._send, self._prune),
            *(self._maintain_redis, self._maintain_retention, self._maintain_erasures),
            *(self._follow_keys, self._log.look_for_stuck_records),
        )
        for part in parts:
            try:
                part()
                self._failing.discard(part.__name__)
            except (BrokerError, RedisError, DatabaseError, Unavailable) as error:
                self._failing.add(part.__name__)
                self._log.failed(error)
                close_old_connections()
        return bool(self._batches)

    def _is_verified(self) -> bool:
        """Return whether the archive is that of this outbox, as far as the archive can be asked."""
        if time.monotonic() - self._verified_at < _REDIS_CHECK_EVERY_S:
            return not self._is_refused
        self._verified_at, self._is_refused = time.monotonic(), False
        try:
            self._store.verify()
        except StoreMismatch as error:
            self._is_refused = True
            self._failing.add("_verify")
            self._log.failed(error)
        except (DatabaseError, Unavailable):
            close_old_connections()  # the parts below report it
        return not self._is_refused

    @property
    def is_failing(self) -> bool:
        """Return whether a part of the last step failed."""
        return bool(self._failing)

    def drain(self, timeout_s: float) -> bool:
        """Work until no row is pending or the timeout passes; return whether no row is pending."""
        until = time.monotonic() + timeout_s
        while self.step() or self._store.outbox.waiting(0, 1):
            if time.monotonic() >= until:
                return False
            time.sleep(_AFTER_FAILURE_S if self.is_failing else _CONFIRM_FIRST_S)
        return True

    def _confirm(self) -> None:
        now = time.monotonic()
        due = [batch for batch in self._batches if now >= batch.look_at]
        for batch in due:
            batch.look_again(now)
        versions = {n: version for batch in due for n, version in batch.versions.items()}
        if not versions:
            return
        decided = settle(self._store, versions)
        for version in decided.confirmed:
            metrics.confirm_seconds.observe(max(0, self._store.now_us() - version.stamp) / SECOND_US)
        all_decided = decided.confirmed | decided.refused | decided.deleted
        for batch in due:
            batch.settle(all_decided)
            if not batch.rows:
                self._expect(now - batch.sent_at, is_first_look=batch.looks == 1)
        self._batches = [batch for batch in self._batches if batch.rows]

    def _expect(self, took_s: float, *, is_first_look: bool) -> None:
        """Look at the next batches about when they are archived, and earlier while one look is
        enough."""
        first_look_s = self._first_look_s * 0.7 if is_first_look else took_s * 0.8
        self._first_look_s = min(max(first_look_s, _CONFIRM_FIRST_S), _CONFIRM_LATER_S)

    def _recheck(self) -> None:
        """Ask the archive once for the rows that an earlier relay confirmed; send again what it
        lacks.

        A relay of an earlier release confirmed by the stamp alone. An archive that was restored
        from a backup lacks what it had confirmed since.
        """
        if self._has_rechecked:
            return
        rows = self._store.outbox.confirmed(self._rechecked_n, _RECHECKED_AT_ONCE)
        versions = {row.n: Version.of(row.record) for row in rows}
        known = set().union(*delivery_status(list(versions.values()))[:3])
        if lacking := [n for n, version in versions.items() if version not in known]:
            logger.warning("The archive lacks %d confirmed records; they are sent again.", len(lacking))
            self._store.outbox.reopen(lacking)
            self._sent_n = min(self._sent_n, lacking[0] - 1)
        self._rechecked_n, self._has_rechecked = (rows[-1].n, False) if rows else (0, True)

    def _resend(self) -> None:
        due = [batch for batch in self._batches if time.monotonic() >= batch.resend_at(self._conf)]
        if due and tasks.waiting_messages(self._store.queue) < self._conf.queue_max_messages:
            for batch in due:
                self._publish(list(batch.rows.values()), is_again=True)
                batch.sent(batch.attempts + 1)

    def _send(self) -> None:
        while len(self._batches) < self._conf.batches_in_flight:
            is_full = self._store.outbox.last_n() - self._sent_n >= self._conf.batch_max_records
            if not is_full and time.monotonic() - self._sent_at < self._pause_s:
                return
            rows = self._next_rows()
            if not rows:
                return
            self._publish(rows, is_again=False)
            self._batches.append(_Batch.of(rows, self._first_look_s))
            self._sent_n, self._sent_at = rows[-1].n, time.monotonic()
            self._pause_s = _SEND_UNDER_LOAD_S if len(rows) >= _LOAD else _SEND_EVERY_S

    def _next_rows(self) -> list[Row]:
        taken: list[Row] = []
        size = 0
        for row in self._store.outbox.waiting(self._sent_n, self._conf.batch_max_records):
            size += len(row.record.body)
            if taken and size > self._conf.batch_max_bytes:
                break
            taken.append(row)
        return taken

    def _publish(self, rows: Sequence[Row], *, is_again: bool) -> None:
        records = [row.record for row in rows]
        self._call(tasks.persist, tasks.message_of(records, is_compressing=self._conf.compress_bodies))
        self._store.outbox.count_sent(len(rows), is_again=is_again)

    def _prune(self) -> None:
        if time.monotonic() - self._copied_at >= _COPY_EVERY_S:
            self._copied_at = time.monotonic()
            self._store.outbox.copy_log()
        if time.monotonic() - self._pruned_at >= _PRUNE_EVERY_S:
            self._pruned_at = time.monotonic()
            keep_us = round(self._conf.outbox_keep_confirmed_s * SECOND_US)
            while self._store.outbox.prune(self._store.now_us() - keep_us):
                pass
            self._store.outbox.forget_tombstones(self._store.now_us() - self._conf.tombstone_keep_s * SECOND_US)

    def _maintain_erasures(self) -> None:
        if time.monotonic() - self._erasures_checked_at >= _ERASURES_EVERY_S:
            self._erasures_checked_at = time.monotonic()
            follow_erasures(self._store)

    def _follow_keys(self) -> None:
        """Forget keys that other hosts have changed or revoked."""
        if time.monotonic() - self._keys_looked_at < _KEYS_EVERY_S:
            return
        self._keys_looked_at = time.monotonic()
        if changed := self._store.redis_tier.changed_keys(self._keys_seen):
            self._store.outbox.forget_keys(changed)
            self._keys_seen = max(changed.values())

    def _maintain_redis(self) -> None:
        if time.monotonic() - self._redis_checked_at < _REDIS_CHECK_EVERY_S:
            return
        self._redis_checked_at = time.monotonic()
        tier = self._store.redis_tier
        server = tier.replication_id()
        if self._redis_server not in (None, server):
            # Batches in flight may be lost with the previous server, and the queue if it was there.
            for batch in self._batches:
                batch.sent_at = float("-inf")
        self._redis_server = server
        if not tier.is_trusted():
            if tier.claim(REBUILDING, REBUILD_CLAIM_S):
                self._call(tasks.rebuild)
        elif tier.open_batches(self._conf.settle_after_s, 1) and tier.claim(SETTLING, self._conf.settle_after_s):
            self._call(tasks.settle)

    def _maintain_retention(self) -> None:
        """Run retention on one host, each time the claim expires.

        It also runs without a retention setting, because tombstones always expire.
        """
        if time.monotonic() - self._retention_checked_at < RETAIN_EVERY_S / 10:
            return
        self._retention_checked_at = time.monotonic()
        if self._store.redis_tier.claim(RETAINING, RETAIN_EVERY_S):
            self._call(tasks.retain)

    def _call(self, task: Any, *args: Any) -> None:
        tasks.send(task, *args, self._store.identity, queue=self._store.queue)


class RelayThread(threading.Thread):
    """A daemon thread that takes the host lock, relays, and survives every server failure."""

    def __init__(self, store: Store) -> None:
        super().__init__(name="trajectories-relay", daemon=True)
        self._store = store
        self._stopping = threading.Event()

    def stop(self, timeout_s: float = 5.0) -> None:
        self._stopping.set()
        self.join(timeout_s)

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                with host_lock(self._store):
                    work(self._store, self._stopping)
            except HostLockTaken:
                pass
            except Exception:
                logger.exception("The relay failed and starts again.")
            self._stopping.wait(_LOCK_EVERY_S)


def work(store: Store, stopping: threading.Event) -> None:
    """Run the relay until ``stopping`` is set. The caller holds ``host_lock``."""
    relay = Relay(store)
    try:
        while not stopping.is_set():
            is_busy = relay.step()
            stopping.wait(_AFTER_FAILURE_S if relay.is_failing else _CONFIRM_FIRST_S if is_busy else _IDLE_S)
    finally:
        connections.close_all()


class HostLockTaken(Exception):
    """Another process of this host runs the relay."""


@contextmanager
def host_lock(store: Store) -> Iterator[None]:
    """Hold the lock of this host's one relay.

    The file is opened here, after any fork, since a lock belongs to the open file.

    Raises:
        HostLockTaken: another process holds the lock.
    """
    path = Path(store.conf.outbox_path + ".relay.lock")
    private_files.make_folder(path.parent)
    private_files.make_file(path)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HostLockTaken from None
        store.inherited_files.add(file)
        try:
            yield
        finally:
            store.inherited_files.discard(file)


def start(*, sender: object = None, **_: Any) -> None:
    """Start this process's relay thread if enabled and not running. Also a signal receiver.

    Tests and requests of a test client start none.
    """
    if test_environment.is_active() or test_environment.is_test_client(sender):
        return
    store = get_store()
    if store.conf.relay_in_process:
        store.run_in_background(RelayThread)


def stop() -> None:
    """Stop this process's relay thread if it runs."""
    get_store().stop_background()
