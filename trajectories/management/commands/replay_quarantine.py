"""``manage.py replay_quarantine``."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import router

from trajectories import persistence
from trajectories.models import Quarantined
from trajectories.storage.archive_errors import ArchiveError, archive_errors
from trajectories.storage.redis_tier import RedisError
from trajectories.storage.store import get_store


class Command(BaseCommand):
    help = (
        "Tries records that the archive has refused once more, oldest first, after what refused them was mended. Exit codes: "
        "0 all were taken; 1 the archive or Redis is unavailable; 2 wrong arguments; 3 some are still refused."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant", help="Only records of this tenant.")
        parser.add_argument("--id", type=UUID, help="Only versions of this trajectory.")

    def handle(self, *args: Any, **options: Any) -> None:
        rows = Quarantined.objects.using(router.db_for_write(Quarantined)).order_by("pk")
        if options["tenant"]:
            rows = rows.filter(tenant=options["tenant"])
        if options["id"]:
            rows = rows.filter(trajectory_id=options["id"])
        try:
            with archive_errors():
                pks = list(rows.values_list("pk", flat=True))
            taken = [persistence.replay(get_store(), pk) for pk in pks]
        except (ArchiveError, RedisError) as error:
            raise CommandError(f"The archive or Redis is unavailable; repeating is safe: {error}") from error
        refused = taken.count(False)
        self.stdout.write(f"{taken.count(True)} replayed, {refused} still refused.")
        if refused:
            raise CommandError("Why is in the admin, under quarantined records.", returncode=3)
