"""The archive: a batch of records as rows, in one transaction of its caller.

The rows of the tenants order the writers. The first statement locks them, in the order of their
slugs: row locks on Postgres, and on SQLite the write lock, by an UPDATE. Later reads therefore stay
valid until commit. The merge is ``record.merge``; SQL has no second one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from django.db import transaction

from trajectories.domain.record import Record, merge, tenant_digest, tombstone
from trajectories.domain.search_words import words_of
from trajectories.models import Erasure, Phase, Quarantined, Tenant, Tombstone, Trajectory
from trajectories.storage import archive_outcomes, archive_rows, choice_rows, recent_records, rollups, search_index
from trajectories.storage.archive_rows import TRAJECTORY_COLUMNS, Key, Row, alias, as_uuid, key_of
from trajectories.storage.recent_records import Recent
from trajectories.storage.rollups import Changes
from trajectories.storage.tenant_locks import lock_tenants
from trajectories.workspace import Annotation

_COUNTERS = ("last_seq", "last_changed", "record_count", "body_bytes", *rollups.TENANT_FIELDS)
_DELETE_CHUNK = 50
"""Deleted bodies in memory at once."""


class WriteResult(NamedTuple):
    """The result of a batch.

    - ``stored``: what the archive now holds of the ids, and of the runs that got outcomes.
    - ``deleted``: tombstones of those ids that are deleted.
    - ``gone``: the rows that their deletion removed.
    - ``erased``: records that were dropped because their tenant is erased.
    - ``due``: tenants that ``counting.count`` has work of.
    """

    stored: list[Record]
    deleted: list[Record]
    gone: DeletedCounts
    erased: list[Record]
    due: Sequence[str] = ()

    def plus(self, other: WriteResult) -> WriteResult:
        return WriteResult(
            self.stored + other.stored,
            self.deleted + other.deleted,
            self.gone.plus(other.gone),
            self.erased + other.erased,
            [*self.due, *other.due],
        )


class DeletedCounts(NamedTuple):
    """Rows that a deletion removed."""

    archive: int = 0
    quarantine: int = 0

    def plus(self, other: DeletedCounts) -> DeletedCounts:
        return DeletedCounts(self.archive + other.archive, self.quarantine + other.quarantine)


def write(given: Sequence[Record]) -> WriteResult:
    """Write records in the order of their tenants, with one statement of each kind for the whole
    batch."""
    tenants = locked(dict.fromkeys(record.tenant for record in given))
    changes = {pk: Changes(tenant, alias()) for pk, tenant in tenants.items()}
    of_tenants = [record for record in given if record.tenant in tenants]
    deleted, gone = _delete(tenants, changes, of_tenants)
    deleted_keys = set(map(key_of, deleted))
    kept = [record for record in of_tenants if key_of(record) not in deleted_keys]
    got_outcomes = archive_outcomes.take([record for record in kept if record.is_addition])
    stored = _store(tenants, changes, [record for record in kept if not record.is_addition], got_outcomes)
    rollups.write(list(changes.values()))
    choice_rows.follow(changes.values())
    numbers = {pk: {name: getattr(tenant, name) for name in _COUNTERS} for pk, tenant in tenants.items()}
    archive_rows.update(Tenant, numbers)
    erased = [record for record in given if record.tenant not in tenants]
    return WriteResult(stored, deleted, gone, erased, [pk for pk, row in tenants.items() if rollups.is_due(row)])


def _count(tenant: Tenant, old: Record | None, new: Record | None) -> None:
    """Count a visible change of an id: its version before and after, None where there is none."""
    tenant.record_count += (new is not None) - (old is not None)
    tenant.body_bytes += len(new.body if new else b"") - len(old.body if old else b"")


def _subtract(changes: Mapping[str, Changes], rows: Iterable[tuple[str, int]]) -> None:
    """Subtract rows, given by tenant and primary key, from the roll-ups before they change."""
    by_tenant: dict[str, list[int]] = {}
    for tenant, pk in rows:
        by_tenant.setdefault(tenant, []).append(pk)
    for tenant, pks in by_tenant.items():
        changes[tenant].remove(Trajectory.objects.using(alias()).filter(pk__in=pks))


def _delete(
    tenants: Mapping[str, Tenant], changes: Mapping[str, Changes], given: Sequence[Record]
) -> tuple[list[Record], DeletedCounts]:
    """Return tombstones of all deleted ids in ``given``, and the counts of rows deleted now."""
    found = archive_rows.read(Tombstone, ("tenant_id", "trajectory_id", "stamp"), set(map(key_of, given)))
    known = [tombstone(tenant, as_uuid(id_), stamp) for tenant, id_, stamp in found]
    known_keys = set(map(key_of, known))
    new = {key_of(record): record for record in given if record.is_tombstone and key_of(record) not in known_keys}
    gone, pending = DeletedCounts(), list(new.values())
    while pending:
        gone = gone.plus(_delete_some(tenants, changes, pending[:_DELETE_CHUNK]))
        del pending[:_DELETE_CHUNK]
    return [*known, *new.values()], gone


def _delete_some(
    tenants: Mapping[str, Tenant], changes: Mapping[str, Changes], tombstones: Sequence[Record]
) -> DeletedCounts:
    keys = list(map(key_of, tombstones))
    found = archive_rows.read(Trajectory, ("id", "seq", *TRAJECTORY_COLUMNS), keys)
    old = [archive_rows.record_from(row) for _, _, *row in found]
    pks, seqs = [pk for pk, *_ in found], {key_of(record): row[1] for record, row in zip(old, found, strict=True)}
    for record, (_, seq, *_) in zip(old, found, strict=True):
        _count(tenants[record.tenant], record, None)
        changes[record.tenant].replace(seq, record, None)
    _subtract(changes, ((record.tenant, pk) for record, pk in zip(old, pks, strict=True)))
    search_index.remove(pks, alias())
    notes = [pk for (pk,) in archive_rows.read(Annotation, ("id",), keys)]
    Annotation.objects.using(alias()).filter(pk__in=notes).delete()
    Phase.objects.using(alias()).filter(trajectory__in=pks).delete()
    archive_outcomes.delete(keys, pks)
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


def _store(
    tenants: Mapping[str, Tenant], changes: Mapping[str, Changes], records: Sequence[Record], got_outcomes: set[Key]
) -> list[Record]:
    keys = set(map(key_of, records)) | got_outcomes
    found = archive_rows.read(Trajectory, ("id", "seq", *TRAJECTORY_COLUMNS), keys)
    rows = ((pk, seq, archive_rows.record_from(row)) for pk, seq, *row in found)
    known = {key_of(record): _Known(pk, seq, record) for pk, seq, record in rows}
    merged = {key: row.record for key, row in known.items()}
    for record in records:
        merged[key_of(record)] = merge(merged.get(key_of(record)), record, from_authority=False)
    merged = archive_outcomes.with_outcomes(merged)
    # Sort by position, so that exports follow the order in which a host accepted the records.
    stored = sorted(merged.values(), key=lambda record: (record.tenant, record.position))
    # Before they change: sums subtract what the columns say.
    replacing = [row for key, row in known.items() if _visible(row.record) != _visible(merged[key])]
    _subtract(changes, ((row.record.tenant, row.pk) for row in replacing))
    new: list[Row] = []
    replaced: dict[int, Row] = {}
    with_outcomes: dict[int, Row] = {}
    restamped: dict[int, Row] = {}
    phases: dict[Key, list[tuple[Any, ...]]] = {}
    words: dict[Key, list[str]] = {}
    links: dict[Key, archive_outcomes.Links] = {}
    recent: list[Recent] = []
    for record in stored:
        key, tenant = key_of(record), tenants[record.tenant]
        old = known.get(key)
        if old and _visible(record) == _visible(old.record):
            if record.stamp != old.record.stamp:
                restamped[old.pk] = {"stamp": record.stamp}
            continue
        tenant.last_changed += 1
        facets, row, of_record, references, fields = archive_rows.values_of(record)
        links[key] = archive_outcomes.Links(references, facets.late)
        row["changed"] = tenant.last_changed
        if old is None or (old.record.digest, old.record.revision) != (record.digest, record.revision):
            phases[key], words[key] = of_record, words_of(fields)
        if old is None:
            tenant.last_seq += 1
            row |= {"tenant_id": tenant.pk, "trajectory_id": record.id, "seq": tenant.last_seq}
            new.append(row)
        elif key in phases:
            replaced[old.pk] = row
        else:  # packed phases are those of the rows of phases, which stay
            del row["packed_phases"]
            with_outcomes[old.pk] = row
        _count(tenant, old and old.record, record)
        if old is not None:
            changes[record.tenant].replace(old.seq, old.record, record)
        seq = old.seq if old else tenant.last_seq
        changes[record.tenant].add(seq, record.recorded_at_us, facets)
        recent.append(Recent(seq, tenant.last_changed, record, facets))
    archive_rows.insert(Trajectory, new)
    archive_rows.update(Trajectory, replaced)
    archive_rows.update(Trajectory, with_outcomes)
    archive_rows.update(Trajectory, restamped)
    pks = _replace_phases(phases, {key: row.pk for key, row in known.items()})
    archive_outcomes.write(
        {(key[0], pks[key]): of_run for key, of_run in links.items()}, replaced=[*replaced, *with_outcomes]
    )
    search_index.put([(pks[key], of_record) for key, of_record in words.items()], alias())
    transaction.on_commit(partial(recent_records.written.put, recent), using=alias())
    return stored


class _Known(NamedTuple):
    """A row that was there before the batch."""

    pk: int
    seq: int
    record: Record


def _visible(record: Record) -> tuple[str, int, int, bytes]:
    """Return the parts of a version whose change readers see."""
    return record.digest, record.revision, record.recorded_at_us, record.outcomes


def _replace_phases(phases: Mapping[Key, Sequence[tuple[Any, ...]]], known: Mapping[Key, int]) -> dict[Key, int]:
    """Write the phases of new and changed bodies.

    Args:
        known: primary keys of trajectories that were there before.

    Returns:
        The primary keys of all.
    """
    if old := [known[key] for key in phases if key in known]:
        Phase.objects.using(alias()).filter(trajectory__in=old).delete()
    new = [key for key in phases if key not in known]
    found = archive_rows.read(Trajectory, ("tenant_id", "trajectory_id", "id"), new)
    pks = dict(known) | {(tenant, as_uuid(id_)): pk for tenant, id_, pk in found}
    archive_rows.insert_phases([(pks[key], *row) for key, rows in phases.items() for row in rows])
    return pks


def locked(slugs: Collection[str]) -> dict[str, Tenant]:
    """Return the rows of these tenants, locked against other writers; without those that are
    erased.

    Rows are locked in the order of their slugs, so that two batches never wait for each other.
    Create the row when a host project's own tenant writes for the first time.
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
    return {tenant.pk: tenant for tenant in lock_tenants(Trajectory, slugs, alias())}


def _erased(slugs: Iterable[str]) -> set[str]:
    by_digest = {tenant_digest(slug): slug for slug in slugs}
    return {by_digest[digest] for digest in archive_rows.named(Erasure, "digest", by_digest)}
