"""The archive: reads of the database.

The archive answers reads below the hot cache and exports. It also decides when a record is safe.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple
from uuid import UUID, uuid4

from django.db import connections, router
from django.db.models import Case, Exists, F, OuterRef, Q, QuerySet, Value, When
from django.db.models.expressions import CombinedExpression
from django.db.models.functions import Coalesce, StrIndex
from django.db.models.lookups import GreaterThan

from trajectories.domain.late_stats import LATE_KEY
from trajectories.domain.query import Condition, Query
from trajectories.domain.record import Position, Record, tenant_digest, tombstone
from trajectories.domain.stats import (
    BUCKETS,
    LATE_MEASURES,
    LATE_TALLIES,
    RAN,
    TRAJECTORY_KEY,
    TRAJECTORY_SUMS,
    TRAJECTORY_TALLIES,
    Cells,
    Summary,
)
from trajectories.models import (
    AuditEntry,
    Erasure,
    Phase,
    Quarantined,
    RunOutcome,
    StoreIdentity,
    Tenant,
    Tombstone,
    Trajectory,
)
from trajectories.storage.archive_errors import archive_errors
from trajectories.storage.archive_rows import TRAJECTORY_COLUMNS, members_text, named, record_from
from trajectories.storage.archive_sums import add_runs, cells
from trajectories.storage.rare_condition import Rare, narrowed, split

_LATE_PHASE_KEY = ("name", "trajectory__phases__phase", "trajectory__phases__model")


class Exported(NamedTuple):
    """A record and its sequence number in the export."""

    seq: int
    record: Record


# Reads of the relay and the persist side; they use the write database.


@archive_errors()
def identity() -> str:
    """Return the identity of this store, 12 hexadecimal digits; create it if there is none yet."""
    if known := named(StoreIdentity, "identity", [1]):
        return str(known[0])
    rows = StoreIdentity.objects.using(_write_alias())
    return rows.get_or_create(pk=1, defaults={"identity": uuid4().hex[:12]})[0].identity


@archive_errors()
def renew_identity() -> str:
    """Make this archive a store of its own: the copy of another store's database, for example."""
    StoreIdentity.objects.using(_write_alias()).update_or_create(pk=1, defaults={"identity": uuid4().hex[:12]})
    return identity()


@archive_errors()
def erasures(since_us: int) -> dict[str, int]:
    """Return the stamps of erasures since ``since_us``, by ``tenant_digest``."""
    found = Erasure.objects.using(_write_alias()).filter(stamp__gte=since_us)
    return dict(found.values_list("digest", "stamp"))


@archive_errors()
def erased_of(tenants: Iterable[str]) -> set[str]:
    """Return those of ``tenants`` that were erased."""
    by_digest = {tenant_digest(tenant): tenant for tenant in tenants}
    found = Erasure.objects.using(_write_alias()).filter(digest__in=by_digest).values_list("digest", flat=True)
    return {by_digest[digest] for digest in found}


@archive_errors()
def tombstones_since(stamp: int, after_pk: int, limit: int) -> list[tuple[int, Record]]:
    """Return tombstones of all tenants from this stamp on, with primary keys above ``after_pk``."""
    rows = Tombstone.objects.using(_write_alias()).filter(stamp__gte=stamp, pk__gt=after_pk)
    found = rows.order_by("pk").values_list("pk", "tenant_id", "trajectory_id", "stamp")[:limit]
    return [(pk, tombstone(tenant, id_, stamp)) for pk, tenant, id_, stamp in found]


def tombstones_of(tenant: str, ids: Sequence[UUID]) -> Iterator[Record]:
    """Yield the tombstones of those of ``ids`` that are deleted."""
    rows = Tombstone.objects.using(_write_alias()).filter(tenant=tenant, trajectory_id__in=ids)
    with archive_errors():
        found = list(rows.values_list("trajectory_id", "stamp"))
    for id_, stamp in found:
        yield tombstone(tenant, id_, stamp)


@archive_errors()
def forget_tombstones(before_us: int, limit: int) -> int:
    """Delete some tombstones, and all erasures, from before ``before_us``.

    Returns:
        The number of tombstones deleted.
    """
    rows = Tombstone.objects.using(_write_alias())
    old = list(rows.filter(stamp__lt=before_us).order_by("stamp").values_list("pk", flat=True)[:limit])
    gone, _ = rows.filter(pk__in=old).delete()
    Erasure.objects.using(_write_alias()).filter(stamp__lt=before_us).delete()
    return gone


@archive_errors()
def forget_audit(before_us: int) -> None:
    """Delete the entries of the audit trail from before ``before_us``."""
    AuditEntry.objects.using(_write_alias()).filter(at_us__lt=before_us).delete()


@archive_errors()
def stored(tenant: str, ids: Iterable[UUID]) -> list[Record]:
    """Return the archived records of ``ids``."""
    rows = Trajectory.objects.using(_write_alias()).filter(tenant=tenant, trajectory_id__in=list(ids))
    return [record_from(columns) for columns in rows.values_list(*TRAJECTORY_COLUMNS)]


@archive_errors()
def revised_since(revision: int, after_pk: int, limit: int) -> list[tuple[int, Record]]:
    """Return records of all tenants from this revision on, with primary keys above ``after_pk``."""
    rows = Trajectory.objects.using(_write_alias()).filter(revision__gte=revision, pk__gt=after_pk)
    return [
        (pk, record_from(columns))
        for pk, *columns in rows.order_by("pk").values_list("pk", *TRAJECTORY_COLUMNS)[:limit]
    ]


# Reads of clients.


@archive_errors()
def newest(tenant: str, query: Query, below: Position | None, limit: int) -> list[Record]:
    """Return matching records below ``below`` (None: from the top), highest position first."""
    seeking, others = split(query)
    rows = narrowed(_matching(tenant, others, below), others, tenant)
    rows = rows.filter(*(Rare(_condition(one)) for one in seeking))
    ordered = rows.order_by("-recorded_at_us", "-trajectory_id")
    return [record_from(columns) for columns in ordered.values_list(*TRAJECTORY_COLUMNS)[:limit]]


@archive_errors()
def find(tenant: str, id_: UUID) -> Record | None:
    columns = _rows(tenant).filter(trajectory_id=id_).values_list(*TRAJECTORY_COLUMNS).first()
    return columns and record_from(columns)


@archive_errors()
def find_many(tenant: str, ids: Iterable[UUID]) -> dict[UUID, Record]:
    """Return those of ``ids`` that the archive has, with their records."""
    wanted = list(ids)
    if not wanted:
        return {}
    found = map(record_from, _rows(tenant).filter(trajectory_id__in=wanted).values_list(*TRAJECTORY_COLUMNS))
    return {record.id: record for record in found}


@archive_errors()
def summary(
    tenant: str,
    query: Query,
    below: Position | None,
    only: Sequence[UUID] | None = None,
    *,
    bucket: str | None = None,
    using: str | None = None,
    without: Query | None = None,
) -> Summary:
    """Return the summary of matching records below ``below``.

    ``only`` limits it to these ids. With ``bucket`` it has the series too. ``using`` is the alias
    of another database than that of reads. Records that match ``without`` do not count.
    """
    rows = _matching(tenant, query, below, using)
    rows = narrowed(rows, query, tenant) if only is None else rows.filter(trajectory_id__in=only)
    if without is not None:
        rows = _not_matching(rows, without)
    found = Summary(bucket)
    add_runs(found, rows, None if bucket is None else _bucket_start(bucket))
    if not found.trajectories:
        return found  # each further statement would look for the same records again
    late = RunOutcome.objects.using(rows.db).filter(tenant=tenant)
    if late.exists():  # most tenants have none, and then the records are not looked for again
        late = late.filter(trajectory__in=rows)
        found.late = cells(late, LATE_KEY, LATE_TALLIES, LATE_MEASURES)
        of_phases = late.filter(
            Q(place=None) | Q(place=F("trajectory__phases__place")), trajectory__phases__outcome__in=RAN
        )
        found.late_phases = cells(of_phases, _LATE_PHASE_KEY, LATE_TALLIES, LATE_MEASURES)
    return found


@archive_errors()
def trajectory_cells(tenant: str, query: Query, *, using: str) -> Cells:
    """Return the cells of trajectories of the summary of matching records."""
    return cells(_matching(tenant, query, None, using), TRAJECTORY_KEY, TRAJECTORY_TALLIES, TRAJECTORY_SUMS)


@archive_errors()
def last_changed(tenant: str) -> int | None:
    """Return a number that grows with every visible change of the tenant; None without a tenant."""
    return Tenant.objects.using(_read_alias()).filter(pk=tenant).values_list("last_changed", flat=True).first()


class Usage(NamedTuple):
    """The records of a tenant, and the bytes of their bodies."""

    records: int = 0
    bytes: int = 0


@archive_errors()
def usage(tenants: Iterable[str]) -> dict[str, Usage]:
    """Return the usage of those of ``tenants`` that the archive knows."""
    rows = Tenant.objects.using(_read_alias()).filter(pk__in=list(tenants))
    return {slug: Usage(*counts) for slug, *counts in rows.values_list("pk", "record_count", "body_bytes")}


@archive_errors()
def known_ids(tenant: str, ids: Sequence[UUID]) -> set[UUID]:
    """Return those of ``ids`` that have an archived record."""
    rows = Trajectory.objects.using(_read_alias()).filter(tenant=tenant, trajectory_id__in=ids)
    return set(rows.values_list("trajectory_id", flat=True))


@archive_errors()
def last_seq(tenant: str) -> int:
    """Return the sequence number of the last record of an export that begins now."""
    return _rows(tenant).order_by("-seq").values_list("seq", flat=True).first() or 0


@archive_errors()
def seq_of(tenant: str, id_: UUID) -> int | None:
    """Return the sequence number of an id in exports, even if the id was deleted since."""
    place = _rows(tenant).filter(trajectory_id=id_).values_list("seq", flat=True).first()
    return _tombstones(tenant, id_).values_list("seq", flat=True).first() if place is None else place


@archive_errors()
def count_until(tenant: str, query: Query, revision: int) -> int:
    """Return how many matching records were last revised at ``revision`` or before."""
    return _until(tenant, query, revision).count()


@archive_errors()
def ids_until(tenant: str, query: Query, revision: int, limit: int) -> list[UUID]:
    """Return some ids of those records."""
    return list(_until(tenant, query, revision).values_list("trajectory_id", flat=True)[:limit])


def _until(tenant: str, query: Query, revision: int) -> QuerySet[Trajectory]:
    return narrowed(_matching(tenant, query, None, _write_alias()), query, tenant).filter(revision__lte=revision)


@archive_errors()
def ids_before(tenant: str, recorded_at_us: int, limit: int) -> list[UUID]:
    """Return ids at the lowest positions among records from before ``recorded_at_us``."""
    rows = Trajectory.objects.using(_write_alias()).filter(tenant=tenant, recorded_at_us__lt=recorded_at_us)
    return list(rows.order_by("recorded_at_us", "trajectory_id").values_list("trajectory_id", flat=True)[:limit])


@archive_errors()
def count_before(tenant: str, recorded_at_us: int) -> int:
    """Return how many records are from before ``recorded_at_us``."""
    return Trajectory.objects.using(_write_alias()).filter(tenant=tenant, recorded_at_us__lt=recorded_at_us).count()


@archive_errors()
def tenants() -> list[str]:
    """Return every tenant."""
    return list(Tenant.objects.using(_write_alias()).order_by("pk").values_list("pk", flat=True))


@archive_errors()
def is_known(tenant: str, id_: UUID) -> bool:
    """Return whether the archive has stored, refused or deleted this id."""
    poison = Quarantined.objects.using(_write_alias()).filter(tenant=tenant, trajectory_id=id_)
    stored = Trajectory.objects.using(_write_alias()).filter(tenant=tenant, trajectory_id=id_)
    return stored.exists() or poison.exists() or _tombstones(tenant, id_, _write_alias()).exists()


def _tombstones(tenant: str, id_: UUID, alias: str | None = None) -> QuerySet[Tombstone]:
    return Tombstone.objects.using(alias or _read_alias()).filter(tenant=tenant, trajectory_id=id_)


@archive_errors()
def in_order(tenant: str, query: Query) -> QuerySet[Trajectory]:
    """Return the matching records in export order, for all reads of one export.

    How the database finds them is decided here, which takes as long as the read of some records.
    """
    return narrowed(_matching(tenant, query, None), query, tenant).order_by("seq")


def between(rows: QuerySet[Trajectory], after_seq: int, up_to_seq: int) -> QuerySet[Trajectory]:
    """Return those of ``rows`` with sequence numbers above ``after_seq``, up to ``up_to_seq``."""
    return rows.filter(seq__gt=after_seq, seq__lte=up_to_seq)


@archive_errors()
def exported(rows: QuerySet[Trajectory], after_seq: int, up_to_seq: int, limit: int) -> list[Exported]:
    """Return the next records of ``in_order``."""
    found = between(rows, after_seq, up_to_seq).values_list("seq", *TRAJECTORY_COLUMNS)[:limit]
    return [Exported(seq, record_from(columns)) for seq, *columns in found]


@archive_errors()
def export_keys(
    rows: QuerySet[Trajectory], after_seq: int, up_to_seq: int, limit: int
) -> list[tuple[int, UUID, int, int]]:
    """Return sequence number, id, revision and number of outcomes of the next records of
    ``in_order``."""
    found = between(rows, after_seq, up_to_seq)
    return list(found.values_list("seq", "trajectory_id", "revision", "outcome_count")[:limit])


def _rows(tenant: str, using: str | None = None) -> QuerySet[Trajectory]:
    return Trajectory.objects.using(using or _read_alias()).filter(tenant=tenant)


def matching(rows: QuerySet[Trajectory], query: Query) -> QuerySet[Trajectory]:
    """Return those of ``rows`` that match ``query``."""
    rows = rows.filter(*map(_condition, (*query.on_position, *query.on_trajectory)))
    if connections[rows.db].vendor == "postgresql":
        # Implied by the words' conditions, and what an index of trigrams can seek.
        words = [word for _, lookup, value in query.on_trajectory if lookup == "contains_words" for word in value]
        rows = rows.filter(*(Q(request_summary_folded__contains=word) for word in words))
    if query.on_phase:
        rows = rows.filter(Exists(_matching_phases(query)))
    return rows


def _matching(tenant: str, query: Query, below: Position | None, using: str | None = None) -> QuerySet[Trajectory]:
    rows = matching(_rows(tenant, using), query)
    if below is not None:
        # The second condition implies the first. The first lets the database seek in the index on
        # positions.
        rows = rows.filter(recorded_at_us__lte=below.recorded_at_us).filter(
            Q(recorded_at_us__lt=below.recorded_at_us) | Q(trajectory_id__lt=below.id)
        )
    return rows


def compared(rows: QuerySet[Trajectory], query: Query) -> QuerySet[Trajectory]:
    """Return ``matching`` by a comparison of each row, for few rows: the database enters no index of
    the query's columns."""
    return rows.alias(is_match=_is_match(query)).filter(is_match=True)


def _not_matching(rows: QuerySet[Trajectory], query: Query) -> QuerySet[Trajectory]:
    """Return those of ``rows`` that do not match ``query``, also where a value is unknown."""
    return rows.alias(is_match=_is_match(query)).filter(is_match=False)


def _is_match(query: Query) -> Case:
    conditions = Q(*map(_condition, (*query.on_position, *query.on_trajectory)))
    if query.on_phase:
        conditions &= Q(Exists(_matching_phases(query)))
    return Case(When(conditions, then=True), default=False) if conditions else Case(default=True)


def _matching_phases(query: Query) -> QuerySet[Phase]:
    return Phase.objects.filter(trajectory=OuterRef("pk")).filter(*map(_condition, query.on_phase))


def _bucket_start(bucket: str) -> CombinedExpression:
    """Return ``stats.bucket_start`` as SQL, where the remainder of a negative number is negative."""
    width, offset = BUCKETS[bucket]
    at_us = Coalesce(F("started_at_us"), F("recorded_at_us"))
    return at_us - ((at_us - offset) % width + width) % width


_LOOKUPS = {"equal": "exact", "at_least": "gte", "at_most": "lte", "below": "lt"}


def _condition(condition: Condition) -> Q:
    """Return a condition as SQL.

    Substrings use a position function. LIKE ignores case on SQLite and interprets wildcards.
    """
    column, lookup, value = condition
    if lookup == "has":
        return Q(GreaterThan(StrIndex(F(column), Value(members_text([value]))), 0))
    if lookup == "contains_words":
        return Q(*(GreaterThan(StrIndex(F(column), Value(word)), 0) for word in value))
    return Q(**{f"{column}__{_LOOKUPS[lookup]}": value})


def _read_alias() -> str:
    return router.db_for_read(Trajectory)


def _write_alias() -> str:
    return router.db_for_write(Trajectory)
