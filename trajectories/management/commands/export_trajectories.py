"""``manage.py export_trajectories TENANT --format decisions --output DIR``"""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from trajectories.domain.query import FILTERS
from trajectories.exceptions import TrajectoriesError
from trajectories.management.operator import operator
from trajectories.management.progress import Progress
from trajectories.storage import archive_reads
from trajectories.storage.archive_errors import ArchiveError
from trajectories.storage.store import get_store
from trajectories.training import formats
from trajectories.training.checkpoint import ExportRunning
from trajectories.training.encoding import COMPRESSIONS, FILES, PARQUET, parse_encoding
from trajectories.training.export import OPTIONS
from trajectories.training.files import export_to_disk
from trajectories.training.splits import SPLIT_BY

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
        parser.add_argument("--format", default=formats.DEFAULT, help=f"one of {', '.join(formats.FORMATS)}")
        parser.add_argument("--file", choices=FILES, help="lines or Parquet (extra training)")
        parser.add_argument("--compression", choices=COMPRESSIONS, help="of lines, or inside Parquet")
        parser.add_argument("--split", help="parts and shares, as train=0.9,test=0.1", metavar="SHARES")
        parser.add_argument("--split-by", choices=SPLIT_BY, help="runs that share it are in the same part")
        parser.add_argument("--part", help="only this part of the split")
        parser.add_argument(
            "--dedupe", action="store_const", const="1", help="leave out runs of the same request with the same phases"
        )
        parser.add_argument(
            "--option",
            action="append",
            default=[],
            help=f"an option of the format ({', '.join(OPTIONS)}); may be repeated",
            metavar="NAME=VALUE",
        )
        filters = parser.add_argument_group("filters, as in GET /v1/agent/trajectories")
        for name, filter_ in FILTERS.items():
            filters.add_argument(f"--{name.replace('_', '-')}", help=filter_.description.replace("%", "%%"))

    def handle(self, *args: Any, **options: Any) -> None:
        names = (*FILTERS, "format", "split", "split_by", "part", "dedupe")
        given = {name: options[name] for name in names if options[name] is not None} | _pairs(options["option"])
        encoding = {name: options[name] for name in ("file", "compression") if options[name] is not None}
        tenant, output = options["tenant"], options["output"]
        _follow_suffix(output, encoding)
        try:
            if tenant not in archive_reads.tenants():
                raise CommandError(f"There is no tenant {tenant!r}.")
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


def _pairs(texts: list[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in OPTIONS:
            raise CommandError(f"--option must be NAME=VALUE with a name of {', '.join(OPTIONS)}, got {text!r}.")
        pairs[name] = value
    return pairs
