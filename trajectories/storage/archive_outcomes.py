"""Late outcomes in the archive, written under the lock of the tenant's row (``archive_writes``).

``LateOutcome`` has every outcome by its target, whether or not a run has come. ``Reference`` has the
references of each run. From both, each run gets its outcomes in a column, and ``RunOutcome`` has the
values that stats count.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson
from django.db import router, transaction
from django.db.models import Exists, F, OuterRef, QuerySet

from trajectories.conf import read_settings
from trajectories.domain.late_outcomes import collect, facets_of_outcomes, has_references, join, references_of
from trajectories.domain.record import Record
from trajectories.models import LateOutcome, Reference, RunOutcome, Trajectory
from trajectories.storage.archive_errors import archive_errors

_CHUNK = 500
"""Targets in a statement, below SQLite's number of variables."""
MAX_RUNS = 1_000
"""Runs that one reference may have when an outcome of it arrives: all of them are written at once."""


class TooMany(ValueError):
    """The outcome is refused, as a value is that the database refuses."""


def take(tenant: str, additions: Sequence[Record]) -> set[UUID]:
    """Store new outcomes once, and return the ids of the runs that may have got one.

    Raises:
        TooMany: a target would have more than ``outcomes_per_target``, or has more than MAX_RUNS runs.
    """
    if not additions:
        return set()
    rows = _rows(LateOutcome)
    given = {UUID(one["id"]): (r, orjson.dumps(one)) for r in additions for one in orjson.loads(r.body)}
    known = set(rows.filter(tenant=tenant, outcome_id__in=given).values_list("outcome_id", flat=True))
    new = {id_: pair for id_, pair in given.items() if id_ not in known}
    _expect_room(rows.filter(tenant=tenant), Counter(record.id for record, _ in new.values()))
    rows.bulk_create(
        LateOutcome(tenant_id=tenant, outcome_id=id_, target_id=record.id, stamp=record.stamp, body=body.decode())
        for id_, (record, body) in new.items()
    )
    # Also of known ones: their batch may repeat because Redis did not get its result.
    targets = {record.id for record in additions}
    runs = runs_of(tenant, targets)
    if len(runs) > MAX_RUNS:
        raise TooMany(f"More than {MAX_RUNS} runs have this reference; name a narrower one.")
    return targets | set(runs)


def _expect_room(rows: QuerySet[LateOutcome], new: Mapping[UUID, int]) -> None:
    most = read_settings().outcomes_per_target
    for target, count in new.items():
        if rows.filter(target_id=target).count() + count > most:
            raise TooMany(f"The target {target} would have more than {most} outcomes.")


@archive_errors()
def runs_of(tenant: str, targets: Iterable[UUID]) -> list[UUID]:
    """Return the ids of the runs that have one of these references, at most one more than MAX_RUNS."""
    found = _rows(Reference).filter(tenant=tenant, reference_id__in=list(targets))
    return list(found.values_list("trajectory__trajectory_id", flat=True).distinct()[: MAX_RUNS + 1])


def with_outcomes(tenant: str, records: Mapping[UUID, Record]) -> dict[UUID, Record]:
    """Return each record with the outcomes that it has now.

    A run keeps outcomes of references that it had before: ``late_outcomes.shown`` leaves them out.
    """
    # Most tenants have none, and then no body is parsed.
    if not _rows(LateOutcome).filter(tenant=tenant).exists():
        return dict(records)
    targets = {id_: [id_, *_references(record)] for id_, record in records.items()}
    by_target: dict[UUID, list[Any]] = defaultdict(list)
    wanted = sorted({target for of_run in targets.values() for target in of_run})
    for start in range(0, len(wanted), _CHUNK):
        found = _rows(LateOutcome).filter(tenant=tenant, target_id__in=wanted[start : start + _CHUNK])
        for target, body in found.values_list("target_id", "body"):
            by_target[target].append(orjson.loads(body))
    return {
        id_: record.with_outcomes(
            join(record.outcomes, collect(one for target in targets[id_] for one in by_target.get(target, ())))
        )
        for id_, record in records.items()
    }


def write(rows: Sequence[tuple[Trajectory, Record]], *, changed: Sequence[int]) -> None:
    """Write the references of these runs, and the values that stats count of their outcomes.

    Args:
        changed: primary keys of those that were there before.
    """
    if changed:
        _rows(Reference).filter(trajectory__in=changed).delete()
        _rows(RunOutcome).filter(trajectory__in=changed).delete()
    references, late = [], []
    for row, record in rows:
        of_run = {"tenant_id": record.tenant, "trajectory": row}
        references += [Reference(reference_id=id_, **of_run) for id_ in _references(record)]
        if record.outcomes:
            facets = facets_of_outcomes(record.outcomes, orjson.loads(record.body))
            late += [RunOutcome(**one._asdict(), **of_run) for one in facets]
    _rows(Reference).bulk_create(references)
    _rows(RunOutcome).bulk_create(late)


def delete(tenant: str, ids: Iterable[UUID]) -> None:
    """Delete the outcomes of these runs, and those of references that no other run has."""
    wanted = list(ids)
    own = _rows(Reference).filter(tenant=tenant, trajectory__trajectory_id__in=wanted)
    others = _rows(Reference).filter(tenant=tenant, reference_id=OuterRef("reference_id"))
    alone = own.exclude(Exists(others.exclude(trajectory__trajectory_id__in=wanted)))
    targets = {*wanted, *alone.values_list("reference_id", flat=True)}
    _rows(LateOutcome).filter(tenant=tenant, target_id__in=targets).delete()
    own.delete()
    _rows(RunOutcome).filter(tenant=tenant, trajectory__trajectory_id__in=wanted).delete()


@archive_errors()
def forget_waiting(before_us: int, limit: int) -> int:
    """Delete some outcomes from before ``before_us`` whose run has not come; return their number."""
    rows = _rows(LateOutcome)
    runs = _rows(Trajectory).filter(tenant=OuterRef("tenant"), trajectory_id=OuterRef("target_id"))
    named = _rows(Reference).filter(tenant=OuterRef("tenant"), reference_id=OuterRef("target_id"))
    old = rows.filter(stamp__lt=before_us).exclude(Exists(runs)).exclude(Exists(named))
    gone, _ = rows.filter(pk__in=list(old.values_list("pk", flat=True)[:limit])).delete()
    return int(gone)


def fill_references(trajectories: Any, references: Any, alias: str) -> int:
    """Write the references of the trajectories that a release without them has stored.

    Writes may go on. Rows that a process of an earlier release writes later need another call.

    Args:
        trajectories: the model, or its form in a migration.
        references: likewise.

    Returns:
        The number of references that were written.
    """
    rows, count, after = trajectories.objects.using(alias).order_by("pk"), 0, 0
    while pks := list(rows.filter(pk__gt=after).values_list("pk", flat=True)[:_CHUNK]):
        after = pks[-1]
        with transaction.atomic(using=alias):
            # The update locks the rows, so no worker replaces a body between the read and the write.
            rows.filter(pk__in=pks).update(seq=F("seq"))
            found = rows.filter(pk__in=pks).values_list("pk", "tenant_id", "body")
            made = [
                references(tenant_id=tenant, trajectory_id=pk, reference_id=id_)
                for pk, tenant, body in found
                for id_ in _references_in(body.encode())
            ]
            references.objects.using(alias).bulk_create(made, ignore_conflicts=True)
        count += len(made)
    return count


def _references(record: Record) -> list[UUID]:
    return _references_in(record.body)


def _references_in(body: bytes) -> list[UUID]:
    return references_of(orjson.loads(body)) if has_references(body) else []


def _rows(model: Any) -> Any:
    return model._default_manager.using(router.db_for_write(Trajectory))
