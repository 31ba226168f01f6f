"""The records that selections lack yet, in the memory of a process that answers stats."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from trajectories.conf import Settings
from trajectories.domain.record import Facets
from trajectories.domain.stats import Summary
from trajectories.models import Tenant, Tombstone, Trajectory
from trajectories.storage.rollup_rows import Selection
from trajectories.storage.rollups import Signature, archived, selections_of

MAX_PHASES = 100_000
"""Phases and records of all tenants that a process keeps, with their facets: about 600 bytes each. A
record may have 200 phases."""


class Tails:
    """The tails of the tenants whose selections were read last. Thread-safe. A part of a store."""

    def __init__(self, conf: Settings) -> None:
        self._lock = threading.Lock()
        self._tails: OrderedDict[str, Tail] = OrderedDict()

    def of(self, tenant: str) -> Tail:
        with self._lock:
            found = self._tails.setdefault(tenant, Tail())
            self._tails.move_to_end(tenant)
            # The last one too: its caller has it, and the next one reads the records anew.
            while self._tails and sum(tail.size for tail in self._tails.values()) > MAX_PHASES:
                self._tails.popitem(last=False)
            return found


class _Counted(NamedTuple):
    recorded_at_us: int
    facets: Facets


class Tail:
    """The records of one tenant after ``Tenant.selected_seq``, with their sums by signature.

    ``summary`` reads the records that changed since its last call, which the numbers of the
    tenant's changes show. If one of these numbers has no row, it reads all records anew.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clear()

    def summary(self, row: Tenant, selection: Selection, alias: str) -> Summary:
        """Return the sums of the records after ``row.selected_seq`` that are in ``selection``.

        Args:
            row: the tenant, as the transaction of the caller sees it.
        """
        with self._lock:
            self._follow(row, alias)
            found = Summary()
            for signature, part in self._sums.items():
                if selection in selections_of(signature):
                    found.merge(part)
            return found

    def _clear(self) -> None:
        self._changed = self._selected_seq = self.size = 0
        self._records: dict[int, _Counted] = {}
        self._sums: defaultdict[Signature, Summary] = defaultdict(Summary)
        self._uses: Counter[Signature] = Counter()

    def _follow(self, row: Tenant, alias: str) -> None:
        later = Trajectory.objects.using(alias).filter(tenant=row.pk, seq__gt=row.selected_seq)
        if row.last_changed != self._changed or row.selected_seq < self._selected_seq:
            changed = self._changes(row, alias) if row.selected_seq >= self._selected_seq else None
            if changed is None:
                self._clear()
            else:
                later = later.filter(changed__gt=self._changed)
                self._drop(changed)
            for seq, recorded_at_us, facets in archived(later, alias):
                self._records[seq] = _Counted(recorded_at_us, facets)
                self._count(self._records[seq], 1)
        if row.selected_seq != self._selected_seq:
            self._drop([seq for seq in self._records if seq <= row.selected_seq])
        self._changed, self._selected_seq = row.last_changed, row.selected_seq

    def _changes(self, row: Tenant, alias: str) -> list[int | None] | None:
        """Return the places of records that were changed or deleted since; None if these cannot be
        known.

        That is so after two changes of one record, and after a rebuild of the roll-ups, whose
        number no row has. A snapshot older than this tail has no changes since.
        """
        since = row.last_changed - self._changed
        if not self._changed or since < 0:
            return None
        found: list[int | None] = []
        for model in (Trajectory, Tombstone):
            rows = model.objects.using(alias).filter(tenant=row.pk, changed__gt=self._changed)
            found += rows.values_list("seq", flat=True)[: since + 1]
        return found if len(found) == since else None

    def _drop(self, seqs: Iterable[int | None]) -> None:
        for seq in seqs:
            if seq is not None and (counted := self._records.pop(seq, None)):
                self._count(counted, -1)

    def _count(self, counted: _Counted, times: int) -> None:
        self.size += times * (1 + len(counted.facets.phases))
        signature = frozenset(phase.cell for phase in counted.facets.phases)
        self._sums[signature].add(counted.facets, counted.recorded_at_us, times=times)
        self._uses[signature] += times
        if not self._uses[signature]:
            del self._uses[signature], self._sums[signature]
