"""Late outcomes in the archive, written under the locks of the tenants' rows (``archive_batch``).

``LateOutcome`` has every outcome by its target, whether or not a run has come. ``Reference`` has
the references of each run. From both, each run gets its outcomes in a column, and ``RunOutcome``
has the values that stats count.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from django.db import transaction
from django.db.models import Exists, F, OuterRef

from trajectories.conf import read_settings
from trajectories.domain.compression import from_columns
from trajectories.domain.late_outcomes import LateFacets, collect, has_references, join, references_of
from trajectories.domain.record import Record
from trajectories.models import LateOutcome, Reference, RunOutcome, Tenant, Trajectory
from trajectories.storage import archive_rows
from trajectories.storage.archive_errors import archive_errors
from trajectories.storage.archive_rows import Key, Row, alias, as_uuid, key_of
from trajectories.storage.tenant_locks import lock_tenants

_CHUNK = 500
"""Targets in a statement, below SQLite's number of variables."""
MAX_RUNS = 1_000
"""Runs that one reference may have when an outcome of it arrives: all of them are written at once."""


MAX_REFERRED_CHARS = 32 * 1024
"""Characters of outcomes that a run gets of its references, in order of acceptance: 100 of ordinary size. A
run of 80 bytes may name 200 references, each with 1.5 MiB, and every tier keeps its outcomes."""


class TooMany(ValueError):
    """The outcome is refused, as a value is that the database refuses."""


class Links(NamedTuple):
    """The ids of the references of a run, and its outcomes as stats count them."""

    references: Sequence[UUID]
    late: Sequence[LateFacets]


def take(additions: Sequence[Record]) -> set[Key]:
    """Store new outcomes once, and return the keys of the runs that may have got one.

    Raises:
        TooMany: a target would have more than ``outcomes_per_target``, or has more than MAX_RUNS
            runs.
    """
    if not additions:
        return set()
    given = {
        (record.tenant, UUID(one["id"])): (record, orjson.dumps(one))
        for record in additions
        for one in orjson.loads(record.body)
    }
    found = archive_rows.read(LateOutcome, ("tenant_id", "outcome_id"), given, by="outcome_id")
    known = {(tenant, as_uuid(id_)) for tenant, id_ in found}
    new = {key: pair for key, pair in given.items() if key not in known}
    _expect_room(Counter(key_of(record) for record, _ in new.values()))
    rows = [
        {
            "tenant_id": tenant,
            "outcome_id": id_,
            "target_id": record.id,
            "stamp": record.stamp,
            "body": body.decode(),
        }
        for (tenant, id_), (record, body) in new.items()
    ]
    archive_rows.insert(LateOutcome, rows)
    # Also of known ones: their batch may repeat because Redis did not get its result.
    targets = set(map(key_of, additions))
    runs = _runs_of(targets)
    if len(runs) > MAX_RUNS:
        raise TooMany(f"More than {MAX_RUNS} runs have this reference; name a narrower one.")
    return targets | runs


def _expect_room(new: Mapping[Key, int]) -> None:
    most = read_settings().outcomes_per_target
    found = archive_rows.read(LateOutcome, ("tenant_id", "target_id"), new, by="target_id")
    known = Counter((tenant, as_uuid(target)) for tenant, target in found)
    for key, count in new.items():
        if known[key] + count > most:
            raise TooMany(f"The target {key[1]} would have more than {most} outcomes.")


def _runs_of(targets: Collection[Key]) -> set[Key]:
    """Return the runs that have one of these references, at most one more than MAX_RUNS of them."""
    of_targets, runs = archive_rows.of_wanted(Reference, "reference_id"), archive_rows.table_of(Trajectory)
    joined = f"{of_targets} JOIN {runs} run ON run.id = held.trajectory_id"
    limited = f"{joined} LIMIT {MAX_RUNS + 1}"
    found = archive_rows.select("DISTINCT run.tenant_id, run.trajectory_id", limited, targets)
    return {(tenant, as_uuid(id_)) for tenant, id_ in found}


@archive_errors()
def runs_of(tenant: str, targets: Iterable[UUID]) -> list[UUID]:
    """Return the ids of the runs that have one of these references, at most one more than MAX_RUNS."""
    return [id_ for _, id_ in _runs_of({(tenant, target) for target in targets})]


def with_outcomes(records: Mapping[Key, Record]) -> dict[Key, Record]:
    """Return each record with the outcomes that it has now.

    A run keeps outcomes of references that it had before: ``late_outcomes.shown`` leaves them out.
    """
    # Most tenants have none, and then no body is parsed.
    has_some = f"EXISTS (SELECT 1 FROM {archive_rows.table_of(LateOutcome)} late WHERE late.tenant_id = held.slug)"  # noqa: S608
    tenants = set(archive_rows.named(Tenant, "slug", {tenant for tenant, _ in records}, has_some))
    targets = {
        key: [key[1], *_references_in(record.body)] for key, record in records.items() if record.tenant in tenants
    }
    given = _given(targets, records)
    bodies = {
        (tenant, as_uuid(id_)): body
        for tenant, id_, body in archive_rows.read(
            LateOutcome,
            ("tenant_id", "outcome_id", "body"),
            sorted({(tenant, id_) for (tenant, _), ids in given.items() for id_ in ids}),
            by="outcome_id",
        )
    }
    result = dict(records)
    for key, ids in given.items():
        late = collect(orjson.loads(bodies[key[0], id_]) for id_ in ids)
        result[key] = records[key].with_outcomes(join(records[key].outcomes, late))
    return result


class _Sized(NamedTuple):
    """The size of an outcome. It sorts by acceptance."""

    stamp: int
    id: UUID
    chars: int


def _given(targets: Mapping[Key, Sequence[UUID]], records: Mapping[Key, Record]) -> dict[Key, list[UUID]]:
    """Return the ids of the outcomes that each run gets: all of its own, and the first of its
    references.

    Args:
        targets: of each run: its own id, then its references.
    """
    by_target: dict[Key, list[_Sized]] = defaultdict(list)
    wanted = sorted({(key[0], target) for key, of_run in targets.items() for target in of_run})
    columns = "held.tenant_id, held.target_id, held.stamp, held.outcome_id, length(held.body)"
    for tenant, target, stamp, id_, size in archive_rows.select(
        columns, archive_rows.of_wanted(LateOutcome, "target_id"), wanted
    ):
        by_target[tenant, as_uuid(target)].append(_Sized(stamp, as_uuid(id_), size))
    given = {}
    for key, (own, *references) in targets.items():
        referred = sorted({one for target in references for one in by_target.get((key[0], target), ())})
        mine = [one.id for one in by_target.get((key[0], own), ())]
        if mine or referred:
            given[key] = mine + _first(referred, records[key].outcomes if referred else b"")
    return given


def _first(referred: Sequence[_Sized], known: bytes) -> list[UUID]:
    """Return the outcomes of references that have room beside those that the run has, or had."""
    kept = {UUID(one["id"]): one for one in orjson.loads(known or b"[]") if "reference" in one}
    used, found = sum(len(orjson.dumps(one).decode()) for one in kept.values()), []
    for one in referred:
        used += 0 if one.id in kept else one.chars
        if used > MAX_REFERRED_CHARS:
            break
        found.append(one.id)
    return found


def write(links: Mapping[tuple[str, int], Links], *, replaced: Sequence[int]) -> None:
    """Write the references of runs, and the values that stats count of their outcomes.

    Args:
        links: by tenant and primary key of the run.
        replaced: primary keys of those that were there before.
    """
    if replaced:
        _rows(Reference).filter(trajectory__in=replaced).delete()
        _rows(RunOutcome).filter(trajectory__in=replaced).delete()
    references, late = list[Row](), list[Row]()
    for (tenant, pk), of_run in links.items():
        run: Row = {"tenant_id": tenant, "trajectory_id": pk}
        references += [run | {"reference_id": id_} for id_ in of_run.references]
        late += [run | one._asdict() for one in of_run.late]
    archive_rows.insert(Reference, references)
    archive_rows.insert(RunOutcome, late)


def delete(keys: Sequence[Key], pks: Sequence[int]) -> None:
    """Delete the outcomes of runs, and those of references that no other run has.

    Args:
        keys: the runs and targets that are deleted.
        pks: the primary keys of those that are archived.
    """
    own = _rows(Reference).filter(trajectory__in=pks)
    others = _rows(Reference).filter(tenant=OuterRef("tenant"), reference_id=OuterRef("reference_id"))
    alone = own.exclude(Exists(others.exclude(trajectory__in=pks))).values_list("tenant_id", "reference_id")
    gone = [pk for (pk,) in archive_rows.read(LateOutcome, ("id",), {*keys, *alone}, by="target_id")]
    for start in range(0, len(gone), _CHUNK):
        _rows(LateOutcome).filter(pk__in=gone[start : start + _CHUNK]).delete()
    own.delete()
    _rows(RunOutcome).filter(trajectory__in=pks).delete()


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
    while chunk := list(rows.filter(pk__gt=after).values_list("pk", "tenant")[:_CHUNK]):
        pks, tenants = zip(*chunk, strict=True)
        after = pks[-1]
        with transaction.atomic(using=alias):
            lock_tenants(trajectories, tenants, alias)
            # The update locks the rows, so no worker replaces a body between the read and the write.
            rows.filter(pk__in=pks).update(seq=F("seq"))
            found = rows.filter(pk__in=pks).values_list("pk", "tenant_id", "body", "compressed_body")
            made = [
                references(tenant_id=tenant, trajectory_id=pk, reference_id=id_)
                for pk, tenant, *body in found
                for id_ in _references_in(from_columns(*body))
            ]
            references.objects.using(alias).bulk_create(made, ignore_conflicts=True)
        count += len(made)
    return count


def _references_in(body: bytes) -> list[UUID]:
    return references_of(orjson.loads(body)) if has_references(body) else []


def _rows(model: Any) -> Any:
    return model._default_manager.using(alias())
