"""Sample runs in the archive, for the pages of figures."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import Any

from tests.admin.rows import record
from trajectories.domain.clock import now_us
from trajectories.models import Trajectory
from trajectories.storage.archive_writes import mirror
from trajectory_site.sample import RUNS, sample_runs


def archive_sample(count: int = RUNS, *, tenant: str = "alice", **changes: Any) -> list[Trajectory]:
    """Archive the last ``count`` sample runs, oldest first, with ``changes`` in each of them."""
    runs = islice(sample_runs(datetime.now(UTC).date()), RUNS - count, None)
    made = [record(run | changes, tenant=tenant, at_us=now_us() + at) for at, run in enumerate(runs)]
    mirror(made)
    rows = {row.trajectory_id: row for row in Trajectory.objects.filter(tenant=tenant)}
    return [rows[one.id] for one in made]
