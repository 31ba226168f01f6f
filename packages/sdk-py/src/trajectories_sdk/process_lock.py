"""Locks that a forked child has anew."""

from __future__ import annotations

import os
import threading
from typing import Final
from weakref import WeakSet


class ProcessLock:
    """A lock that is free in a forked child: the thread that held it does not exist there.

    It guards values of which a child can use each state that a thread may have left.
    """

    def __init__(self, *, is_reentrant: bool = False) -> None:
        self._make = threading.RLock if is_reentrant else threading.Lock
        self.reset_after_fork()
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def reset_after_fork(self) -> None:
        self._lock = self._make()


_locks: Final[WeakSet[ProcessLock]] = WeakSet()
"""Global because the interpreter's hook is. Bounded, because it holds the locks by weak references."""


def _reset_after_fork() -> None:
    for lock in list(_locks):
        lock.reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)
