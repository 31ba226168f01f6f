"""``manage.py fill_credit``."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from trajectories.models import Phase, Trajectory
from trajectories.storage import archive_writes, rollup_rebuild
from trajectories.storage.archive_credit import fill_credit, fill_export_facts, fill_packed_phases
from trajectories.storage.archive_errors import ArchiveError, archive_errors


class Command(BaseCommand):
    help = (
        "Computes the credit of phases, what exports decide by, and what stats are summed from, of runs that a worker"
        " of an earlier release archived. Run it once after an upgrade, when the"
        " last worker of the earlier release has ended. Exit codes: 0 done; 1 the archive is unavailable."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with archive_errors():
                count = fill_credit(Trajectory, Phase, archive_writes.alias(), on_tenants=rollup_rebuild.set_aside)
                facts = fill_export_facts(Trajectory, archive_writes.alias(), is_complete=True)
                packed = fill_packed_phases(Trajectory, Phase, archive_writes.alias(), is_complete=True)
        except ArchiveError as error:
            raise CommandError(f"The archive is unavailable; repeating is safe: {error}") from error
        self.stdout.write(f"Computed the credit of {count} trajectories.")
        self.stdout.write(f"Computed the facts of {facts} trajectories by which exports leave out runs.")
        self.stdout.write(f"Packed the phases of {packed} trajectories.")
        if count:
            self.stdout.write("Run rebuild_rollups next: the sums of their tenants lack it.")
