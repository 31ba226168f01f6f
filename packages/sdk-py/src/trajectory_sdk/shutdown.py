"""When a process ends or forks: the queues of this process flush, or begin anew."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol
from weakref import WeakSet

EXIT_TIMEOUT_S: Final = 2.0
"""How long all queues of a process together may hold up its end."""


class Flushable(Protocol):
    """A queue, as far as the end of a process is concerned."""

    def flush_at_exit(self, timeout_s: float) -> None: ...

    def reset_after_fork(self) -> None: ...


class _Process:
    """What has to be told of the end of this process, and of its forks.

    Global, as the hooks of the interpreter are. Bounded by the queues that live, since it does not keep them.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.queues: WeakSet[Flushable] = WeakSet()
        self.is_hooked = False
        self.pid: int | None = None  # of the process whose end multiprocessing tells of


_process = _Process()


def register(queue: Flushable) -> None:
    """Flush ``queue`` when its process ends, and tell it in the child of a fork."""
    with _process.lock:
        _process.queues.add(queue)
        if not _process.is_hooked:
            _process.is_hooked = True
            atexit.register(flush_all)
            if hasattr(os, "register_at_fork"):
                os.register_at_fork(after_in_child=_reset_after_fork)


def install_hooks() -> None:
    """Be told too of those ends of this process of which ``atexit`` is not."""
    with _process.lock:
        _install_hook_in_celery()
        if _process.pid != os.getpid():
            _process.pid = os.getpid()
            _install_hook_in_multiprocessing()


def flush_all(**_: object) -> None:
    """Send what waits, within ``EXIT_TIMEOUT_S``; what is on disk stays there where the server is away."""
    deadline = time.monotonic() + EXIT_TIMEOUT_S
    for queue in list(_process.queues):
        queue.flush_at_exit(max(0.0, deadline - time.monotonic()))


def _reset_after_fork() -> None:
    _process.lock = threading.Lock()
    for queue in list(_process.queues):
        queue.reset_after_fork()


def _install_hook_in_multiprocessing() -> None:
    """Its forked children leave by ``os._exit``, without ``atexit``; they run finalizers that were registered in them."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.Finalize(None, flush_all, exitpriority=10)


def _install_hook_in_celery() -> None:
    """Children of a prefork pool leave by ``os._exit`` too, at shutdown and at ``max_tasks_per_child``; a signal goes before.

    Connected when a queue is first used in a process that has Celery imported, as each worker has by then, so nobody must
    think of it; Celery itself is never imported for this. Pools of threads, and ``solo``, end by ``atexit``.
    """
    signals = sys.modules.get("celery.signals")
    if signals is not None:
        connect: Callable[..., object] = signals.worker_process_shutdown.connect
        connect(flush_all, weak=False, dispatch_uid="trajectory_sdk.shutdown.flush_all")
