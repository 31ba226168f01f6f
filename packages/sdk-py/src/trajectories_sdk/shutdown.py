"""Process hooks: flush the queues at exit, and reset them after a fork."""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable
from typing import Final, Protocol
from weakref import WeakSet

from trajectories_sdk.process_lock import ProcessLock

EXIT_TIMEOUT_S: Final = 2.0
"""Longest delay of the process's exit by all its queues together."""


class Flushable(Protocol):
    """A queue that takes part in exit and fork."""

    def flush_at_exit(self, timeout_s: float) -> None: ...

    def reset_after_fork(self) -> None: ...


class _Process:
    """The registered queues and hooks of this process.

    Global because the interpreter's hooks are. Bounded, because it holds the queues by weak
    references.
    """

    def __init__(self) -> None:
        self.lock = ProcessLock()
        self.queues: WeakSet[Flushable] = WeakSet()
        self.is_hooked = False
        self.pid: int | None = None  # of the process that has the multiprocessing finalizer


_process = _Process()


def register(queue: Flushable) -> None:
    """Flush ``queue`` at the exit of its process, and reset it in a forked child."""
    with _process.lock:
        _process.queues.add(queue)
        if not _process.is_hooked:
            _process.is_hooked = True
            atexit.register(flush_all)
            if hasattr(os, "register_at_fork"):
                os.register_at_fork(after_in_child=_reset_after_fork)


def install_hooks() -> None:
    """Install hooks for exits that do not run ``atexit``."""
    with _process.lock:
        _install_hook_in_celery()
        if _process.pid != os.getpid():
            _process.pid = os.getpid()
            _install_hook_in_multiprocessing()


def flush_all(**_: object) -> None:
    """Send pending records within ``EXIT_TIMEOUT_S``. If the server is unavailable, records on disk
    stay there."""
    deadline = time.monotonic() + EXIT_TIMEOUT_S
    for queue in list(_process.queues):
        queue.flush_at_exit(max(0.0, deadline - time.monotonic()))


def _reset_after_fork() -> None:
    for queue in list(_process.queues):
        queue.reset_after_fork()


def _install_hook_in_multiprocessing() -> None:
    """Register a finalizer: forked children leave by ``os._exit``, which skips ``atexit``."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.Finalize(None, flush_all, exitpriority=10)


def _install_hook_in_celery() -> None:
    """Connect to the shutdown signal of prefork children, which leave by ``os._exit``.

    They do so at shutdown and at ``max_tasks_per_child``. The signal is connected when a process
    first uses a queue; a worker has imported Celery by then. This module never imports Celery.
    Thread and solo pools end by ``atexit``.
    """
    signals = sys.modules.get("celery.signals")
    if signals is not None:
        connect: Callable[..., object] = signals.worker_process_shutdown.connect
        connect(flush_all, weak=False, dispatch_uid="trajectories_sdk.shutdown.flush_all")
