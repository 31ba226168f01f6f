"""The archive: which records of an export need no body, by facts that it keeps in columns."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any
from uuid import UUID

from django.db import router
from django.db.models import Count, F, Q, QuerySet, Value

from trajectories.domain.export_facts import LATE, SHARED, UNKNOWN
from trajectories.domain.query import Query
from trajectories.models import Tombstone, Trajectory
from trajectories.storage.archive_errors import archive_errors
from trajectories.storage.archive_reads import Exported, in_order
from trajectories.storage.archive_rows import TRAJECTORY_COLUMNS, record_from
from trajectories.storage.archive_snapshot import mapped

_MOST_SHARED = 100_000
"""Maximum requests in memory."""


@archive_errors()
def shared_requests(tenant: str, query: Query, up_to_seq: int) -> frozenset[int] | None:
    """Return the keys of the requests that several matching records have.

    None if that is not known: a record of an earlier release has no key, or there are too many.
    """
    rows = in_order(tenant, query, 0, up_to_seq).order_by().values("request_key").annotate(n=Count("pk"))
    found = rows.filter(Q(n__gt=1) | Q(request_key=None)).values_list("request_key", flat=True)
    keys = list(found[: _MOST_SHARED + 1])
    is_known = None not in keys and len(keys) <= _MOST_SHARED
    return frozenset(key for key in keys if key is not None) if is_known else None


@archive_errors()
def facts(
    tenant: str,
    query: Query,
    after_seq: int,
    up_to_seq: int,
    limit: int,
    *,
    needed: int,
    shared: frozenset[int] | None,
) -> list[tuple[int, int]]:
    """Return sequence number and facts of the next matching records in export order.

    Args:
        needed: the facts that are asked for; without ``LATE``, an index has all.
        shared: what ``shared_requests`` returns.
    """
    rows = in_order(tenant, query, after_seq, up_to_seq)
    outcomes = F("outcome_count") if needed & LATE else Value(0)
    found = rows.values_list("seq", "export_facts", "request_key", outcomes)[:limit]
    every = SHARED if shared is None else 0
    in_some = shared or frozenset()
    with mapped() if needed & LATE else nullcontext():  # outcomes are in the rows alone
        return [
            (seq, UNKNOWN if facts is None else facts | every | (key in in_some and SHARED) | (late and LATE))
            for seq, facts, key, late in found
        ]


@archive_errors()
def exported_of(tenant: str, query: Query, seqs: Sequence[int]) -> list[Exported]:
    """Return those of these records that are still there and match, in export order."""
    rows = in_order(tenant, query, seqs[0] - 1, seqs[-1])
    if seqs[-1] - seqs[0] >= len(seqs):
        rows = rows.filter(seq__in=seqs)
    return [Exported(seq, record_from(columns)) for seq, *columns in rows.values_list("seq", *TRAJECTORY_COLUMNS)]


@archive_errors()
def id_at(tenant: str, seq: int) -> UUID | None:
    """Return the id with a sequence number, also of a deleted record."""
    for model in (Trajectory, Tombstone):
        rows: QuerySet[Any] = model._default_manager.using(router.db_for_read(Trajectory))
        found: UUID | None = rows.filter(tenant=tenant, seq=seq).values_list("trajectory_id", flat=True).first()
        if found is not None:
            return found
    return None
