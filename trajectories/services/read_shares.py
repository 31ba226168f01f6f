"""A fair share of a process for the reads of each tenant.

The threads of a process have one interpreter lock. A few long reads of one tenant would delay every
short read of the others, and take all threads. So a read that turns out to be long needs one of the
tenant's shares to go on. Short reads need none.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from trajectories.conf import Settings
from trajectories.exceptions import TooManyReads

LOCK_S = 0.05
"""How long a read may wait for another one of its tenant without a share."""
SHORT_CPU_S = 0.005
"""CPU time that a read may use without a share."""
WAIT_S = 1.0
PAUSE_EVERY_S = 0.002
_PAUSE_S = 0.00005
"""Gives the interpreter lock to a waiting thread, which would otherwise take it after 5 ms."""
T = TypeVar("T")


class ReadShares:
    """The shares of all tenants of one process. Thread-safe. A part of a store."""

    def __init__(self, conf: Settings) -> None:
        self._limit = conf.long_reads_per_tenant
        self._changed = threading.Condition()
        self._held: dict[str, int] = defaultdict(int)
        self._waiting: set[str] = set()

    def of(self, tenant: str) -> Share:
        return Share(self, tenant)

    def take(self, tenant: str) -> None:
        """Take a share; wait up to WAIT_S if all are taken and no other read of the tenant waits.

        Raises:
            TooManyReads: 429.
        """
        if not self._limit:
            return
        with self._changed:
            if self._held[tenant] >= self._limit:
                self._wait(tenant)
            self._held[tenant] += 1

    def give_back(self, tenant: str) -> None:
        if not self._limit:
            return
        with self._changed:
            self._held[tenant] -= 1
            if not self._held[tenant]:
                del self._held[tenant]
            self._changed.notify_all()

    def _wait(self, tenant: str) -> None:
        # One waits: waiting reads hold threads that other tenants need.
        is_free = False
        if tenant not in self._waiting:
            self._waiting.add(tenant)
            is_free = self._changed.wait_for(lambda: self._held[tenant] < self._limit, WAIT_S)
            self._waiting.discard(tenant)
        if not is_free:
            raise TooManyReads(
                f"{self._limit} long reads or changes of large records of this tenant are already running. Send fewer"
                " at once, or name filters of a read that match more of the newest records."
            )


class Share:
    """One read's part of a tenant's share: nothing until it turns out to be long."""

    def __init__(self, shares: ReadShares, tenant: str) -> None:
        self._shares, self._tenant, self._is_held = shares, tenant, False

    def take(self) -> None:
        """Take a share, unless this read has one.

        Raises:
            TooManyReads: 429.
        """
        if not self._is_held:
            self._shares.take(self._tenant)
            self._is_held = True

    def scan(self, records: Iterable[T]) -> Iterator[T]:
        """Yield ``records``. Let other threads run at times; take a share once the work is long.

        Raises:
            TooManyReads: 429.
        """
        began_s, pause_at = time.thread_time(), time.monotonic() + PAUSE_EVERY_S
        for record in records:
            yield record
            if time.monotonic() >= pause_at:
                if time.thread_time() - began_s >= SHORT_CPU_S:
                    self.take()
                time.sleep(_PAUSE_S)
                pause_at = time.monotonic() + PAUSE_EVERY_S

    @contextmanager
    def lock(self, lock: threading.Lock) -> Iterator[None]:
        """Hold a lock of the tenant. A read that waits for it long takes a share first, as waiting
        reads hold threads that other tenants need.

        Raises:
            TooManyReads: 429.
        """
        if not lock.acquire(timeout=LOCK_S):
            self.take()
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def give_back(self) -> None:
        if self._is_held:
            self._is_held = False
            self._shares.give_back(self._tenant)

    def __enter__(self) -> Share:
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()

    def __del__(self) -> None:
        # A stream that is dropped before its first line never enters its ``finally``.
        self.give_back()
