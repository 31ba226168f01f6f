"""``manage.py export_trajectories TENANT --format decisions --output DIR``"""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from trajectories.exceptions import TrajectoriesError
from trajectories.management.filters import add_export_options, export_parameters, known_tenant
from trajectories.management.operator import operator
from trajectories.management.progress import Progress
from trajectories.storage.archive_errors import ArchiveError
from trajectories.storage.store import get_store
from trajectories.training.checkpoint import ExportRunning
from trajectories.training.encoding import COMPRESSIONS, FILES, PARQUET, parse_encoding
from trajectories.training.files import export_to_disk

_BY_SUFFIX = {".parquet": ("file", PARQUET), ".gz": ("compression", "gzip"), ".zst": ("compression", "zstd")}


class Command(BaseCommand):
    help = (
        "Export a tenant's trajectories to files, in the formats that trainers load, with a manifest. Files are complete or not"
        " there: after a cut, the same command goes on."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("tenant")
        parser.add_argument(
            "--output", required=True, type=Path, help="a file if it has a suffix, else a directory", metavar="PATH"
        )
        parser.add_argument("--file", choices=FILES, help="lines or Parquet (extra training)")
        parser.add_argument("--compression", choices=COMPRESSIONS, help="of lines, or inside Parquet")
        add_export_options(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        given = export_parameters(options)
        encoding = {name: options[name] for name in ("file", "compression") if options[name] is not None}
        output = options["output"]
        _follow_suffix(output, encoding)
        try:
            tenant = known_tenant(options["tenant"])
            with Progress(tenant) as progress:
                manifest = export_to_disk(
                    get_store(),
                    tenant,
                    given,
                    output,
                    encoding=parse_encoding(encoding),
                    actor=operator(),
                    on_records=progress.add,
                )
        except (TrajectoriesError, ExportRunning, ArchiveError) as error:
            raise CommandError(str(error)) from error
        except (OSError, sqlite3.OperationalError) as error:
            is_full = "full" in str(error) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
            what = "The disk is full" if is_full else f"{output} cannot be written: {error}"
            raise CommandError(f"{what}. Nothing there was changed; the same command goes on.") from error
        for file in manifest.files:
            self.stdout.write(f"{file.name}: {file.lines} lines, {file.bytes} bytes.")
        self.stdout.write(f"{manifest.records} of {manifest.records_read} trajectories exported.")
        for reason, count in manifest.left_out.items():
            self.stdout.write(f"Left out: {reason}: {count}.")


def _follow_suffix(output: Path, encoding: dict[str, str]) -> None:
    """Let the suffix of a file choose its encoding, where an option does not say otherwise."""
    suffix = output.suffix.lower()
    option, value = _BY_SUFFIX.get(suffix, ("file", encoding.get("file", FILES[0])))
    if suffix and option == "file" and encoding.get("file", value) == PARQUET != suffix.removeprefix("."):
        raise CommandError(f"{output} would be Parquet under another suffix. Name it .parquet, or leave --file out.")
    if encoding.setdefault(option, value) != value:
        raise CommandError(f"{output} ends with {suffix}, and --{option} is {encoding[option]}. Change one of them.")
