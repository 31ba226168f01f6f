"""Background queue: records are stored at once and sent by a thread.

A record is on disk (``spool.py``) before ``enqueue`` returns, and the thread sends from there.
SIGTERM therefore needs no handler. The next process with the same directory, server and key sends
the records of a process that ended. If the directory is not writable, records wait in memory. A
record that waits ``MAX_WAIT_S`` for other threads is deferred: it is in memory until the next
caller or a thread stores it (``deferred.py``).

A full queue drops new records. The stored ones were already promised, and deleting them would
rewrite files while the server is unavailable. The start of an outage is as valuable as its end.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Protocol
from uuid import UUID, uuid4

from trajectories_sdk import shutdown
from trajectories_sdk.adjustments import Adjustments
from trajectories_sdk.deferred import DeferredLines
from trajectories_sdk.delivery import Outage
from trajectories_sdk.errors import APIConnectionError
from trajectories_sdk.models import LineResult
from trajectories_sdk.outcome_recording import kept
from trajectories_sdk.params import LateOutcome
from trajectories_sdk.pending_queue import Batch, NumberedLine, PendingQueue
from trajectories_sdk.recording import AnyTrajectory
from trajectories_sdk.retries import is_line_kept
from trajectories_sdk.spool import Line, Spool

MAX_RECORDS: Final = 10_000
MAX_BYTES: Final = 64 * 1024 * 1024
"""Limit of a directory, including segments of other processes, or of a process in memory. As much
can be deferred.
"""
MAX_WAIT_S: Final = 0.1
"""Longest wait of ``enqueue`` for other threads. A record that cannot be stored by then is deferred.
"""
LINGER_S: Final = 1.0
"""How long the first record of a batch waits for others."""
IDLE_S: Final = 30.0
"""The thread ends after this time without work; the next record starts a new one."""
MAX_TAKEN_OVER: Final = 16
"""Limit of segments taken over at a time; each is an open file."""
CLOSE_TIMEOUT_S: Final = 5.0

_log = logging.getLogger("trajectories_sdk")


@dataclass(frozen=True, slots=True)
class Counters:
    """Counts of this process's records, including those taken over from ended processes.

    ``sent``: accepted by the server. ``waiting``: not yet sent or refused; versions of one id count
    once. ``spooled``: those of ``waiting`` that are on disk. ``dropped``: lost, because the queue
    was full, on disk or in memory, or a file was unreadable. ``refused``: rejected by the server,
    or not an object. ``replaced``: values that JSON or the server cannot hold, written as the
    closest JSON. ``left_out``: fields that the server refused, left out so that their runs are
    kept.
    """

    sent: int
    waiting: int
    spooled: int
    dropped: int
    refused: int
    replaced: int = 0
    left_out: int = 0


class BatchSender(Protocol):
    """Interface of ``delivery.Sender``."""

    adjustments: Adjustments

    def send(self, bodies: Sequence[bytes], /) -> Sequence[LineResult]: ...

    def close(self) -> None: ...


class _Scan(Enum):
    """State of the search for segments of ended processes."""

    WANTED = auto()
    RUNNING = auto()
    DONE = auto()


class BackgroundQueue:
    """Stores records and sends them. Each client creates one on first use. Safe for threads and
    forks.

    ``enqueue`` never raises. It waits at most ``MAX_WAIT_S`` for other threads, and for one
    ``write`` to a local file.
    """

    def __init__(
        self,
        sender: BatchSender,
        spool: Spool,
        *,
        max_records: int = MAX_RECORDS,
        max_bytes: int = MAX_BYTES,
        linger_s: float = LINGER_S,
        idle_s: float = IDLE_S,
    ) -> None:
        self._sender = sender
        self._spool = spool
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._linger_s = linger_s
        self._idle_s = idle_s
        self._begin()
        shutdown.register(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)  # the thread waits
        self._progress = threading.Condition(self._lock)  # callers of flush wait
        self._thread: threading.Thread | None = None
        self._is_closing = False
        self._flushing = 0  # callers that wait
        self._scan = _Scan.WANTED
        self._outage = Outage()
        self._pending = self._empty_queue()
        self._deferred = DeferredLines(self._lock, self._keep, max_records=self._max_records, max_bytes=self._max_bytes)
        self._linger_until = 0.0
        self._sent = self._dropped = self._refused = 0
        self._unsent_on_disk = 0

    def _empty_queue(self) -> PendingQueue:
        return PendingQueue(self._spool, max_records=self._max_records, max_bytes=self._max_bytes)

    # --- For callers

    @property
    def counters(self) -> Counters:
        """Return the current counts."""
        with self._lock:
            on_disk = self._pending.records + self._unsent_on_disk - self._pending.in_memory
            deferred = len(self._deferred.keys() - self._pending.newest.keys())
            changed = self._sender.adjustments
            return Counters(
                sent=self._sent,
                waiting=on_disk + self._pending.in_memory + deferred,
                spooled=on_disk,
                dropped=self._dropped + self._deferred.dropped,
                refused=self._refused,
                replaced=changed.replaced,
                left_out=changed.left_out,
            )

    def enqueue(self, trajectory: AnyTrajectory) -> UUID:
        """Store a record for sending, and return its id, which is generated if it has none.

        A value without a JSON form is written as the closest JSON, and a field that the server
        refuses is left out; both are counted. Delivery is not guaranteed, since the queue may be
        full. Losses show in ``counters`` and in the log ``trajectories_sdk``.
        """
        id_ = uuid4()
        line: Line | None = None
        try:
            id_, body = self._sender.adjustments.kept(trajectory)
            line = Line(str(id_).encode(), body)
        except Exception as error:  # values of the caller may raise anything
            _log.warning("Trajectory %s cannot be sent: %s: %s", id_, type(error).__name__, error)
        self._store(line)
        return id_

    def enqueue_outcome(self, outcome: LateOutcome) -> None:
        """Store a late outcome for sending. Counted and guaranteed as a record is."""
        line: Line | None = None
        try:
            line = Line(str(uuid4()).encode(), kept(outcome))
        except Exception as error:  # values of the caller may raise anything
            _log.warning("An outcome cannot be sent: %s: %s", type(error).__name__, error)
        self._store(line)

    def _store(self, line: Line | None) -> None:
        deadline = time.monotonic() + MAX_WAIT_S
        if self._lock.acquire(timeout=MAX_WAIT_S):
            try:
                if self._deferred.store(deadline):
                    self._keep(line)
                    return
            finally:
                self._lock.release()
        self._deferred.add(line)

    def flush(self, timeout_s: float = CLOSE_TIMEOUT_S) -> bool:
        """Send everything that waits now, including records of ended processes.

        Returns:
            Whether every record was sent or refused. If not, the rest keeps waiting.
        """
        return self._flush(timeout_s, is_final=False)

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Flush and end the thread. If the server is unavailable, try once; records on disk stay
        there.

        A later record opens the queue again.
        """
        deadline = time.monotonic() + timeout_s
        self.flush_at_exit(timeout_s)
        thread = self._thread
        if thread is None:
            return
        self._is_closing = True
        if self._lock.acquire(timeout=max(MAX_WAIT_S, deadline - time.monotonic())):
            try:
                self._work.notify()
            finally:
                self._lock.release()
        thread.join(max(0.0, deadline - time.monotonic()))

    # --- For the end of the process, and its forks

    def flush_at_exit(self, timeout_s: float) -> None:
        """Like ``close``, but keep the thread, because other code may still record."""
        if self._thread is not None or self._deferred:
            self._flush(timeout_s, is_final=True)

    def reset_after_fork(self) -> None:
        """Start empty in a forked child. The records and locks belong to the parent."""
        self._pending.release()
        self._begin()

    # --- With the lock held

    def _keep(self, line: Line | None) -> None:
        """Store a line. None counts a record that cannot be sent."""
        if line is None:
            self._refused += 1
            return
        try:
            self._add(line)
        except Exception:
            self._dropped += 1
            _log.exception("Record %s is dropped", line.key.decode())

    def _add(self, line: Line) -> None:
        batch = self._pending.keep(line)
        if batch is None:
            self._dropped += 1
            return
        self._is_closing = False
        if batch.segment.records == 1:
            self._linger_until = time.monotonic() + self._linger_s
            self._work.notify()
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="trajectories-sdk", daemon=True)
        self._thread, self._unsent_on_disk, self._scan = thread, 0, _Scan.WANTED
        shutdown.install_hooks()
        try:
            thread.start()
        except RuntimeError:  # the interpreter is shutting down; the next process sends the records on disk
            self._thread = None

    # --- PendingQueue for the thread

    def _flush(self, timeout_s: float, *, is_final: bool) -> bool:
        """Args:
        is_final: the caller is about to end, so after a failed attempt the records on disk can
            stay there.
        """
        deadline = time.monotonic() + timeout_s
        if not self._lock.acquire(timeout=timeout_s):
            return False
        self._flushing += 1
        try:
            if not self._deferred.store(deadline):
                return False
            if self._thread is None:
                self._start()
            target, failures, self._scan = self._pending.next_number, self._outage.failures, _Scan.WANTED
            self._work.notify()
            while not self._is_flushed(target):
                has_failed = self._outage.failures > failures
                is_hopeless = self._thread is None or self._outage.not_before > deadline
                if is_hopeless or (is_final and has_failed and not self._pending.in_memory):
                    return False
                if not self._progress.wait(deadline - time.monotonic()) and time.monotonic() >= deadline:
                    return False
            return True
        finally:
            self._flushing -= 1
            self._lock.release()

    def _is_flushed(self, target: int) -> bool:
        return self._scan is _Scan.DONE and not self._pending.inherited and not self._pending.has_own_before(target)

    # --- The thread

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                self._take_over()
                batch = self._next_batch()
                if batch is not None:
                    self._deliver(batch)
        except Exception:
            _log.exception("The background queue stopped after an error; the next record restarts it")
            with self._lock:
                self._thread = None
                self._progress.notify_all()
        else:
            self._sender.close()

    def _wait_for_work(self) -> bool:
        """Wait for work. Return False if the thread must end; the queue is then reset."""
        with self._lock:
            idle_at = time.monotonic() + self._idle_s
            while not (self._is_closing and not self._flushing):
                now = time.monotonic()
                at = 0.0 if self._scan is _Scan.WANTED else self._send_at()
                if at is not None and at <= now:
                    return True
                if at is None and idle_at <= now:
                    break
                self._work.wait((idle_at if at is None else at) - now)
            self._end()
            return False

    def _send_at(self) -> float | None:
        """Return when the next request is due, or None if there is nothing to send."""
        if not self._pending.own and not self._pending.inherited:
            return None
        if self._outage.failures:
            return self._outage.next_attempt_at(is_flushing=self._flushing > 0)
        return self._linger_until if self._pending.is_lingering and not self._flushing else 0.0

    def _take_over(self) -> None:
        with self._lock:
            self._scan = _Scan.RUNNING
            held = {segment.path for segment in self._pending.files}
            room = MAX_TAKEN_OVER - len(self._pending.inherited)
        try:
            taken, foreign_bytes = self._spool.take_over(held, max_segments=room)
        except OSError:  # logged when a record is written there
            taken, foreign_bytes = [], 0
        with self._lock:
            self._pending.take_over(taken, foreign_bytes)
            if self._scan is _Scan.RUNNING:
                self._scan = _Scan.DONE
            self._progress.notify_all()

    def _next_batch(self) -> Batch | None:
        with self._lock:
            at = self._send_at()
            return None if at is None or at > time.monotonic() else self._pending.next()

    def _deliver(self, batch: Batch) -> None:
        try:
            lines = batch.segment.read()
        except OSError:
            _log.exception("Spooled records are dropped because they cannot be read")
            with self._lock:
                self._dropped += self._pending.drop(batch)
            self._remove(batch)
            return
        with self._lock:
            wanted = batch.wanted(lines, self._pending.newest)
        try:
            results = self._sender.send([line.data for _, line in wanted]) if wanted else ()
        except Exception as error:  # an unforeseen exception must not end the thread
            self._postpone(error)
            return
        self._settle(batch, list(zip(wanted, results, strict=True)))

    def _postpone(self, error: Exception) -> None:
        with self._lock:
            is_first = not self._outage.failures
            self._outage.failed(error, time.monotonic())
            self._progress.notify_all()
        if is_first:
            _log.warning("Records wait because sending failed: %s: %s", type(error).__name__, error)

    def _settle(self, batch: Batch, results: Sequence[tuple[NumberedLine, LineResult]]) -> None:
        decided = [(one, result) for one, result in results if not is_line_kept(result)]
        refused = [(one.line.key.decode(), result.error) for one, result in decided if result.error is not None]
        with self._lock:
            self._pending.decide(batch, [one for one, _ in decided])
            self._sent += len(decided) - len(refused)
            self._refused += len(refused)
        if refused:
            id_, error = refused[0]
            _log.warning(
                "The server refused %d records; the first is %s: %s", len(refused), id_, error and error.message
            )
        if len(decided) < len(results):
            self._postpone(APIConnectionError("The server cannot store some records now, or the tenant has no room"))
        else:
            self._remove(batch)

    def _remove(self, batch: Batch) -> None:
        batch.segment.discard()
        with self._lock:
            self._pending.remove(batch)
            was_away = self._outage.failures > 0
            self._outage.ended()
            self._progress.notify_all()
        if was_away:
            _log.info("Sending works again")

    def _end(self) -> None:
        """Reset everything but the counters. The caller holds the lock."""
        in_memory = self._pending.in_memory
        self._dropped += in_memory
        self._unsent_on_disk = self._pending.records - in_memory
        self._pending.release()
        self._pending = self._empty_queue()
        self._thread, self._is_closing, self._outage = None, False, Outage()
        self._progress.notify_all()
