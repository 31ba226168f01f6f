"""Sums of the records below the hot cache, from the archive's roll-ups."""

from __future__ import annotations

from collections import defaultdict
from uuid import UUID

from trajectories.domain.query import Query
from trajectories.domain.stats import MEASURES, PHASE_TALLIES, Summary
from trajectories.learning.choices import MODEL, RAN, SKIPPED
from trajectories.learning.sums import Key, Sums
from trajectories.services.read_shares import Share
from trajectories.services.rolled_up import WAITING_CHUNK, chunks
from trajectories.storage import archive_reads, archive_writes, rollup_reads
from trajectories.storage.archive_errors import ArchiveError
from trajectories.storage.archive_snapshot import snapshot as archive_snapshot
from trajectories.storage.redis_tier import RedisError
from trajectories.storage.store import Store
from trajectories.storage.tenant_cache import Snapshot

MAX_UNDER_WAY = 2_000
"""Records that the archive lacks a version of, up to which older ones are read: each costs a scan of it."""
_OLDER = "\x00older"
"""Stands for the project of these records, which their sums do not have."""


def older_cells(store: Store, tenant: str, snapshot: Snapshot, share: Share) -> dict[str, dict[Key, Sums]] | None:
    """Return the cells of the records that the archive has and ``snapshot`` has not, by phase.

    They are the total of the roll-ups less the records of the snapshot. Those that wait or are under
    way are not in the archive as the snapshot has them, so they are taken out on both sides.

    Returns:
        None if the archive is unavailable or far behind, or the roll-ups lack changes.
    """
    try:
        with store.outbox.snapshot():
            ids = {*store.outbox.waiting_ids(tenant)} | _under_way(store, tenant)
            if len(ids) > MAX_UNDER_WAY:
                return None
            with archive_snapshot(store.conf.archive_statement_timeout_s, archive_writes.alias()):
                total = rollup_reads.summary(tenant, Query())
                if total is None:
                    return None
                for chunk in chunks([*ids], WAITING_CHUNK):
                    archived = archive_reads.summary(tenant, Query(), None, only=chunk, using=archive_writes.alias())
                    total.merge(archived, times=-1)
    except ArchiveError:
        return None
    hot = Summary()
    for held in share.scan(snapshot.held):
        if held.position.id not in ids:
            hot.add_phases(held.facets)
    total.merge(hot, times=-1)
    return _cells_of(total)


def _under_way(store: Store, tenant: str) -> set[UUID]:
    """Return the ids that a worker may still write, as far as Redis knows.

    Without Redis the answer is not complete in any case, and says so.
    """
    try:
        return store.redis_tier.under_way(tenant) or set()
    except RedisError:
        return set()


_TALLY_AT = {tally.name: 1 + at for at, tally in enumerate(PHASE_TALLIES)}
_MEASURE_AT = {measure.name: 1 + len(PHASE_TALLIES) + 2 * at for at, measure in enumerate(MEASURES)}


def _cells_of(summary: Summary) -> dict[str, dict[Key, Sums]]:
    """Return the cells of a summary. A model that answered after another one had failed counts as
    chosen first: these records only support the estimates of newer ones."""
    older: dict[str, dict[Key, Sums]] = defaultdict(dict)

    def add(key: Key, sums: Sums) -> None:
        older[key.phase][key] = older[key.phase].get(key, Sums()).plus(sums)

    for (phase, model, _, request_type), cell in summary.phases.items():
        # A record that was archived while the tiers were read may be subtracted and not counted.
        if phase is None or cell[0] <= 0:
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
