"""HTTP connections of one process."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

Http = TypeVar("Http")


class Connections(Generic[Http]):
    """A pool of connections that a forked child does not share: two processes on one connection would read each other's answers.

    Without a lock, which a thread could hold at the fork; two threads that are first in a child may make a pool each, and one
    of them is kept.
    """

    def __init__(self, make: Callable[[], Http]) -> None:
        self._make = make
        self._pid = os.getpid()
        self._http = make()
        self._inherited: list[Http] = []

    def __call__(self) -> Http:
        if self._pid != os.getpid():
            # Kept, since closing it would say goodbye on the parent's connections.
            self._inherited.append(self._http)
            self._http = self._make()
            self._pid = os.getpid()
        return self._http
