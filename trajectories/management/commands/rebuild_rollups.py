"""``manage.py rebuild_rollups``."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from trajectories.conf import read_settings
from trajectories.management.progress import Progress
from trajectories.storage import archive_reads, rollup_rebuild
from trajectories.storage.archive_errors import ArchiveError


class Command(BaseCommand):
    help = (
        "Makes the sums anew from which stats are answered, while the store is in use. Run it once after an upgrade, when"
        " the last process of the earlier release has ended. Exit codes: 0 done; 1 the archive is unavailable, a"
        " process of an earlier release interferes, or --check found a difference."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant", help="Only this tenant.")
        parser.add_argument("--check", action="store_true", help="Compare with a scan of all records; change nothing.")

    def handle(self, *args: Any, tenant: str | None, check: bool, **options: Any) -> None:
        try:
            known = archive_reads.tenants()
            if tenant is not None and tenant not in known:
                raise CommandError(f"There is no tenant {tenant!r}.")
            for one in known if tenant is None else [tenant]:
                (self._check if check else self._rebuild)(one)
        except ArchiveError as error:
            raise CommandError(f"The archive is unavailable; repeating is safe: {error}") from error
        except rollup_rebuild.RollUpsInterrupted as error:
            raise CommandError(str(error)) from error

    def _rebuild(self, tenant: str) -> None:
        with Progress(tenant) as progress:
            is_whole = rollup_rebuild.rebuild(tenant, progress.add)
        self.stdout.write(f"{tenant}: rebuilt." if is_whole else f"{tenant}: more than ROLLUP_MAX_CELLS; stats scan.")

    def _check(self, tenant: str) -> None:
        found = list(rollup_rebuild.differences(tenant, read_settings()))
        if found:
            raise CommandError(f"{tenant}: {', '.join(found)}. Run rebuild_rollups without --check.")
        self.stdout.write(f"{tenant}: equal to a scan.")
