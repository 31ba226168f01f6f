"""The archive's decision on records that were sent to it, for the relay."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple
from uuid import UUID

from django.db import connections

from trajectories.domain.record import Record, tenant_digest
from trajectories.models import Erasure, LateOutcome, Quarantined, Tombstone, Trajectory
from trajectories.storage.archive_errors import archive_errors
from trajectories.storage.archive_rows import Key, alias, as_uuid, key_values, of_wanted, wanted


class Version(NamedTuple):
    """A version of a record, as far as its delivery is concerned."""

    tenant: str
    id: UUID
    stamp: int
    recorded_at_us: int
    outcome: UUID | None = None
    """The id of its late outcome, if it is an addition."""

    @classmethod
    def of(cls, record: Record) -> Version:
        outcome = UUID(record.digest) if record.is_addition else None
        return cls(record.tenant, record.id, record.stamp, record.recorded_at_us, outcome)


class DeliveryStatus(NamedTuple):
    """The archive's decision on versions; no two of the sets of versions overlap.

    - ``confirmed``: the archive has merged this version: its stamp is at least this one, and its
      ``recorded_at_us`` at most. A later stamp alone proves nothing, because it may come from
      another host while the batch of this version was lost. An addition is merged when its outcome
      is stored.
    - ``refused``: the archive refused this version.
    - ``deleted``: the id of this version is deleted.
    - ``erased``: erased tenants; each of their versions is also in ``deleted``.
    """

    confirmed: set[Version]
    refused: set[Version]
    deleted: set[Version]
    erased: set[str]


@archive_errors()
def delivery_status(versions: Sequence[Version]) -> DeliveryStatus:
    """Return the delivery status of those ``versions`` that the archive knows."""
    asked = set(versions)
    if not asked:
        return DeliveryStatus(set(), set(), set(), set())
    by_digest = {tenant_digest(tenant): tenant for tenant in {version.tenant for version in asked}}
    merged: dict[tuple[str, UUID | None], tuple[int, int]] = {}
    tombstones, poison, erased, outcomes = set(), set(), set(), set()
    asked_outcomes = {(version.tenant, version.outcome) for version in asked if version.outcome}
    known = _known_of({version[:2] for version in asked}, list(by_digest), asked_outcomes)
    for kind, tenant, id_, stamp, recorded_at_us in known:
        if kind == "erased":
            erased.add(by_digest[tenant])
        elif kind == "deleted":
            tombstones.add((tenant, id_))
        elif kind == "refused":
            poison.add((tenant, id_, stamp))
        elif kind == "outcome":
            outcomes.add((tenant, id_))
        else:
            merged[tenant, id_] = stamp, recorded_at_us
    confirmed, refused, deleted = set(), set(), set()
    for version in asked:
        stamp, recorded_at_us = merged.get((version.tenant, version.id), (0, 0))
        if version.tenant in erased or (version.tenant, version.id) in tombstones:
            deleted.add(version)
        elif version[:3] in poison:
            refused.add(version)
        elif version.outcome is not None:
            if (version.tenant, version.outcome) in outcomes:
                confirmed.add(version)
        elif stamp >= version.stamp and recorded_at_us <= version.recorded_at_us:
            confirmed.add(version)
    return DeliveryStatus(confirmed, refused, deleted, erased)


def _known_of(
    keys: Collection[Key], digests: Sequence[str], outcomes: Collection[Key]
) -> Iterator[tuple[str, str, UUID | None, int, int]]:
    """Yield the archive's rows of these ids: (kind, tenant, id, stamp, recorded_at_us).

    The kinds are stored, deleted, refused, outcome, which has the id of the outcome, and erased,
    which has a digest for the tenant and no id. One statement without the ORM, because the relay
    asks several times for each batch, and building four querysets took most of its CPU.
    """
    clause, values = wanted(keys)
    statement = (
        f"{clause} SELECT 'stored', held.tenant_id, held.trajectory_id, held.stamp, held.recorded_at_us"
        f" {of_wanted(Trajectory)}"
        f" UNION ALL SELECT 'deleted', held.tenant_id, held.trajectory_id, 0, 0 {of_wanted(Tombstone)}"
        f" UNION ALL SELECT 'refused', held.tenant_id, held.trajectory_id, held.stamp, 0 {of_wanted(Quarantined)}"
        f" UNION ALL SELECT 'erased', digest, NULL, 0, 0 FROM {Erasure._meta.db_table} WHERE digest IN ({_marks(digests)})"
    )
    given = [*values, *digests]
    if outcomes:
        pairs = ", ".join(["(%s, %s)"] * len(outcomes))
        statement += (
            f" UNION ALL SELECT 'outcome', tenant_id, outcome_id, 0, 0 FROM {LateOutcome._meta.db_table}"
            f" WHERE (tenant_id, outcome_id) IN (VALUES {pairs})"
        )
        given += key_values(outcomes)
    with connections[alias()].cursor() as cursor:
        cursor.execute(statement, given)
        found = cursor.fetchall()
    for kind, tenant, id_, stamp, recorded_at_us in found:
        yield kind, tenant, None if id_ is None else as_uuid(id_), stamp, recorded_at_us


def _marks(values: Sequence[object]) -> str:
    return ", ".join(["%s"] * len(values))
