"""The archive's decision on records that were sent to it, for the relay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple
from uuid import UUID

from django.db import connections

from trajectories.domain.record import Record, tenant_digest
from trajectories.models import Erasure, LateOutcome, Quarantined, Tombstone, Trajectory
from trajectories.storage.archive_errors import archive_errors
from trajectories.storage.archive_writes import alias


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
    wanted = set(versions)
    if not wanted:
        return DeliveryStatus(set(), set(), set(), set())
    tenants, ids = sorted({version.tenant for version in wanted}), sorted({version.id for version in wanted})
    by_digest = {tenant_digest(tenant): tenant for tenant in tenants}
    merged: dict[tuple[str, UUID | None], tuple[int, int]] = {}
    tombstones, poison, erased, outcomes = set(), set(), set(), set()
    wanted_outcomes = sorted({version.outcome for version in wanted if version.outcome})
    for kind, tenant, id_, stamp, recorded_at_us in _known_of(tenants, ids, list(by_digest), wanted_outcomes):
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
    for version in wanted:
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
    tenants: Sequence[str], ids: Sequence[UUID], digests: Sequence[str], outcomes: Sequence[UUID]
) -> Iterator[tuple[str, str, UUID | None, int, int]]:
    """Yield the archive's rows of these ids: (kind, tenant, id, stamp, recorded_at_us).

    The kinds are stored, deleted, refused, outcome, which has the id of the outcome, and erased, which
    has a digest for the tenant and no id.
    An id of another of ``tenants`` is found too. One statement without the ORM, because the relay asks
    several times for each batch, and building four querysets took most of its CPU.
    """
    connection = connections[alias()]
    id_field = Trajectory._meta.get_field("trajectory_id")
    of_ids = f"tenant_id IN ({_marks(tenants)}) AND trajectory_id IN ({_marks(ids)})"
    statement = (
        f"SELECT 'stored', tenant_id, trajectory_id, stamp, recorded_at_us FROM {Trajectory._meta.db_table} WHERE {of_ids}"
        f" UNION ALL SELECT 'deleted', tenant_id, trajectory_id, 0, 0 FROM {Tombstone._meta.db_table} WHERE {of_ids}"
        f" UNION ALL SELECT 'refused', tenant_id, trajectory_id, stamp, 0 FROM {Quarantined._meta.db_table} WHERE {of_ids}"
        f" UNION ALL SELECT 'erased', digest, NULL, 0, 0 FROM {Erasure._meta.db_table} WHERE digest IN ({_marks(digests)})"
    )
    given = [*tenants, *(id_field.get_db_prep_value(id_, connection) for id_ in ids)]
    values = [*given, *given, *given, *digests]
    if outcomes:
        statement += (
            f" UNION ALL SELECT 'outcome', tenant_id, outcome_id, 0, 0 FROM {LateOutcome._meta.db_table}"
            f" WHERE tenant_id IN ({_marks(tenants)}) AND outcome_id IN ({_marks(outcomes)})"
        )
        values += [*tenants, *(id_field.get_db_prep_value(id_, connection) for id_ in outcomes)]
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        found = cursor.fetchall()
    for kind, tenant, id_, stamp, recorded_at_us in found:
        yield kind, tenant, id_ if id_ is None or isinstance(id_, UUID) else UUID(id_), stamp, recorded_at_us


def _marks(values: Sequence[object]) -> str:
    return ", ".join(["%s"] * len(values))
