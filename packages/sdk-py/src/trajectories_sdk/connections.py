"""HTTP connections of one process."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

Http = TypeVar("Http")


class Connections(Generic[Http]):
    """A connection pool that a forked child does not share.

    Two processes on one connection would read each other's responses. It has no lock, since a
    thread could hold it during a fork. Two first threads of a child may both create a pool; one is
    kept.
    """

    def __init__(self, make: Callable[[], Http]) -> None:
        self._make = make
        self._pid = os.getpid()
        self._http = make()
        self._inherited: list[Http] = []

    def __call__(self) -> Http:
        if self._pid != os.getpid():
            # Closing the old pool would shut down the parent's connections.
            self._inherited.append(self._http)
            self._http = self._make()
            self._pid = os.getpid()
        return self._http
