"""``manage.py readiness TENANT``"""

from __future__ import annotations

import sys
from typing import Any

import orjson
from django.core.management.base import BaseCommand, CommandError, CommandParser

from trajectories.exceptions import Unavailable
from trajectories.management.filters import add_filters, known_tenant, query_of
from trajectories.storage.archive_errors import ArchiveError
from trajectories.storage.store import get_store
from trajectories.training.readiness import ALL, readiness


class Command(BaseCommand):
    help = (
        "Say whether the runs of a tenant are worth training on, and what to do where they are not. Exits with 1 if a check failed."
        " READINESS sets the thresholds (docs/training.md)."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("tenant")
        parser.add_argument("--max-runs", type=int, help="measure the newest runs only; all by default")
        parser.add_argument("--json", action="store_true", help="write the answer of the API")
        add_filters(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        if options["max_runs"] is not None and options["max_runs"] < 1:
            raise CommandError(f"--max-runs must be at least 1, got {options['max_runs']}.")
        try:
            tenant = known_tenant(options["tenant"])
            limits = ALL if options["max_runs"] is None else ALL._replace(runs=options["max_runs"])
            found = readiness(get_store(), tenant, query_of(options), limits)
        except (ArchiveError, Unavailable) as error:
            raise CommandError(f"The runs cannot be read: {error}") from error
        self.stdout.write(orjson.dumps(found).decode() if options["json"] else _text(found))
        if not found["ready"]:
            sys.exit(1)


def _text(found: dict[str, Any]) -> str:
    of = "" if found["matching"] == found["runs"] else f" of {found['matching']}"
    lines = [f"{found['runs']}{of} runs measured." + ("" if found["complete"] else " Not all runs are measured.")]
    for check in found["checks"]:
        value = "unknown" if check["value"] is None else f"{check['value']:.4g}"
        word = "passed" if check["passed"] else "FAILED"
        lines.append(f"{word}  {check['code']:<22} {value:>8}  threshold {check['threshold']:g}")
    lines += [f"- {check['message']}" for check in found["checks"] if check["message"]]
    lines += [f"warning {code}: {count} runs" for code, count in found["warnings"].items()]
    return "\n".join(lines)
