"""Sums of choices by what they depend on, kept up to date with the hot cache.

The newest records of a tenant, those in the hot cache, are summed by request type, project, model,
the model that failed before, and week. A process keeps the sums and changes them by the records that
differ from the last read. Older records come from the archive's stats, which know neither project
nor attempts; they are read at most every ``OLDER_S``.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, TypeAlias
from uuid import UUID
from weakref import ref

from trajectories.conf import Settings
from trajectories.domain.query import Query
from trajectories.domain.record import Facets
from trajectories.domain.stats import MEASURES, PHASE_TALLIES, Summary, bucket_of, bucket_start
from trajectories.learning.choices import MODEL, RAN, SKIPPED, choices_of
from trajectories.services.read_shares import ReadShares
from trajectories.storage import archive_reads
from trajectories.storage.archive_errors import ArchiveError
from trajectories.storage.archive_snapshot import snapshot as archive_snapshot
from trajectories.storage.store import Store
from trajectories.storage.tenant_cache import Held, HotVersion, Snapshot

OLDER_S = 600.0
"""How long the sums of archived records are used before they are read again."""
MAX_RECORDS = 200_000
"""Maximum records of all tenants whose sums a process keeps; about 300 bytes each."""
_OLDER = "\x00older"
"""Stands for the project of records below the hot cache, which their sums do not have."""


class Key(NamedTuple):
    """Where a choice counts. ``week``: its start, in microseconds since 1970; 0 for older records."""

    kind: str
    request_type: str | None
    project: str | None
    phase: str
    model: str | None
    after: str | None
    week: int
    advice: str | None = None


class Sums(NamedTuple):
    """Sums over choices. ``score`` is twice the reward; ``known`` counts those that have one."""

    choices: int = 0
    known: int = 0
    score: int = 0
    costs: int = 0
    cost_nano_usd: int = 0
    metered: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def plus(self, other: Sums, times: int = 1) -> Sums:
        return Sums(*(a + times * b for a, b in zip(self, other, strict=True)))


class RunKey(NamedTuple):
    """Where the cost of a run counts."""

    request_type: str | None
    project: str | None
    tags: tuple[str, ...]


Cells: TypeAlias = Mapping[Key, Sums]
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


class _TenantCells:
    """The sums of one tenant. Each call of ``follow`` replaces what it returned before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._version: ref[HotVersion] | None = None
        self._cells: dict[str, dict[Key, Sums]] = defaultdict(dict)
        self._run_costs: dict[RunKey, Counter[int]] = defaultdict(Counter)
        self._older: dict[str, dict[Key, Sums]] = {}
        self._older_at = float("-inf")
        self._answer: Learned | None = None
        self.parts: dict[UUID, tuple[str, int, _Part, RunKey, int | None]] = {}

    def follow(self, store: Store, tenant: str, snapshot: Snapshot) -> Learned:
        with self._lock:
            is_known = self._version is not None and self._version() is snapshot.version
            has_older = self._read_older(store, tenant, snapshot)
            if self._answer is None or not is_known or has_older:
                with store.part(ReadShares).of(tenant) as share:
                    self._apply(share.scan(snapshot.held), snapshot)
                self._version = ref(snapshot.version)
                self._answer = Learned(self._merged(), dict(self._run_costs), len(self.parts), True)
            is_complete = snapshot.is_complete and (snapshot.floor is None or self._older_at > float("-inf"))
            return self._answer._replace(is_complete=is_complete)

    def _apply(self, held: Iterable[Held], snapshot: Snapshot) -> None:
        for one in held:
            known = self.parts.get(one.record.id)
            if known and known[0] == one.record.digest and known[1] == one.record.recorded_at_us:
                continue
            if known:
                self._remove(one.record.id)
            self._add(one)
        for gone in [id_ for id_ in self.parts if id_ not in snapshot.by_id]:
            self._remove(gone)

    def _add(self, one: Held) -> None:
        record, facets = one.record, one.facets
        part = tuple(_part(facets, record.body, record.recorded_at_us))
        run = RunKey(facets.request_type, facets.project, facets.tags)
        bucket = None if facets.cost_nano_usd is None else bucket_of(facets.cost_nano_usd)
        self.parts[record.id] = record.digest, record.recorded_at_us, part, run, bucket
        self._count(part, run, bucket, 1)

    def _remove(self, id_: UUID) -> None:
        _, _, part, run, bucket = self.parts.pop(id_)
        self._count(part, run, bucket, -1)

    def _count(self, part: _Part, run: RunKey, bucket: int | None, times: int) -> None:
        for key, sums in part:
            cells = self._cells[key.phase]
            cells[key] = cells.get(key, Sums()).plus(sums, times)
            if not cells[key].choices:
                del cells[key]
        if bucket is not None:
            self._run_costs[run][bucket] += times
            if not self._run_costs[run][bucket]:
                del self._run_costs[run][bucket]

    def _merged(self) -> dict[str, Cells]:
        phases = self._cells.keys() | self._older.keys()
        merged = {phase: self._cells.get(phase, {}) | self._older.get(phase, {}) for phase in phases}
        return {phase: cells for phase, cells in merged.items() if cells}

    def _read_older(self, store: Store, tenant: str, snapshot: Snapshot) -> bool:
        """Read the sums below the hot cache if they are due. Return whether they changed."""
        if snapshot.floor is None:
            is_changed, self._older = bool(self._older), {}
            return is_changed
        if time.monotonic() < self._older_at + OLDER_S:
            return False
        try:
            with archive_snapshot(store.conf.archive_statement_timeout_s):
                self._older = _older_cells(archive_reads.summary(tenant, Query(), snapshot.floor))
        except ArchiveError:
            return False
        self._older_at = time.monotonic()
        return True


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


_TALLY_AT = {tally.name: 1 + at for at, tally in enumerate(PHASE_TALLIES)}
_MEASURE_AT = {measure.name: 1 + len(PHASE_TALLIES) + 2 * at for at, measure in enumerate(MEASURES)}


def _older_cells(summary: Summary) -> dict[str, dict[Key, Sums]]:
    """Return the cells of a summary. A model that answered after another one had failed counts as
    chosen first: these records only support the estimates of newer ones."""
    older: dict[str, dict[Key, Sums]] = defaultdict(dict)

    def add(key: Key, sums: Sums) -> None:
        older[key.phase][key] = older[key.phase].get(key, Sums()).plus(sums)

    for (phase, model, _, request_type), cell in summary.phases.items():
        if phase is None:
            continue
        if model is not None:
            success, failure, partial = (
                cell[_TALLY_AT[f"credited_{word}"]] for word in ("success", "failure", "partial")
            )
            cost, tokens_in, tokens_out = (_MEASURE_AT[name] for name in ("cost_usd", "input_tokens", "output_tokens"))
            known = success + failure + partial
            is_metered = cell[tokens_in] == cell[tokens_out]
            add(
                Key(MODEL, request_type, _OLDER, phase, model, None, 0),
                Sums(
                    cell[0],
                    known,
                    2 * success + partial,
                    cell[cost],
                    cell[cost + 1],
                    cell[tokens_in] if is_metered else 0,
                    cell[tokens_in + 1] if is_metered else 0,
                    cell[tokens_out + 1] if is_metered else 0,
                ),
            )
        for kind, presence in ((RAN, "ran"), (SKIPPED, "skipped")):
            success, failure, partial = (
                cell[_TALLY_AT[f"{presence}_in_{word}"]] for word in ("success", "failure", "partial")
            )
            count = success + failure + partial
            if count:
                add(Key(kind, request_type, _OLDER, phase, None, None, 0), Sums(count, count, 2 * success + partial))
    return older
