"""The background queue: records are kept at once, and sent by a thread.

What waits is on disk (``spool.py``) before ``enqueue`` returns, and the thread sends from there. So queue and spool are one
thing, SIGTERM needs no handler, and what a process leaves, however it ends, is sent by the next one that uses the same
directory with the same server and key. Where the directory cannot be written, records wait in memory.

A full queue drops what comes. What it has is a promise already, each id's newest version among it; taking that back would
rewrite files while the server is away, and by then the beginning of an outage is as good as its end.
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

import httpx2

from trajectory_sdk import shutdown
from trajectory_sdk.config import Config
from trajectory_sdk.delivery import Outage, Sender
from trajectory_sdk.errors import APIConnectionError
from trajectory_sdk.models import LineResult
from trajectory_sdk.pending_queue import Batch, NumberedLine, PendingQueue
from trajectory_sdk.recording import AnyTrajectory, encoded, fields_of
from trajectory_sdk.retries import RETRIED
from trajectory_sdk.spool import Line, Spool

MAX_RECORDS: Final = 10_000
MAX_BYTES: Final = 64 * 1024 * 1024
"""Of a directory, so what others have left counts; in memory of a process."""
MAX_WAIT_S: Final = 0.1
"""The longest that ``enqueue`` waits for other threads; a record that cannot be kept by then is dropped."""
LINGER_S: Final = 1.0
"""How long the first record of a batch waits for others."""
IDLE_S: Final = 30.0
"""After which the thread ends; the next record starts another."""
MAX_TAKEN_OVER: Final = 16
"""Segments of ended processes that are held at a time; each is an open file."""
CLOSE_TIMEOUT_S: Final = 5.0

_log = logging.getLogger("trajectory_sdk")


@dataclass(frozen=True, slots=True)
class Counters:
    """What became of the records of this process, and of those that it has taken over from others.

    ``sent``: the server has taken them. ``waiting``: not decided yet; versions of one id count once. ``spooled``: those of
    ``waiting`` that are on disk. ``dropped``: lost, because the queue was full or a file could not be read. ``refused``: bad,
    says the server, or nothing in JSON stands for a value.
    """

    sent: int
    waiting: int
    spooled: int
    dropped: int
    refused: int


class BatchSender(Protocol):
    """``delivery.Sender``."""

    def send(self, bodies: Sequence[bytes], /) -> Sequence[LineResult]: ...

    def close(self) -> None: ...


class _Scan(Enum):
    """Looking for what other processes have left."""

    WANTED = auto()
    RUNNING = auto()
    DONE = auto()


class BackgroundQueue:
    """Keeps records and sends them; one for a client, made on its first use. Safe for threads, and after a fork.

    ``enqueue`` never raises. It waits at most ``MAX_WAIT_S`` for other threads, and for one ``write`` to a file of this machine.
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
        self._linger_until = 0.0
        self._sent = self._dropped = self._refused = 0
        self._unsent_on_disk = 0

    def _empty_queue(self) -> PendingQueue:
        return PendingQueue(self._spool, max_records=self._max_records, max_bytes=self._max_bytes)

    # --- For callers

    @property
    def counters(self) -> Counters:
        """As of now."""
        with self._lock:
            waiting = self._pending.records + self._unsent_on_disk
            return Counters(self._sent, waiting, waiting - self._pending.in_memory, self._dropped, self._refused)

    def enqueue(self, trajectory: AnyTrajectory) -> UUID:
        """Keep a record to be sent; the id that it has or gets.

        Not promised: that it arrives. It may be bad, or the queue full; ``counters`` tell, and the log ``trajectory_sdk``.
        """
        id_ = uuid4()
        line: Line | None = None
        try:
            fields = fields_of(trajectory)
            id_ = UUID(str(fields["id"]))
            line = Line(str(id_).encode(), encoded(fields))
        except Exception as error:  # whatever a caller's own values raise
            _log.warning("Trajectory %s cannot be sent: %s: %s", id_, type(error).__name__, error)
        if not self._lock.acquire(timeout=MAX_WAIT_S):
            self._dropped += 1  # without the lock, so two at once may count as one
            return id_
        try:
            if line is None:
                self._refused += 1
            else:
                self._keep(line)
        except Exception:
            self._dropped += 1
            _log.exception("Trajectory %s is dropped", id_)
        finally:
            self._lock.release()
        return id_

    def flush(self, timeout_s: float = CLOSE_TIMEOUT_S) -> bool:
        """Have everything sent that waits now, what other processes have left included.

        Returns:
            Whether all of it is decided: sent, or refused. If not, it goes on waiting.
        """
        return self._flush(timeout_s, is_final=False)

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Flush and end the thread. Where the server is away this takes one attempt, and what is on disk stays there.

        A record that comes later opens the queue again.
        """
        deadline = time.monotonic() + timeout_s
        thread = self._thread
        if thread is None:
            return
        self._flush(timeout_s, is_final=True)
        with self._lock:
            self._is_closing = True
            self._work.notify()
        thread.join(max(0.0, deadline - time.monotonic()))

    # --- For the end of the process, and its forks

    def flush_at_exit(self, timeout_s: float) -> None:
        """As ``close``, but the thread may go on: other code may record later than this."""
        if self._thread is not None:
            self._flush(timeout_s, is_final=True)

    def reset_after_fork(self) -> None:
        """In the child of a fork: what waits is the parent's, and so are its locks, which may be held."""
        self._pending.release()
        self._begin()

    # --- With the lock held

    def _keep(self, line: Line) -> None:
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
        thread = threading.Thread(target=self._run, name="trajectory-sdk", daemon=True)
        self._thread, self._unsent_on_disk, self._scan = thread, 0, _Scan.WANTED
        shutdown.install_hooks()
        try:
            thread.start()
        except RuntimeError:  # the interpreter ends; what is on disk is sent by the next process
            self._thread = None

    # --- PendingQueue for the thread

    def _flush(self, timeout_s: float, *, is_final: bool) -> bool:
        """Args: is_final: the caller goes, so once an attempt has failed, what is on disk may as well stay there."""
        deadline = time.monotonic() + timeout_s
        if not self._lock.acquire(timeout=timeout_s):
            return False
        self._flushing += 1
        try:
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
            _log.exception("The background queue has stopped; the next record starts it again")
            with self._lock:
                self._thread = None
                self._progress.notify_all()
        else:
            self._sender.close()

    def _wait_for_work(self) -> bool:
        """Whether there is some; if not, the thread is to end, and the queue is left as it was before its first record."""
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
        """When the next request is due; None: there is nothing to send."""
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
        except OSError:  # told when a record is to be written there
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
            _log.exception("Records that waited cannot be read, and are dropped")
            with self._lock:
                self._dropped += self._pending.drop(batch)
            self._remove(batch)
            return
        with self._lock:
            wanted = batch.wanted(lines, self._pending.newest)
        try:
            results = self._sender.send([line.data for _, line in wanted]) if wanted else ()
        except Exception as error:  # one that nobody thought of must not end the thread
            self._postpone(error)
            return
        self._settle(batch, list(zip(wanted, results, strict=True)))

    def _postpone(self, error: Exception) -> None:
        with self._lock:
            is_first = not self._outage.failures
            self._outage.failed(error, time.monotonic())
            self._progress.notify_all()
        if is_first:
            _log.warning("Records wait, since they cannot be sent: %s: %s", type(error).__name__, error)

    def _settle(self, batch: Batch, results: Sequence[tuple[NumberedLine, LineResult]]) -> None:
        decided = [(one, result) for one, result in results if result.status not in RETRIED]
        refused = [(one.line.key.decode(), result.error) for one, result in decided if result.error is not None]
        with self._lock:
            self._pending.decide(batch, [one for one, _ in decided])
            self._sent += len(decided) - len(refused)
            self._refused += len(refused)
        if refused:
            id_, error = refused[0]
            _log.warning("%d records were refused; the first is %s: %s", len(refused), id_, error and error.message)
        if len(decided) < len(results):
            self._postpone(APIConnectionError("A part of the server that some records need is away"))
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
            _log.info("Records are sent again")

    def _end(self) -> None:
        """Be as before the first record, but for the counters. With the lock held."""
        in_memory = self._pending.in_memory
        self._dropped += in_memory
        self._unsent_on_disk = self._pending.records - in_memory
        self._pending.release()
        self._pending = self._empty_queue()
        self._thread, self._is_closing, self._outage = None, False, Outage()
        self._progress.notify_all()


class Background:
    """The queue of a client, made on its first use."""

    def __init__(
        self, config: Config, transport: httpx2.BaseTransport | httpx2.AsyncBaseTransport | None, spool: Spool
    ) -> None:
        self._config = config
        self._transport = transport
        self._spool = spool
        self._queues: list[BackgroundQueue] = []

    @property
    def queue(self) -> BackgroundQueue:
        # Without a lock, which a thread could hold at a fork: two that are first make one each, and both use the first.
        if not self._queues:
            self._queues.append(self._make())
        return self._queues[0]

    def close(self) -> None:
        if self._queues:
            self._queues[0].close()

    def _make(self) -> BackgroundQueue:
        if self._transport is not None and not isinstance(self._transport, httpx2.BaseTransport):
            raise TypeError("The background queue has a thread, and this transport only awaits; use background=False")
        return BackgroundQueue(Sender(self._config, self._transport), self._spool)
