"""``manage.py push_to_hub ORG/NAME``"""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from trajectories.exceptions import TrajectoriesError
from trajectories.management.filters import add_export_options, export_request, known_tenant
from trajectories.management.operator import operator
from trajectories.management.progress import Progress
from trajectories.storage import archive_reads
from trajectories.storage.archive_errors import ArchiveError
from trajectories.storage.store import get_store
from trajectories.training.encoding import FILES, JSONL
from trajectories.training.hub import Pushed, Target, push


class Command(BaseCommand):
    help = (
        "Push an export to a data set repository of the Hugging Face Hub, in one commit. Only what is new, revised or deleted since the"
        " last push is sent. HF_TOKEN is the token, HF_ENDPOINT another Hub. Whatever ends it, the same command goes on."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("repository", metavar="ORG/NAME")
        parser.add_argument("--tenant", help="whose runs; may be left out where there is one tenant")
        visibility = parser.add_mutually_exclusive_group()
        visibility.add_argument("--private", action="store_true", default=True, help="the default")
        visibility.add_argument("--public", dest="private", action="store_false", help="needs --license at first")
        parser.add_argument("--license", help="as the Hub names it, such as cc-by-4.0")
        parser.add_argument("--file", choices=FILES, default=JSONL, help="lines or Parquet (extra training)")
        parser.add_argument("--replace", action="store_true", help="remove what another export or store pushed there")
        parser.add_argument("--dry-run", action="store_true", help="print the plan and the card, send nothing")
        add_export_options(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        request = export_request(options)
        target = Target(options["repository"], options["private"], options["license"], options["replace"])
        try:
            tenant = known_tenant(options["tenant"]) if options["tenant"] else _only_tenant()
            with Progress(tenant) as progress:
                done = push(
                    get_store(),
                    tenant,
                    request,
                    target,
                    file=options["file"],
                    is_dry=options["dry_run"],
                    actor=operator(),
                    on_records=progress.add,
                )
        except (TrajectoriesError, ArchiveError) as error:
            raise CommandError(str(error)) from error
        self._report(done, target, is_dry=options["dry_run"])

    def _report(self, done: Pushed, target: Target, *, is_dry: bool) -> None:
        name = target.repo_id
        if is_dry and done.is_new:
            self.stdout.write(f"{name} would be created, {'private' if target.is_private else 'public'}.")
        for file in done.added:
            self.stdout.write(f"+ {file.name}  {file.lines} rows, {file.bytes} bytes")
        for removed in done.removed:
            self.stdout.write(f"- {removed}")
        if is_dry:
            self.stdout.write(f"README.md would be:\n\n{done.card}")
        elif done.commit is None:
            self.stdout.write(f"{name} is up to date: {done.state.lines} rows of {done.state.records} runs.")
        else:
            self.stdout.write(
                f"{name} has {done.state.lines} rows of {done.state.records} runs, commit {done.commit[:12]}."
            )


def _only_tenant() -> str:
    tenants = archive_reads.tenants()
    if len(tenants) != 1:
        raise CommandError(f"There are {len(tenants)} tenants: name one with --tenant.")
    return tenants[0]
