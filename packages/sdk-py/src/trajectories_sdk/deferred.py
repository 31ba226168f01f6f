"""Records whose callers could not take the lock of the background queue in time.

They wait in memory. The next caller that has the lock stores them before its own record, so that
versions of one id stay in order. A thread waits for the lock too, because no caller may come.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable

from trajectories_sdk.spool import Line

_log = logging.getLogger("trajectories_sdk")


class DeferredLines:
    """Lines to store once the lock is free, oldest first. Thread-safe."""

    def __init__(
        self, lock: threading.Lock, keep: Callable[[Line | None], None], *, max_records: int, max_bytes: int
    ) -> None:
        """Args:
        lock: the lock of the queue.
        keep: store a line. It is called with ``lock``, and must not raise. None stands for a record
            that cannot be sent.
        """
        self.dropped = 0
        """Lines that found it full."""
        self._lock = lock
        self._keep = keep
        self._max_records = max_records
        self._max_bytes = max_bytes
        # Held for a few instructions, never during I/O. A signal handler may enqueue while its thread holds it.
        self._own_lock = threading.RLock()
        self._lines: deque[Line | None] = deque()
        self._bytes = 0
        self._thread: threading.Thread | None = None  # waits for the lock
        self._is_full = False

    def __len__(self) -> int:
        return len(self._lines)

    def keys(self) -> set[bytes]:
        """Return the ids of the lines."""
        with self._own_lock:
            return {line.key for line in self._lines if line is not None}

    def add(self, line: Line | None) -> None:
        """Add a line, or drop it if the limits are reached."""
        with self._own_lock:
            is_full = len(self._lines) >= self._max_records or self._bytes + _size(line) > self._max_bytes
            is_first, self._is_full = is_full and not self._is_full, is_full
            if is_full:
                self.dropped += 1
            else:
                self._lines.append(line)
                self._bytes += _size(line)
                self._ensure_thread()
        if is_first:
            _log.warning("New records are dropped: %d wait for one that is being stored", len(self))

    def store(self, deadline: float = math.inf) -> bool:
        """Store the lines. The caller holds the lock of the queue.

        Args:
            deadline: begin no write after this time of ``time.monotonic``.

        Returns:
            Whether none is left.
        """
        while self._lines and time.monotonic() < deadline:
            line = self._lines[0]
            self._keep(line)  # before it is removed: a signal may interrupt this, and a line may be stored twice
            with self._own_lock:
                self._lines.popleft()
                self._bytes -= _size(line)
        return not self._lines

    def _ensure_thread(self) -> None:
        if self._thread is not None:
            return
        self._thread = threading.Thread(target=self._run, name="trajectories-sdk-deferred", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # the limit of threads, or the end of the interpreter: the next caller stores the lines
            self._thread = None

    def _run(self) -> None:
        with self._lock:
            self._thread = None  # a line that comes after the last look needs another thread
            self.store()


def _size(line: Line | None) -> int:
    return 0 if line is None else line.written_bytes
