"""``manage.py fill_search``."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from trajectories.storage import archive_writes, search_index
from trajectories.storage.archive_errors import ArchiveError, archive_errors


class Command(BaseCommand):
    help = (
        "Adds the runs that were archived before the search of the admin existed, or by a worker of an earlier release,"
        " to that search. Run it once after an upgrade, when the last worker of the earlier release has ended. Exit codes:"
        " 0 done; 1 the archive is unavailable."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with archive_errors():
                count = search_index.fill(archive_writes.alias())
        except ArchiveError as error:
            raise CommandError(f"The archive is unavailable; repeating is safe: {error}") from error
        self.stdout.write(f"Added {count} trajectories to the search.")
