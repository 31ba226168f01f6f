"""Sums of choices in the archive (``choice_rows``), as recommendations read them."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from trajectories.domain.choice_sums import Choice, PhaseCells, Scope, Sums
from trajectories.domain.clock import DAY_US
from trajectories.domain.record import Position
from trajectories.models import Tenant, Trajectory
from trajectories.storage import rollup_reads
from trajectories.storage.archive_errors import archive_errors
from trajectories.storage.archive_rows import alias
from trajectories.storage.choice_rows import CHOICES
from trajectories.storage.rollup_rows import loads, rows_of

MAX_BEHIND = 5_000
"""Records after the last counted one up to which the sums are read."""
MAX_ROWS = 5_000
"""Rows that are read, those of the newest weeks. A row of five phases and four models takes about
10 kB of memory."""


class Archived(NamedTuple):
    """The sums of a tenant's archived records.

    - ``cells``: of the counted records, by phase.
    - ``later``: ids and positions of the records that are not counted yet.
    """

    cells: dict[str, PhaseCells]
    later: dict[UUID, Position]


@archive_errors()
def read(tenant: str) -> Archived | None:
    """Return the sums of a tenant; None if they lack changes, or more than ``MAX_BEHIND`` records.

    The caller holds ``archive_snapshot.snapshot``.
    """
    row = Tenant.objects.using(alias()).filter(pk=tenant).first()
    if row is None:
        return Archived({}, {})
    if not rollup_reads.is_current(row) or row.last_seq - row.learned_seq > MAX_BEHIND:
        return None
    phases: dict[str, dict[Scope, dict[Choice, Sums]]] = {}
    rows = rows_of(tenant, alias(), is_total=False).filter(day=CHOICES).order_by("-start")[:MAX_ROWS]
    columns = rows.values_list("start", "request_type", "project", "details")
    for start, request_type, project, details in columns:
        scope, week = Scope(request_type, project), start * DAY_US
        for kind, phase, model, after, advice, *sums in loads(details):
            cell = phases.setdefault(phase, {}).setdefault(scope, {})
            cell[Choice(kind, model, after, week, advice)] = Sums._make(sums)
    later = Trajectory.objects.using(alias()).filter(tenant=tenant, seq__gt=row.learned_seq)
    return Archived(
        {phase: PhaseCells.of_scopes(phase, by_scope) for phase, by_scope in phases.items()},
        {id_: Position(at_us, id_) for id_, at_us in later.values_list("trajectory_id", "recorded_at_us")},
    )
