"""The newest runs of a tenant, up to a bound of what they cost to read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from trajectories.domain.query import Query
from trajectories.domain.record import Position
from trajectories.services import reads
from trajectories.services.read_shares import Share
from trajectories.storage.store import Store
from trajectories.training.run import Run

_PAGE: Final = 250
"""Small, since a bound may end the reading within a page."""


class NewestRuns:
    """The newest runs that match a query.

    - ``count``: how many of them were read.
    - ``is_complete``: false if older ones were left out, or a tier was unavailable.
    """

    def __init__(
        self,
        store: Store,
        tenant: str,
        query: Query,
        *,
        max_runs: int,
        max_phases: int | None = None,
        max_bytes: int | None = None,
    ) -> None:
        """Args:
        max_runs: how many to read at most.
        max_phases, max_bytes: the run with which their phases, or the bytes of their bodies, reach
            this is the last one; None: no bound.
        """
        self._store, self._tenant, self._query, self._max_runs = store, tenant, query, max_runs
        self._max_phases = math.inf if max_phases is None else max_phases
        self._max_bytes = math.inf if max_bytes is None else max_bytes
        self.count, self.is_complete = 0, True

    def read(self, share: Share) -> Iterator[Run]:
        """Yield the runs, once.

        Raises:
            ArchiveUnavailable, TooManyReads: as ``reads.list_``.
        """
        position: Position | None = None
        phases = size = 0
        while self.count < self._max_runs:
            limit = min(_PAGE, self._max_runs - self.count)
            page = reads.list_(self._store, self._tenant, self._query, after=position, limit=limit, share=share)
            position = page.next_position
            self.is_complete = self.is_complete and page.is_complete
            for number, record in enumerate(share.scan(page.records), 1):
                run = Run(record)
                yield run
                self.count += 1
                phases, size = phases + len(run.fields["phases"]), size + len(record.body)
                if phases >= self._max_phases or size >= self._max_bytes:
                    has_more = position is not None or number < len(page.records)
                    self.is_complete = self.is_complete and not has_more
                    return
            if position is None:
                return
        self.is_complete = False
