"""``manage.py prune --older-than 90d``"""

from __future__ import annotations

import re
import time
from argparse import ArgumentTypeError
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from trajectories import persistence
from trajectories.management.operator import operator
from trajectories.management.progress import Progress
from trajectories.models import AuditEntry
from trajectories.storage import archive_reads
from trajectories.storage.archive_errors import ArchiveError
from trajectories.storage.redis_tier import RedisError
from trajectories.storage.store import get_store

_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


class Command(BaseCommand):
    help = (
        "Delete, for good, what was recorded longer ago than that. Works in batches, each of which is complete: whatever ends it, the "
        "same command goes on. Runs beside a store at work. RETENTION_DAYS has it done all the time."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--older-than", required=True, type=age, help="as 90d, 12h, 30m or 45s", metavar="AGE")
        parser.add_argument("--tenant", help="of this tenant only")
        parser.add_argument("--batch", type=int, default=persistence.PRUNE_BATCH, help="records in a transaction")
        parser.add_argument("--dry-run", action="store_true", help="only count")

    def handle(self, *args: Any, **options: Any) -> None:
        before_us = round((time.time() - options["older_than"].total_seconds()) * 1_000_000)
        try:
            known = archive_reads.tenants()
            if options["tenant"] and options["tenant"] not in known:
                raise CommandError(f"There is no tenant {options['tenant']!r}.")
            for tenant in [options["tenant"]] if options["tenant"] else known:
                self._prune(tenant, before_us, options["batch"], is_dry=options["dry_run"])
            if not options["dry_run"]:
                persistence.forget_tombstones(get_store())
        except (RedisError, ArchiveError) as error:
            raise CommandError(f"Not finished, the same command goes on: {error}") from error

    def _prune(self, tenant: str, before_us: int, batch: int, *, is_dry: bool) -> None:
        count = archive_reads.count_before(tenant, before_us)
        if is_dry:
            self.stdout.write(f"{tenant}: {count} would be deleted.")
            return
        deleted = 0
        try:
            with Progress(tenant, count) as progress:
                while gone := persistence.prune(get_store(), tenant, before_us, batch):
                    deleted += gone
                    progress.add(gone)
        finally:
            if deleted:
                AuditEntry.objects.note("delete", operator(), {tenant: deleted})
        self.stdout.write(f"{tenant}: {deleted} deleted.")


def age(text: str) -> timedelta:
    found = re.fullmatch(r"(\d+)([dhms])", text, re.ASCII)
    if found is None:
        raise ArgumentTypeError(f"{text!r} is not an age; say it as 90d, 12h, 30m or 45s")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
