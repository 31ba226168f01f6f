"""Columns of rows that an earlier release wrote without them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from django.db import transaction
from django.db.models import Exists, F, OuterRef

from trajectories.domain.compression import from_columns
from trajectories.domain.packed_phases import NUMBERS, PHASE_WORDS, RUN_WORDS, TOTALS, packed
from trajectories.domain.record import facets_of
from trajectories.storage.archive_rows import EXPORT_COLUMNS, export_columns_of, update
from trajectories.storage.tenant_locks import lock_tenants

_BATCH = 100
"""Trajectories in a transaction: at 200 phases each, the ids stay below SQLite's number of
variables."""


def fill_credit(
    trajectories: Any, phases: Any, alias: str, *, on_tenants: Callable[[list[str]], object] = lambda tenants: None
) -> int:
    """Fill ``credited`` and ``presence`` of the phases that lack them, from the bodies.

    Writes may go on. Rows that a process of an earlier release writes later need another call.

    Args:
        trajectories: the model, or its form in a migration.
        phases: likewise.
        on_tenants: called in each transaction, before it locks a row, with the tenants in it.

    Returns:
        The number of trajectories that were filled.
    """
    lacking = phases.objects.using(alias).filter(trajectory=OuterRef("pk"), credited__isnull=True)
    rows = trajectories.objects.using(alias).filter(Exists(lacking)).order_by("pk")
    count, after = 0, 0
    while pks := list(rows.filter(pk__gt=after).values_list("pk", flat=True)[:_BATCH]):
        # Read before the transaction, which begins with a write: SQLite could not upgrade a reader.
        tenants = trajectories.objects.using(alias).filter(pk__in=pks).order_by().values_list("tenant", flat=True)
        tenants = sorted(set(tenants))
        with transaction.atomic(using=alias):
            lock_tenants(trajectories, tenants, alias)
            on_tenants(tenants)
            _fill(trajectories.objects.using(alias).filter(pk__in=pks), phases.objects.using(alias))
        count, after = count + len(pks), pks[-1]
    return count


def _fill(rows: Any, phases: Any) -> None:
    # The update locks the rows, so no worker replaces a body between the read and the write.
    rows.update(seq=F("seq"))
    # A migration's form of the model has no compressed bodies, and no row with one.
    names = [field.name for field in rows.model._meta.get_fields() if field.name == "compressed_body"]
    facets = {
        pk: facets_of(from_columns(body, *(compressed or [None])))
        for pk, body, *compressed in rows.values_list("pk", "body", *names)
    }
    by_values = defaultdict(list)
    found = phases.filter(trajectory__in=list(facets), credited__isnull=True)
    for pk, trajectory, place in found.values_list("pk", "trajectory", "place"):
        phase = facets[trajectory].phases[place]
        by_values[phase.credited, phase.presence].append(pk)
    for (credited, presence), pks in by_values.items():
        phases.filter(pk__in=pks).update(credited=credited, presence=presence)


def fill_export_facts(trajectories: Any, alias: str, *, is_complete: bool = False) -> int:
    """Compute the columns by which exports leave out runs, of rows that lack them, from the bodies.

    Writes may go on. Stats do not read them, so no roll-up is set aside.

    Args:
        trajectories: the model, or its form in a migration.
        is_complete: also of the others: a worker of an earlier release that replaced a body has left
            the columns of the one before, and aliases of phases may have changed.

    Returns:
        The number of rows whose columns were wrong.
    """

    def fill(rows: Any, pks: Sequence[int]) -> int:
        changed = {}
        for pk, body, compressed_body, *known in rows.values_list("pk", "body", "compressed_body", *EXPORT_COLUMNS):
            columns = export_columns_of(from_columns(body, compressed_body))
            if known != [columns[name] for name in EXPORT_COLUMNS]:
                changed[pk] = columns
        update(trajectories, changed, alias)
        return len(changed)

    # The newest of the columns: a row that has it has the others.
    return _fill_some_at_a_time(trajectories, alias, "project_bucket", fill, is_complete=is_complete)


def fill_packed_phases(trajectories: Any, phases: Any, alias: str, *, is_complete: bool = False) -> int:
    """Pack the phases of rows that lack it, from the rows of phases.

    Writes may go on. They change no answer, so no roll-up is set aside.

    Args:
        trajectories: the model, or its form in a migration.
        phases: likewise.
        is_complete: also of the others, whose phases may have got their credit since.

    Returns:
        The number of rows that changed.
    """

    def fill(rows: Any, pks: Sequence[int]) -> int:
        changed, by_run = {}, defaultdict[int, list[Any]](list)
        of_runs = phases.objects.using(alias).filter(trajectory__in=pks).order_by("trajectory", "place")
        for pk, *values in of_runs.values_list("trajectory", *PHASE_WORDS, *NUMBERS):
            by_run[pk].append((tuple(values[: len(PHASE_WORDS)]), values[len(PHASE_WORDS) :]))
        names = ("pk", "packed_phases", "revision", *RUN_WORDS, *TOTALS)
        for pk, known, revision, *values in rows.values_list(*names):
            data = packed(revision, tuple(values[: len(RUN_WORDS)]), values[len(RUN_WORDS) :], by_run[pk])
            if (known and bytes(known)) != data:
                changed[pk] = {"packed_phases": data}
        update(trajectories, changed, alias)
        return len(changed)

    return _fill_some_at_a_time(trajectories, alias, "packed_phases", fill, is_complete=is_complete)


def _fill_some_at_a_time(
    trajectories: Any, alias: str, column: str, fill: Callable[[Any, Sequence[int]], int], *, is_complete: bool
) -> int:
    """Call ``fill`` with rows that lack ``column``, or with all, and their keys; return the sum of what
    it returns."""
    rows, count, after = trajectories.objects.using(alias).order_by("pk"), 0, 0
    if not is_complete:
        rows = rows.filter(**{f"{column}__isnull": True})
    while chunk := list(rows.filter(pk__gt=after).values_list("pk", "tenant")[:_BATCH]):
        pks, tenants = zip(*chunk, strict=True)
        after = pks[-1]
        with transaction.atomic(using=alias):
            # Under the lock of all writers, so none replaces a body between the read and the write.
            lock_tenants(trajectories, tenants, alias)
            count += fill(trajectories.objects.using(alias).filter(pk__in=pks), pks)
    return count
