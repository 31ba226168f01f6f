"""The archive: writes a batch of records to the database.

The tenant's row orders the writers of a tenant. The first statement is an UPDATE of that row. It
takes the row lock on Postgres and the write lock on SQLite. Later reads therefore stay valid until
commit. The merge is ``record.merge``; SQL has no second one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from itertools import groupby
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from django.db import DataError, IntegrityError, router, transaction
from django.db.models import Exists, F, QuerySet
from django.db.models.functions import Greatest

from trajectories.conf import read_settings
from trajectories.domain.compression import from_columns, to_columns
from trajectories.domain.record import Facets, PhaseFacets, Record, facets_of, merge, tenant_digest, tombstone
from trajectories.domain.stats import TRAJECTORY_MEASURES, bucket_of
from trajectories.models import ApiKey, AuditEntry, Erasure, Phase, Quarantined, RollUp, Tenant, Tombstone, Trajectory
from trajectories.storage import rollups, search_index
from trajectories.storage.archive_errors import archive_errors
from trajectories.workspace import Annotation

_ERROR_MAX = 10_000
_COUNTERS = ("last_seq", "last_changed", "record_count", "body_bytes")


class WriteResult(NamedTuple):
    """The result of a batch.

    - ``stored``: what the archive now holds of the ids.
    - ``deleted``: tombstones of those ids that are deleted.
    - ``gone``: the rows that their deletion removed.
    - ``erased``: records that were dropped because their tenant is erased.
    """

    stored: list[Record]
    deleted: list[Record]
    gone: DeletedCounts
    erased: list[Record]

    def plus(self, other: WriteResult) -> WriteResult:
        return WriteResult(
            self.stored + other.stored,
            self.deleted + other.deleted,
            self.gone.plus(other.gone),
            self.erased + other.erased,
        )


class DeletedCounts(NamedTuple):
    """Rows that a deletion removed."""

    archive: int = 0
    quarantine: int = 0

    def plus(self, other: DeletedCounts) -> DeletedCounts:
        return DeletedCounts(self.archive + other.archive, self.quarantine + other.quarantine)


class RefusedRecord(Exception):
    """The database refuses a value in any state, so that sending it again will not help."""


@archive_errors()
def mirror(records: Sequence[Record]) -> WriteResult:
    """Write ``records``, including tombstones, to the archive in one transaction.

    Raises:
        RefusedRecord: nothing was written; the database refuses one of the records.
        ArchiveError: nothing was written, and a retry may succeed.
    """
    ordered = sorted(records, key=lambda record: (record.tenant, record.id, record.rank))
    try:
        with transaction.atomic(using=alias()):
            by_tenant = groupby(ordered, key=lambda record: record.tenant)
            parts = [_mirror_tenant(tenant, list(group)) for tenant, group in by_tenant]
            return reduce(WriteResult.plus, parts, WriteResult([], [], DeletedCounts(), []))
    except (DataError, IntegrityError, ValueError, OverflowError) as error:
        raise RefusedRecord(str(error)) from error


@archive_errors()
def holds(record: Record) -> bool:
    """Return whether the archive has a version of this id."""
    return Trajectory.objects.using(alias()).filter(tenant=record.tenant, trajectory_id=record.id).exists()


@archive_errors()
def refused(quarantined_pk: int) -> Record | None:
    """Return the quarantined version, if it still exists."""
    row = Quarantined.objects.using(alias()).filter(pk=quarantined_pk).first()
    return record_of(row) if row else None


@archive_errors()
def release(quarantined_pk: int, record: Record) -> list[Record]:
    """Write a quarantined version again.

    Delete it from quarantine if the archive accepts it now; otherwise store the new reason.

    Returns:
        What the archive now holds of the id; an empty list if it still refuses.
    """
    row = Quarantined.objects.using(alias()).filter(pk=quarantined_pk)
    try:
        with transaction.atomic(using=alias()):
            stored = mirror([record]).stored
            row.delete()
            return stored
    except RefusedRecord as error:
        row.update(attempts=F("attempts") + 1, error=str(error)[:_ERROR_MAX])
        return []


@archive_errors()
def quarantine(record: Record, error: str) -> None:
    """Store a version that the archive refuses, with the reason.

    The same version is stored once. Versions of an erased tenant are not stored.
    """
    with transaction.atomic(using=alias()):
        if _locked(record.tenant) is None:
            return
        Quarantined.objects.using(alias()).get_or_create(
            tenant_id=record.tenant,
            trajectory_id=record.id,
            stamp=record.stamp,
            defaults={
                "digest": record.digest,
                "revision": record.revision,
                "recorded_at_us": record.recorded_at_us,
                "body": record.body,
                "error": error[:_ERROR_MAX],
            },
        )


@archive_errors()
def begin_erasure(
    tenant: str, stamp: int, forget: Callable[[list[ApiKey]], object] = lambda keys: None, *, is_known: bool = False
) -> list[ApiKey] | None:
    """Begin the erasure of ``tenant``: refuse its records from now on, and delete its API keys.

    Args:
        forget: called with the keys before they are deleted, so that a retry after a failure finds
            them too.
        is_known: the tenant exists, even if the archive does not have it yet.

    Returns:
        The deleted keys; None if the tenant does not exist and never did.
    """
    erasures = Erasure.objects.using(alias())
    with transaction.atomic(using=alias()):
        row = Tenant.objects.using(alias()).filter(pk=tenant)
        if is_known:
            Tenant.objects.using(alias()).get_or_create(pk=tenant)
        # Take the lock: earlier writers finish first, and later ones see the erasure.
        if not row.update(last_seq=F("last_seq")) and not erasures.filter(pk=tenant_digest(tenant)).exists():
            return None
        if not _erased_at(tenant, stamp):
            erasures.create(digest=tenant_digest(tenant), stamp=stamp)
        keys = list(ApiKey.objects.using(alias()).filter(tenant=tenant))
        forget(keys)
        ApiKey.objects.using(alias()).filter(tenant=tenant).delete()
        AuditEntry.objects.using(alias()).filter(tenant=tenant).delete()
        return keys


@archive_errors()
def erase_some(tenant: str, limit: int) -> DeletedCounts | None:
    """Delete some rows of a tenant whose erasure has begun; return None if none were left."""
    trajectories = _some_of(Trajectory.objects.using(alias()).filter(tenant=tenant), limit)
    quarantined = _some_of(Quarantined.objects.using(alias()).filter(tenant=tenant), limit)
    tombstones = _some_of(Tombstone.objects.using(alias()).filter(tenant=tenant), limit)
    with transaction.atomic(using=alias()):
        Tenant.objects.using(alias()).filter(pk=tenant).update(last_changed=F("last_changed") + 1)
        RollUp.objects.using(alias()).filter(tenant=tenant).delete()
        Phase.objects.using(alias()).filter(trajectory__in=trajectories).delete()
        search_index.remove(list(trajectories.values_list("pk", flat=True)), alias())
        archived, quarantines, deleted = (rows.delete()[0] for rows in (trajectories, quarantined, tombstones))
    return DeletedCounts(archived, quarantines) if archived or quarantines or deleted else None


@archive_errors()
def end_erasure(tenant: str, stamp: int) -> None:
    """Delete the row of ``tenant``.

    Raise the stamp of its erasure, so that hosts check it again.
    """
    with transaction.atomic(using=alias()):
        Tenant.objects.using(alias()).filter(pk=tenant).delete()
        AuditEntry.objects.using(alias()).filter(tenant=tenant).delete()  # of calls meanwhile
        _erased_at(tenant, stamp)


def _erased_at(tenant: str, stamp: int) -> bool:
    """Raise the stamp of an erasure so that hosts check it again; return False without an erasure.

    The stamp exceeds the old one even if a faster clock set that.
    """
    erasure = Erasure.objects.using(alias()).filter(pk=tenant_digest(tenant))
    return bool(erasure.update(stamp=Greatest(F("stamp") + 1, stamp)))


def _some_of(rows: QuerySet[Any], limit: int) -> QuerySet[Any]:
    pks = list(rows.order_by("pk").values_list("pk", flat=True)[:limit])
    return rows.filter(pk__in=pks)


def _mirror_tenant(slug: str, given: list[Record]) -> WriteResult:
    tenant = _locked(slug)
    if tenant is None:
        return WriteResult([], [], DeletedCounts(), given)
    changes = rollups.Changes(tenant, alias())
    deleted, gone = _delete(tenant, given, changes)
    deleted_ids = {record.id for record in deleted}
    records = [record for record in given if record.id not in deleted_ids]
    stored = _store(tenant, records, changes) if records else []
    changes.write()
    tenant.save(using=alias(), update_fields=[*_COUNTERS, *rollups.TENANT_FIELDS])
    return WriteResult(stored, deleted, gone, [])


def _delete(tenant: Tenant, given: Sequence[Record], changes: rollups.Changes) -> tuple[list[Record], DeletedCounts]:
    """Return tombstones of all deleted ids in ``given``, and the counts of rows deleted now."""
    ids = {record.id for record in given}
    found = Tombstone.objects.using(alias()).filter(tenant=tenant, trajectory_id__in=ids)
    known = {row.trajectory_id: tombstone(tenant.pk, row.trajectory_id, row.stamp) for row in found}
    new = {record.id: record for record in given if record.is_tombstone and record.id not in known}
    if not new:
        return list(known.values()), DeletedCounts()
    rows = Trajectory.objects.using(alias()).filter(tenant=tenant, trajectory_id__in=new)
    seqs = dict(rows.values_list("trajectory_id", "seq"))
    bodies = rows.values_list("body", "compressed_body").iterator(chunk_size=10)
    sizes = [len(from_columns(*columns)) for columns in bodies]
    tenant.record_count -= len(sizes)
    tenant.body_bytes -= sum(sizes)
    changes.remove(rows)
    Phase.objects.using(alias()).filter(trajectory__in=rows).delete()
    search_index.remove(list(rows.values_list("pk", flat=True)), alias())
    Annotation.objects.using(alias()).filter(tenant=tenant, trajectory_id__in=new).delete()
    archived, _ = rows.delete()
    quarantined, _ = Quarantined.objects.using(alias()).filter(tenant=tenant, trajectory_id__in=new).delete()
    for record in new.values():
        tenant.last_changed += 1
        Tombstone.objects.using(alias()).create(
            tenant=tenant,
            trajectory_id=record.id,
            stamp=record.stamp,
            seq=seqs.get(record.id),
            changed=tenant.last_changed,
        )
    return [*known.values(), *new.values()], DeletedCounts(archived, quarantined)


def _store(tenant: Tenant, records: Sequence[Record], changes: rollups.Changes) -> list[Record]:
    ids = {record.id for record in records}
    found = Trajectory.objects.using(alias()).filter(tenant=tenant, trajectory_id__in=ids)
    rows = {row.trajectory_id: row for row in found}
    merged: dict[UUID, Record] = {id_: record_of(row) for id_, row in rows.items()}
    for record in records:
        merged[record.id] = merge(merged.get(record.id), record, from_authority=False)
    replaced = {row.pk for id_, row in rows.items() if _visible(row) != _visible(merged[id_])}
    if replaced:
        changes.remove(found.filter(pk__in=replaced))
    new, changed = list[Trajectory](), list[Trajectory]()
    phases: list[Phase] = []
    # Sort by position, so that exports follow the order in which a host accepted the records.
    stored_now = sorted((merged[id_] for id_ in ids), key=lambda record: record.position)
    for stored in stored_now:
        row = rows.get(stored.id)
        tenant.body_bytes += len(stored.body) - (len(row.canonical) if row else 0)
        if row is None:
            tenant.record_count += 1
            tenant.last_seq += 1
            tenant.last_changed += 1
            row = Trajectory(
                tenant_id=tenant.pk, trajectory_id=stored.id, seq=tenant.last_seq, changed=tenant.last_changed
            )
            new.append(row)
            phases += _fill(row, stored, changes)
        elif row.pk in replaced:
            tenant.last_changed += 1
            row.changed = tenant.last_changed
            _replace(row, stored, changes)
            changed.append(row)
        elif row.stamp != stored.stamp:
            row.stamp = stored.stamp
            row.save(using=alias(), update_fields=["stamp"])
    Trajectory.objects.using(alias()).bulk_create(new)
    Phase.objects.using(alias()).bulk_create(phases)
    search_index.put([*new, *changed], alias())
    return stored_now


def _locked(tenant: str) -> Tenant | None:
    """Return the tenant's row, locked against other writers; None if the tenant is erased.

    Create the row when a host project's own tenant writes for the first time.
    """
    erasure = Erasure.objects.using(alias()).filter(pk=tenant_digest(tenant))
    lock = Tenant.objects.using(alias()).filter(pk=tenant)
    if not lock.update(last_seq=F("last_seq")):
        if erasure.exists():
            return None
        Tenant.objects.using(alias()).get_or_create(pk=tenant)
        lock.update(last_seq=F("last_seq"))
    return lock.exclude(Exists(erasure)).first()


def record_of(row: Trajectory | Quarantined) -> Record:
    """Return the content of a row as a record."""
    body = row.canonical if isinstance(row, Trajectory) else row.body
    columns = (row.tenant_id, row.trajectory_id, row.stamp, row.digest, row.revision, row.recorded_at_us, body)
    return Record.from_row(columns)


def _visible(version: Trajectory | Record) -> tuple[str, int, int]:
    """Return what readers see of a version; another stamp alone is no change."""
    return version.digest, version.revision, version.recorded_at_us


def _replace(row: Trajectory, stored: Record, changes: rollups.Changes) -> None:
    is_other_body = row.digest != stored.digest
    phases = _fill(row, stored, changes)
    row.save(using=alias(), force_update=True)
    if is_other_body:
        Phase.objects.using(alias()).filter(trajectory=row).delete()
        Phase.objects.using(alias()).bulk_create(phases)


def _fill(row: Trajectory, stored: Record, changes: rollups.Changes) -> list[Phase]:
    """Set the columns of ``row`` from the record and its facets, matched by name; count it.

    Returns:
        The phases of the row, unsaved.
    """
    row.stamp, row.digest, row.revision = stored.stamp, stored.digest, stored.revision
    row.recorded_at_us = stored.recorded_at_us
    row.body, row.compressed_body = to_columns(stored.body, is_compressed=read_settings().compress_bodies)
    fields, facets = orjson.loads(stored.body), facets_of(stored.body)
    changes.add(row.seq, stored.recorded_at_us, facets)
    row.parent_id = fields.get("parent_id") and UUID(fields["parent_id"])
    for name, value in _columns(facets).items():
        setattr(row, name, value)
    for measure in TRAJECTORY_MEASURES:
        value = getattr(facets, measure.column)
        setattr(row, f"{measure.column}_bucket", None if value is None else bucket_of(value))
    row.phase_count = len(facets.phases)
    return [_phase(row, *place) for place in enumerate(zip(fields["phases"], facets.phases, strict=True))]


def _phase(row: Trajectory, place: int, phase: tuple[dict[str, Any], PhaseFacets]) -> Phase:
    body, facets = phase
    return Phase(
        trajectory=row,
        place=place,
        phase_name=body["phase_name"],
        phase_id=body.get("phase_id"),
        requested_model=body.get("requested_model"),
        selection_probability=body.get("selection_probability"),
        skip_reason=body.get("skip_reason"),
        attempt=body.get("attempt"),
        **_columns(facets),
    )


def _columns(facets: Facets | PhaseFacets) -> dict[str, Any]:
    """Return facets as column values: lists as text for exact search, without phases and sources of credit."""
    return {
        name: members_text(value) if isinstance(value, tuple) else value
        for name, value in facets._asdict().items()
        if name not in ("phases", "credit_source")
    }


def members_text(members: Sequence[str]) -> str:
    """Return each member as JSON on its own line: a list has a member if the text has its line."""
    return "".join(f"\n{orjson.dumps(member).decode()}\n" for member in members)


def alias() -> str:
    """Return the alias of the write database."""
    return router.db_for_write(Trajectory)
