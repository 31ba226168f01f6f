"""Records that this process has just archived, with their facets.

``counting`` counts them a little later. To read them back and to parse them again takes longer than
to count them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from trajectories.domain.record import Facets, Record

MAX_BYTES = 8 << 20
"""Bound of the memory, roughly: bodies, and ``_PHASE_BYTES`` for the facets of each phase."""
_PHASE_BYTES = 500

_Place: TypeAlias = tuple[str, int]
"""Tenant and ``seq``."""


class Recent(NamedTuple):
    """A committed version, with the ``seq`` and ``changed`` of its row."""

    seq: int
    changed: int
    record: Record
    facets: Facets

    @property
    def size(self) -> int:
        return len(self.record.body) + _PHASE_BYTES * len(self.facets.phases)


class RecentRecords:
    """Versions by the place of their row, the oldest given up first. Thread-safe."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Drop all versions. After a fork too, where a thread that no longer exists may have the
        lock."""
        self._lock = threading.Lock()
        self._versions: dict[_Place, Recent] = {}
        self.size = 0

    def put(self, versions: Iterable[Recent]) -> None:
        """Keep versions that are committed: a number of ``changed`` that is rolled back is used
        again."""
        with self._lock:
            for one in versions:
                place = one.record.tenant, one.seq
                self._pop(place)
                self._versions[place] = one
                self.size += one.size
            while self.size > MAX_BYTES:
                self._pop(next(iter(self._versions)))

    def take(self, tenant: str, seq: int, changed: int, digest: str) -> Recent | None:
        """Return the version of a row, and drop it; None if this process did not write that row
        last."""
        with self._lock:
            found = self._pop((tenant, seq))
        return found if found and found.changed == changed and found.record.digest == digest else None

    def _pop(self, place: _Place) -> Recent | None:
        found = self._versions.pop(place, None)
        if found:
            self.size -= found.size
        return found


# Global because the threads of a worker write and count the records of the same tenants in turn.
written = RecentRecords()
