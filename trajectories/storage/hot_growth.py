"""Fill caches whole in the background, after their first read was answered from the newest records."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from django.db import connections

from trajectories import test_environment

logger = logging.getLogger(__name__)

DELAY_S = 1.0
"""Reads that follow the first one at once are not slowed down."""


class HotGrowth:
    """A thread that runs while tenants wait for it, and fills one after the other. Thread-safe.

    Tests see no thread: below the floor the archive answers, so answers are the same without it.
    """

    def __init__(self, fill: Callable[[str], object]) -> None:
        self._fill = fill
        self._lock = threading.Lock()
        self._waiting: dict[str, None] = {}
        self._is_running = False

    def request(self, tenant: str) -> None:
        """Fill the cache of ``tenant`` later."""
        if test_environment.is_active():
            return
        with self._lock:
            self._waiting[tenant] = None
            if not self._is_running:
                self._is_running = True
                threading.Thread(target=self._run, name="trajectories-hot-growth", daemon=True).start()

    def _run(self) -> None:
        try:
            while True:
                time.sleep(DELAY_S)
                with self._lock:
                    if not self._waiting:
                        self._is_running = False
                        return
                    tenant = next(iter(self._waiting))
                    del self._waiting[tenant]
                self.fill(tenant)
        finally:
            connections.close_all()

    def fill(self, tenant: str) -> None:
        try:
            self._fill(tenant)
        except Exception:
            # Reads go on with what the cache has, and the archive.
            logger.exception("The hot cache of tenant %s keeps its newest records only.", tenant)
