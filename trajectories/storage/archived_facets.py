"""Facets of archived records, as far as sums need them.

They come from the columns, as the sums of a scan do: aliases of phases and the rules of credit may
have changed since. They lack summary, tags, agents and tools, so only a query that roll-ups cover
may be compared with them; ``archive_reads.compared`` takes any.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import groupby
from operator import itemgetter
from typing import Any

from django.db import connections
from django.db.models import QuerySet

from trajectories.domain.late_outcomes import LateFacets
from trajectories.domain.record import Facets, PhaseFacets
from trajectories.models import Phase, RunOutcome, Trajectory

_CHUNK = 400
"""Keys in a statement, below SQLite's number of variables."""


def archived(rows: QuerySet[Trajectory], alias: str) -> Iterator[tuple[int, int, Facets]]:
    """Yield seq, recorded_at_us and facets of ``rows``."""
    found = list(rows.values_list(*_RUN_COLUMNS))
    phases: dict[int, list[PhaseFacets]] = {pk: [] for pk, *_ in found}
    pks = list(phases)
    for start in range(0, len(pks), _CHUNK):
        of_rows = Phase.objects.using(alias).filter(trajectory__in=pks[start : start + _CHUNK])
        # In their order, since an outcome has the place of its phase.
        for pk, *values in of_rows.order_by("trajectory_id", "place").values_list("trajectory_id", *_PHASE_FACETS):
            phases[pk].append(_phase(values))
    late = _late([pk for pk, _, _, outcomes, *_ in found if outcomes], alias)
    for pk, seq, recorded_at_us, _, *values in found:
        yield seq, recorded_at_us, _run(values, phases[pk], late.get(pk, ()))


def changed_since(tenant: str, changed: int, alias: str) -> list[tuple[int, int, Facets]]:
    """Return ``archived`` of the rows of a tenant whose last change is after ``changed``.

    One statement, which is made once: for a few records, the ORM takes longer to write it than the
    database to answer.
    """
    sql, runs = _statement(alias), len(_RUN_COLUMNS)
    with connections[alias].cursor() as cursor:
        cursor.execute(sql, (tenant, changed))
        rows = cursor.fetchall()
    late = _late({row[0] for row in rows if row[3]}, alias)
    found = []
    for pk, of_run in groupby(rows, itemgetter(0)):
        together = list(of_run)
        _, seq, recorded_at_us, _, *values = together[0][:runs]
        for at in _BOOLEANS:  # SQLite has numbers for them
            values[at] = None if values[at] is None else bool(values[at])
        phases = [_phase(row[runs + 1 :]) for row in together if row[runs] is not None]
        found.append((seq, recorded_at_us, _run(values, phases, late.get(pk, ()))))
    return found


@cache
def _statement(alias: str) -> str:
    of_phases = [f"phases__{name}" for name in ("place", *_PHASE_FACETS)]
    # The parameters are in the order of the filters: one call would sort them by name.
    rows = Trajectory.objects.using(alias).filter(tenant="").filter(changed__gt=0)
    rows = rows.order_by("changed", "phases__place")
    return str(rows.values_list(*_RUN_COLUMNS, *of_phases).query.get_compiler(alias).as_sql()[0])


def _late(pks: Iterable[int], alias: str) -> dict[int, list[LateFacets]]:
    """Return the late outcomes of runs that have some."""
    found: dict[int, list[LateFacets]] = {}
    keys = list(pks)
    for start in range(0, len(keys), _CHUNK):
        outcomes = RunOutcome.objects.using(alias).filter(trajectory__in=keys[start : start + _CHUNK])
        for pk, *values in outcomes.values_list("trajectory_id", *LateFacets._fields):
            found.setdefault(pk, []).append(LateFacets._make(values))
    return found


def _phase(values: Sequence[Any]) -> PhaseFacets:
    return PhaseFacets._make(_of_phase((*values, None, (), "")))


def _run(values: Sequence[Any], phases: Sequence[PhaseFacets], late: Sequence[LateFacets]) -> Facets:
    return Facets._make(_of_run((*values, "", (), tuple(phases), tuple(late))))


def _order(fields: Sequence[str], last: Sequence[str]) -> tuple[list[str], itemgetter[Any]]:
    """Return ``fields`` without ``last``, and what puts their values, followed by those of
    ``last``, in order."""
    columns = [name for name in fields if name not in last]
    return columns, itemgetter(*((*columns, *last).index(name) for name in fields))


_TRAJECTORY_FACETS, _of_run = _order(Facets._fields, ("request_summary_folded", "tags", "phases", "late"))
_PHASE_FACETS, _of_phase = _order(PhaseFacets._fields, ("agent", "tools", "credit_source"))
_RUN_COLUMNS = ("pk", "seq", "recorded_at_us", "outcome_count", *_TRAJECTORY_FACETS)
_BOOLEANS = [_TRAJECTORY_FACETS.index(name) for name in ("build_passed", "tests_passed")]
