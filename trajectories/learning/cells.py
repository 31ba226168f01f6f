"""Sums of choices by what they depend on, kept up to date with the hot cache.

The newest records of a tenant, those in the hot cache, are summed by request type, project, model,
the model that failed before, and week. A process keeps the sums and changes them by the records that
differ from the last read. Older records come from the archive's roll-ups, which know neither project
nor attempts (``older``). They are read at most every ``OLDER_S``; records that leave the hot cache
meanwhile stay in the sums.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterator, Mapping
from itertools import compress
from operator import attrgetter
from typing import NamedTuple, TypeAlias
from weakref import ref

from trajectories.conf import Settings
from trajectories.domain.record import Facets, Position
from trajectories.domain.stats import bucket_of, bucket_start
from trajectories.learning.choices import choices_of
from trajectories.learning.older import older_cells
from trajectories.learning.sums import Cells as Cells
from trajectories.learning.sums import Key as Key
from trajectories.learning.sums import Sums as Sums
from trajectories.services.read_shares import ReadShares, Share
from trajectories.storage.store import Store
from trajectories.storage.tenant_cache import Held, HotVersion, Snapshot

OLDER_S = 600.0
"""How long the sums of archived records are used before they are read again."""
MAX_LEFT = 20_000
"""Records that may leave the hot cache before the sums of archived records are read again."""
MAX_RECORDS = 200_000
"""Maximum records of all tenants whose sums a process keeps; about 300 bytes each."""


class RunKey(NamedTuple):
    """Where the cost of a run counts."""

    request_type: str | None
    project: str | None
    tags: tuple[str, ...]


_Part: TypeAlias = tuple[tuple[Key, Sums], ...]


class Learned(NamedTuple):
    """The sums of a tenant.

    - ``by_phase``: the cells of each phase group.
    - ``run_costs``: counts of ``stats.bucket_of`` a run's cost in nano-USD.
    - ``runs``: records that were summed one by one; older ones are in the cells only.
    - ``is_complete``: every tier that has records of the tenant has answered.
    """

    by_phase: Mapping[str, Cells]
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
            while len(self._tenants) > 1 and sum(len(one.parts) for one in self._tenants.values()) > MAX_RECORDS:
                self._tenants.popitem(last=False)
            return found


class _Counted(NamedTuple):
    """What a version of a record adds to the sums.

    ``identity`` is an object that only this version has. It is kept so that no other object gets its id.
    """

    identity: bytes
    position: Position
    part: _Part
    run: RunKey
    cost_bucket: int | None


_identity = attrgetter("packed.packed")


class _TenantCells:
    """The sums of one tenant. Each call of ``follow`` replaces what it returned before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._version: ref[HotVersion] | None = None
        self._cells: dict[str, dict[Key, Sums]] = defaultdict(dict)
        self._run_costs: dict[RunKey, Counter[int]] = defaultdict(Counter)
        self._left: list[_Counted] = []
        """Records that left the hot cache since older ones were read; they are in the sums."""
        self._older: dict[str, dict[Key, Sums]] = {}
        self._older_at = float("-inf")
        self._floor: Position | None = None
        self._newest: Position | None = None
        self._has_missed = False
        """Records may have come and left the hot cache since the last read."""
        self._answer: Learned | None = None
        self.parts: dict[int, _Counted] = {}

    def follow(self, store: Store, tenant: str, snapshot: Snapshot) -> Learned:
        with self._lock:
            is_known = self._version is not None and self._version() is snapshot.version
            if self._answer is None or not is_known or self._is_due(snapshot):
                with store.part(ReadShares).of(tenant) as share:
                    self._apply(share, snapshot)
                    self._read_older(store, tenant, snapshot, share)
                self._version = ref(snapshot.version)
                self._answer = Learned(self._merged(), dict(self._run_costs), len(self.parts), True)
            is_complete = snapshot.is_complete and (snapshot.floor is None or self._older_at > float("-inf"))
            return self._answer._replace(is_complete=is_complete)

    def _apply(self, share: Share, snapshot: Snapshot) -> None:
        """Count what differs from the last snapshot. Versions that are in both cost no Python code."""
        if snapshot.floor is not None and self._newest is not None:
            self._has_missed = self._has_missed or snapshot.floor > self._newest
        self._newest = snapshot.held[-1].position if snapshot.held else self._newest
        identities = list(map(_identity, snapshot.held))
        ids = list(map(id, identities))
        now = set(ids)
        added = now.difference(self.parts)
        for gone in set(self.parts).difference(now):
            counted = self.parts.pop(gone)
            if snapshot.floor is not None and counted.position < snapshot.floor:
                self._left.append(counted)
            else:
                self._count(counted, -1)
        new = compress(snapshot.held, map(added.__contains__, ids))
        for held in share.scan(new):
            counted = _counted(held)
            self.parts[id(counted.identity)] = counted
            self._count(counted, 1)

    def _count(self, counted: _Counted, times: int) -> None:
        for key, sums in counted.part:
            cells = self._cells[key.phase]
            cells[key] = cells.get(key, Sums()).plus(sums, times)
            if not cells[key].choices:
                del cells[key]
        run, bucket = counted.run, counted.cost_bucket
        if bucket is not None:
            self._run_costs[run][bucket] += times
            if not self._run_costs[run][bucket]:
                del self._run_costs[run][bucket]
            if not self._run_costs[run]:
                del self._run_costs[run]

    def _merged(self) -> dict[str, Cells]:
        phases = self._cells.keys() | self._older.keys()
        merged = {phase: self._cells.get(phase, {}) | self._older.get(phase, {}) for phase in phases}
        return {phase: cells for phase, cells in merged.items() if cells}

    def _is_due(self, snapshot: Snapshot) -> bool:
        """Return whether the records below the hot cache must be summed anew."""
        if snapshot.floor is None:
            return bool(self._older or self._left)
        # While the hot cache is being filled, it takes over records that were below it.
        has_grown = self._floor is None or snapshot.floor < self._floor
        return (
            has_grown or self._has_missed or len(self._left) > MAX_LEFT or time.monotonic() >= self._older_at + OLDER_S
        )

    def _read_older(self, store: Store, tenant: str, snapshot: Snapshot, share: Share) -> None:
        if not self._is_due(snapshot):
            return
        older = {} if snapshot.floor is None else older_cells(store, tenant, snapshot, share)
        if older is None:
            self._forget_left(MAX_LEFT)  # a bound of memory, while a tier is unavailable
            return
        self._forget_left(0)
        self._has_missed = False
        self._older, self._floor, self._older_at = older, snapshot.floor, time.monotonic()

    def _forget_left(self, kept: int) -> None:
        """Take all but the last ``kept`` records that left the hot cache out of the sums."""
        end = max(0, len(self._left) - kept)
        for counted in self._left[:end]:
            self._count(counted, -1)
        del self._left[:end]


def _counted(held: Held) -> _Counted:
    record, facets = held.record, held.facets
    bucket = None if facets.cost_nano_usd is None else bucket_of(facets.cost_nano_usd)
    return _Counted(
        _identity(held),
        held.position,
        tuple(_part(facets, record.body, record.recorded_at_us)),
        RunKey(facets.request_type, facets.project, facets.tags),
        bucket,
    )


def _part(facets: Facets, body: bytes, recorded_at_us: int) -> Iterator[tuple[Key, Sums]]:
    week = bucket_start(recorded_at_us, "week")
    for choice in choices_of(facets, body):
        key = Key(
            choice.kind,
            facets.request_type,
            facets.project,
            choice.phase,
            choice.model,
            choice.after,
            week,
            choice.advice,
        )
        cost, tokens = choice.cost_nano_usd, (choice.input_tokens, choice.output_tokens)
        yield (
            key,
            Sums(
                choices=1,
                known=int(choice.score is not None),
                score=choice.score or 0,
                costs=int(cost is not None),
                cost_nano_usd=cost or 0,
                metered=int(None not in tokens),
                input_tokens=0 if None in tokens else tokens[0] or 0,
                output_tokens=0 if None in tokens else tokens[1] or 0,
            ),
        )
