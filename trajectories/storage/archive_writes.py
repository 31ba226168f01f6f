"""The archive: writes of the persist side, the quarantine, and the erasure of a tenant.

``archive_batch`` has the statements of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.db import DataError, IntegrityError, transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Greatest

from trajectories.domain.record import Record, tenant_digest
from trajectories.models import (
    ApiKey,
    AuditEntry,
    Erasure,
    LateOutcome,
    Phase,
    Quarantined,
    Reference,
    RollUp,
    RunOutcome,
    Tenant,
    Tombstone,
    Trajectory,
)
from trajectories.storage import search_index
from trajectories.storage.archive_batch import DeletedCounts as DeletedCounts
from trajectories.storage.archive_batch import WriteResult as WriteResult
from trajectories.storage.archive_batch import locked, write
from trajectories.storage.archive_errors import archive_errors
from trajectories.storage.archive_rows import alias as alias

_ERROR_MAX = 10_000


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
            return write(ordered)
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
        The records of the id that the archive now holds; an empty list if it still refuses.
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
        if not locked([record.tenant]):
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
    outcomes = _some_of(LateOutcome.objects.using(alias()).filter(tenant=tenant), limit)
    with transaction.atomic(using=alias()):
        Tenant.objects.using(alias()).filter(pk=tenant).update(last_changed=F("last_changed") + 1)
        RollUp.objects.using(alias()).filter(tenant=tenant).delete()
        for model in (Phase, Reference, RunOutcome):
            model._default_manager.using(alias()).filter(trajectory__in=trajectories).delete()
        search_index.remove(list(trajectories.values_list("pk", flat=True)), alias())
        archived, quarantines, *others = (
            rows.delete()[0] for rows in (trajectories, quarantined, tombstones, outcomes)
        )
    return DeletedCounts(archived, quarantines) if archived or quarantines or any(others) else None


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


def record_of(row: Trajectory | Quarantined) -> Record:
    """Return the content of a row as a record."""
    body = row.canonical if isinstance(row, Trajectory) else row.body
    columns = [row.tenant_id, row.trajectory_id, row.stamp, row.digest, row.revision, row.recorded_at_us, body]
    return Record.from_row([*columns, row.outcomes] if isinstance(row, Trajectory) else columns)
