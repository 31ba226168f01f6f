"""Sums of choices by what they depend on, kept up to date with the hot cache.

They begin with the archive's sums (``older``), which are read again at most every ``OLDER_S``. A
process changes them by the records of the hot cache that differ from the last read. Records that
leave the hot cache stay in the sums.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain, compress
from operator import attrgetter, is_
from typing import NamedTuple
from weakref import ref

from trajectories.conf import Settings
from trajectories.domain.choice_sums import Part, PhaseCells, add, part_of
from trajectories.domain.record import Position
from trajectories.domain.stats import bucket_of
from trajectories.learning.older import Older, read_older
from trajectories.services.read_shares import ReadShares, Share
from trajectories.storage.store import Store
from trajectories.storage.tenant_cache import Held, HotVersion, Snapshot

OLDER_S = 600.0
"""How long the sums of archived records are used before they are read again."""
MAX_CHOICES = 400_000
"""Choices of a tenant that are counted, those of the newest records first. 10,000 records of 5 phases
have 100,000. A choice takes up to 1,450 bytes, where no two have a phase or a model in common."""
MAX_KEPT = 800_000
"""Choices and sums of all tenants that a process keeps."""


class RunKey(NamedTuple):
    """Where the cost of a run counts."""

    request_type: str | None
    project: str | None
    tags: tuple[str, ...]


class Learned(NamedTuple):
    """The sums of a tenant.

    - ``by_phase``: the cells of each phase group.
    - ``run_costs``: counts of ``stats.bucket_of`` a run's cost in nano-USD, of the hot cache alone.
    - ``runs``: records of the hot cache; older ones are in the cells only.
    - ``is_complete``: every tier that has records of the tenant has answered.
    """

    by_phase: Mapping[str, PhaseCells]
    run_costs: Mapping[RunKey, Counter[int]]
    runs: int
    is_complete: bool


def learned(store: Store, tenant: str) -> Learned:
    """Return the sums of a tenant's choices as of now.

    Raises:
        TooManyReads: 429; the first read of a tenant in a process is long, and as many of this
            tenant are running as it may have.
    """
    snapshot = store.hot_cache.snapshot(tenant)
    return store.part(_TenantsCells).of(tenant).follow(store, tenant, snapshot)


class _TenantsCells:
    """The sums of the tenants that asked last. A part of a store, so a fork begins anew."""

    def __init__(self, conf: Settings) -> None:
        self._lock = threading.Lock()
        self._tenants: OrderedDict[str, _TenantCells] = OrderedDict()

    def of(self, tenant: str) -> _TenantCells:
        with self._lock:
            found = self._tenants.setdefault(tenant, _TenantCells())
            self._tenants.move_to_end(tenant)
            while len(self._tenants) > 1 and sum(one.size for one in self._tenants.values()) > MAX_KEPT:
                self._tenants.popitem(last=False)
            return found


class _Counted(NamedTuple):
    """What a version of a record adds to the sums.

    ``identity`` is an object that only this version has. It is kept so that no other object gets
    its id.
    """

    identity: bytes
    position: Position
    part: Part
    run: RunKey
    cost_bucket: int | None


_identity = attrgetter("packed.packed")


class _TenantCells:
    """The sums of one tenant. Each call of ``follow`` replaces what it returned before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._version: ref[HotVersion] | None = None
        self._held: Sequence[Held] = ()
        self._cells: dict[str, PhaseCells] = {}
        self._run_costs: dict[RunKey, Counter[int]] = defaultdict(Counter)
        self._older_at = float("-inf")
        """When the archive's sums were read; -inf: ``_cells`` has the hot cache alone."""
        self._floor: Position | None = None
        self._has_missed = False
        """Records may have come and left the hot cache since the last read."""
        self._answer: Learned | None = None
        self.parts: dict[int, _Counted] = {}
        self._choices = self._sums = 0
        self._is_cut = False
        """Records of the hot cache are left out."""

    @property
    def size(self) -> int:
        """Return the number of choices, and of sums as of the last time that these began anew."""
        return self._choices + self._sums

    def follow(self, store: Store, tenant: str, snapshot: Snapshot) -> Learned:
        with store.part(ReadShares).of(tenant) as share, share.lock(self._lock):
            is_known = self._version is not None and self._version() is snapshot.version
            if self._answer is None or not is_known or self._is_due(snapshot):
                self._apply(store, tenant, snapshot, share)
                self._version = ref(snapshot.version)
                self._answer = Learned(dict(self._cells), dict(self._run_costs), len(self.parts), True)
            has_older = snapshot.floor is None or self._older_at > float("-inf")
            is_complete = snapshot.is_complete and has_older and not self._is_cut
            return self._answer._replace(is_complete=is_complete)

    def _apply(self, store: Store, tenant: str, snapshot: Snapshot, share: Share) -> None:
        """Count what differs from the last read. All that may fail comes first, so that a failure
        changes no sum."""
        if snapshot.floor is not None and self._held:
            self._has_missed = self._has_missed or snapshot.floor > self._held[-1].position
        gone, new = self._difference(snapshot.held)
        left = [one for held in gone if (one := self.parts.get(id(_identity(held)))) is not None]
        room = MAX_CHOICES - self._choices + sum(len(one.part) for one in left)
        added, is_cut = _newest(share.scan(reversed([*new])), room)
        is_due = self._is_due(snapshot)
        older = read_older(store, tenant, snapshot) if is_due and snapshot.floor is not None else None
        self._held, self._is_cut = snapshot.held, is_cut
        for one in left:
            del self.parts[id(one.identity)]
        self.parts |= {id(counted.identity): counted for counted in added}
        for times, changed in ((-1, left), (1, added)):
            for counted in changed:
                self._choices += times * len(counted.part)
                self._count_cost(counted, times)
        if not (is_due and self._begin_anew(older, snapshot)):
            subtracted = (one.part for one in left if snapshot.floor is None or one.position >= snapshot.floor)
            add(self._cells, chain.from_iterable(subtracted), -1)
            add(self._cells, chain.from_iterable(counted.part for counted in added))

    def _difference(self, held: Sequence[Held]) -> tuple[Iterable[Held], Iterable[Held]]:
        """Return what is gone since the last read, and what is new."""
        old = self._held
        start = bisect_left(old, held[0].position, key=attrgetter("position")) if held else 0
        if not self._is_cut and all(map(is_, old[start:], held)) and len(old) - start <= len(held):
            return old[:start], held[len(old) - start :]  # most changes are at the ends
        ids = list(map(id, map(_identity, held)))
        now = set(ids)
        gone = [one for one in old if id(_identity(one)) not in now]
        return gone, compress(held, (one not in self.parts for one in ids))

    def _is_due(self, snapshot: Snapshot) -> bool:
        """Return whether the archive's sums must be read, or left out again."""
        if snapshot.floor is None:
            return self._older_at > float("-inf")
        return self._is_stale(snapshot) or time.monotonic() >= self._older_at + OLDER_S

    def _is_stale(self, snapshot: Snapshot) -> bool:
        # While the hot cache is being filled, it takes over records that were below it.
        has_grown = self._floor is None or (snapshot.floor is not None and snapshot.floor < self._floor)
        return has_grown or self._has_missed

    def _begin_anew(self, older: Older | None, snapshot: Snapshot) -> bool:
        """Replace the sums; return False to go on with them, while the archive is unavailable."""
        if older is None and snapshot.floor is not None and not self._is_stale(snapshot):
            return False
        held: Collection[_Counted] = self.parts.values()
        if older is None:
            self._cells, self._older_at = {}, float("-inf")
        else:
            self._cells, self._older_at = older.cells, time.monotonic()
            held = [counted for counted in held if counted.position.id in older.apart]
        add(self._cells, chain.from_iterable(counted.part for counted in held))
        self._sums = sum(len(cell) for one in self._cells.values() for cell in one.by_scope.values())
        self._has_missed, self._floor = False, snapshot.floor
        return True

    def _count_cost(self, counted: _Counted, times: int) -> None:
        run, bucket = counted.run, counted.cost_bucket
        if bucket is not None:
            self._run_costs[run][bucket] += times
            if not self._run_costs[run][bucket]:
                del self._run_costs[run][bucket]
            if not self._run_costs[run]:
                del self._run_costs[run]


def _newest(new: Iterable[Held], room: int) -> tuple[list[_Counted], bool]:
    """Return what ``new`` adds, in its order, up to ``room`` choices; and whether that leaves out a
    record."""
    added: list[_Counted] = []
    for held in new:
        counted = _counted(held)
        room -= len(counted.part)
        if room < 0:
            return added, True
        added.append(counted)
    return added, False


def _counted(held: Held) -> _Counted:
    record, facets = held.record, held.facets
    bucket = None if facets.cost_nano_usd is None else bucket_of(facets.cost_nano_usd)
    return _Counted(
        _identity(held),
        held.position,
        part_of(facets, record.body, record.recorded_at_us),
        RunKey(facets.request_type, facets.project, facets.tags),
        bucket,
    )
