"""The archive: a batch of records as rows, in one transaction of its caller.

The rows of the tenants order the writers. The first statement locks them, in the order of their
slugs: row locks on Postgres, and on SQLite the write lock, by an UPDATE. Later reads therefore stay
valid until commit. The merge is ``record.merge``; SQL has no second one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from django.db import connections
from django.db.models import F

from trajectories.domain.record import Record, merge, tenant_digest, tombstone
from trajectories.models import Erasure, Phase, Quarantined, Tenant, Tombstone, Trajectory
from trajectories.storage import archive_rows
from trajectories.storage.archive_rows import RECORD_COLUMNS, Key, Row, alias, as_uuid, key_of

_COUNTERS = ("last_seq", "last_changed", "record_count", "body_bytes")
_DELETE_CHUNK = 50
"""Deleted bodies in memory at once."""


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


def write(given: Sequence[Record]) -> WriteResult:
    """Write records in the order of their tenants, with one statement of each kind for the whole batch."""
    tenants = locked(dict.fromkeys(record.tenant for record in given))
    of_tenants = [record for record in given if record.tenant in tenants]
    deleted, gone = _delete(tenants, of_tenants)
    deleted_keys = set(map(key_of, deleted))
    stored = _store(tenants, [record for record in of_tenants if key_of(record) not in deleted_keys])
    numbers = {pk: {name: getattr(tenant, name) for name in _COUNTERS} for pk, tenant in tenants.items()}
    archive_rows.update(Tenant, numbers)
    return WriteResult(stored, deleted, gone, [record for record in given if record.tenant not in tenants])


class _Change(NamedTuple):
    """A visible change of an id: its version before and after, None where there is none."""

    old: Record | None
    new: Record | None


def _apply(tenants: Mapping[str, Tenant], changes: Iterable[_Change]) -> None:
    """Keep what is derived from all records of a tenant, within the transaction that changes them."""
    for old, new in changes:
        tenant = tenants[(new or old).tenant]  # type: ignore[union-attr]
        tenant.record_count += (new is not None) - (old is not None)
        tenant.body_bytes += len(new.body if new else b"") - len(old.body if old else b"")


def _delete(tenants: Mapping[str, Tenant], given: Sequence[Record]) -> tuple[list[Record], DeletedCounts]:
    """Return tombstones of all deleted ids in ``given``, and the counts of rows deleted now."""
    found = archive_rows.read(Tombstone, ("tenant_id", "trajectory_id", "stamp"), set(map(key_of, given)))
    known = [tombstone(tenant, as_uuid(id_), stamp) for tenant, id_, stamp in found]
    known_keys = set(map(key_of, known))
    new = {key_of(record): record for record in given if record.is_tombstone and key_of(record) not in known_keys}
    gone, pending = DeletedCounts(), list(new.values())
    while pending:
        gone = gone.plus(_delete_some(tenants, pending[:_DELETE_CHUNK]))
        del pending[:_DELETE_CHUNK]
    return [*known, *new.values()], gone


def _delete_some(tenants: Mapping[str, Tenant], tombstones: Sequence[Record]) -> DeletedCounts:
    keys = list(map(key_of, tombstones))
    found = archive_rows.read(Trajectory, ("id", "seq", *RECORD_COLUMNS), keys)
    old = [Record.from_row(row) for _, _, *row in found]
    pks, seqs = [pk for pk, *_ in found], {key_of(record): row[1] for record, row in zip(old, found, strict=True)}
    _apply(tenants, [_Change(record, None) for record in old])
    Phase.objects.using(alias()).filter(trajectory__in=pks).delete()
    archived, _ = Trajectory.objects.using(alias()).filter(pk__in=pks).delete()
    refused_pks = [pk for (pk,) in archive_rows.read(Quarantined, ("id",), keys)]
    quarantined, _ = Quarantined.objects.using(alias()).filter(pk__in=refused_pks).delete()
    rows = []
    for record in tombstones:
        tenant = tenants[record.tenant]
        tenant.last_changed += 1
        rows.append(
            {
                "tenant_id": tenant.pk,
                "trajectory_id": record.id,
                "stamp": record.stamp,
                "seq": seqs.get(key_of(record)),
                "changed": tenant.last_changed,
            }
        )
    archive_rows.insert(Tombstone, rows)
    return DeletedCounts(archived, quarantined)


def _store(tenants: Mapping[str, Tenant], records: Sequence[Record]) -> list[Record]:
    keys = set(map(key_of, records))
    rows = ((pk, Record.from_row(row)) for pk, *row in archive_rows.read(Trajectory, ("id", *RECORD_COLUMNS), keys))
    known = {key_of(record): (pk, record) for pk, record in rows}
    merged = {key: record for key, (_, record) in known.items()}
    for record in records:
        merged[key_of(record)] = merge(merged.get(key_of(record)), record, from_authority=False)
    # Sort by position, so that exports follow the order in which a host accepted the records.
    stored = sorted((merged[key] for key in keys), key=lambda record: (record.tenant, record.position))
    new: list[Row] = []
    replaced: dict[int, Row] = {}
    restamped: dict[int, Row] = {}
    phases: dict[Key, list[Row]] = {}
    changes: list[_Change] = []
    for record in stored:
        tenant, (pk, old) = tenants[record.tenant], known.get(key_of(record), (0, None))
        if old == record:
            continue
        if old and _visible(record) == _visible(old):
            restamped[pk] = {"stamp": record.stamp}
            continue
        tenant.last_changed += 1
        changes.append(_Change(old, record))
        row, of_record = archive_rows.values_of(record)
        row["changed"] = tenant.last_changed
        if old is None:
            tenant.last_seq += 1
            row |= {"tenant_id": tenant.pk, "trajectory_id": record.id, "seq": tenant.last_seq}
            new.append(row)
        else:
            replaced[pk] = row
        if old is None or old.digest != record.digest:
            phases[key_of(record)] = of_record
    archive_rows.insert(Trajectory, new)
    archive_rows.update(Trajectory, replaced)
    archive_rows.update(Trajectory, restamped)
    _replace_phases(phases, {key: pk for key, (pk, _) in known.items()})
    _apply(tenants, changes)
    return stored


def _visible(record: Record) -> tuple[str, int, int]:
    """Return the parts of a version whose change readers see."""
    return record.digest, record.revision, record.recorded_at_us


def _replace_phases(phases: Mapping[Key, Sequence[Row]], known: Mapping[Key, int]) -> None:
    """Write the phases of new and changed bodies. ``known``: primary keys of trajectories that were there before."""
    if old := [known[key] for key in phases if key in known]:
        Phase.objects.using(alias()).filter(trajectory__in=old).delete()
    new = [key for key in phases if key not in known]
    found = archive_rows.read(Trajectory, ("tenant_id", "trajectory_id", "id"), new)
    pks = dict(known) | {(tenant, as_uuid(id_)): pk for tenant, id_, pk in found}
    archive_rows.insert(Phase, [row | {"trajectory_id": pks[key]} for key, rows in phases.items() for row in rows])


def locked(slugs: Collection[str]) -> dict[str, Tenant]:
    """Return the rows of these tenants, locked against other writers; without those that are erased.

    Rows are locked in the order of their slugs, so that two batches never wait for each other. Create
    the row when a host project's own tenant writes for the first time.
    """
    found = _lock(slugs)
    if missing := [slug for slug in slugs if slug not in found]:
        erased = _erased(missing)
        Tenant.objects.using(alias()).bulk_create(
            [Tenant(pk=slug) for slug in sorted(missing) if slug not in erased], ignore_conflicts=True
        )
        found |= _lock([slug for slug in missing if slug not in erased])
    erased = _erased(found)
    return {slug: tenant for slug, tenant in found.items() if slug not in erased}


def _lock(slugs: Collection[str]) -> dict[str, Tenant]:
    features = connections[alias()].features
    rows = Tenant.objects.using(alias()).filter(pk__in=slugs).order_by("pk")
    if features.has_select_for_update:
        rows = rows.select_for_update(no_key=features.has_select_for_no_key_update)
    else:
        rows.update(last_seq=F("last_seq"))  # takes SQLite's write lock, whether a row is there or not
    return {tenant.pk: tenant for tenant in rows}


def _erased(slugs: Iterable[str]) -> set[str]:
    by_digest = {tenant_digest(slug): slug for slug in slugs}
    found = Erasure.objects.using(alias()).filter(pk__in=by_digest).values_list("pk", flat=True)
    return {by_digest[digest] for digest in found}
