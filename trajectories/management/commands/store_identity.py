"""``manage.py store_identity``: show or change which store this is."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from trajectories.exceptions import TrajectoriesError
from trajectories.storage import archive_reads
from trajectories.storage.archive_errors import ArchiveError
from trajectories.storage.store import get_store


class Command(BaseCommand):
    help = (
        "Prints the identity of this store, which its Redis keys, task messages and outboxes carry. A database has one; "
        "a copy of a database needs a new one before it is used beside the original."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        change = parser.add_mutually_exclusive_group()
        change.add_argument(
            "--new", action="store_true", help="Give this database a new identity, because it is a copy of another."
        )
        change.add_argument(
            "--adopt-outbox",
            action="store_true",
            help="Bind this host's outbox to this database, and deliver the records that wait in it there.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        store = get_store()
        try:
            identity = archive_reads.renew_identity() if options["new"] else archive_reads.identity()
            if options["adopt_outbox"]:
                store.outbox.bind(identity, is_forced=True)
        except ArchiveError as error:
            raise CommandError(f"The database cannot be used: {error}") from error
        except TrajectoriesError as error:
            raise CommandError(error.message) from error
        self.stdout.write(identity)
