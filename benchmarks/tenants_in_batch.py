"""Measure what a record costs the archive in a batch of one tenant, and in one of as many tenants
as records.

    uv run python -m benchmarks.tenants_in_batch [--batches 30] [--records 100] [--rounds 3]

CPU of this process: both SQLite and the worker's own work. The two alternate; quote the ratio.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from uuid import uuid4

from benchmarks import report
from benchmarks.bodies import SMALL, encoded
from benchmarks.report import Row, at_most
from trajectory_site import garbage


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as directory:
        os.environ |= {"DJANGO_SETTINGS_MODULE": "trajectory_site.settings", "SECRET_KEY": "x", "DATA_DIR": directory}
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        yield from _rows(arguments)


def _rows(arguments: argparse.Namespace) -> Iterator[Row]:
    found: dict[int, list[float]] = {1: [], arguments.records: []}
    _cost_us(arguments, arguments.records)
    garbage.collect_rarely()  # as a worker does
    for _ in range(arguments.rounds):
        for tenants, costs in found.items():
            costs.append(_cost_us(arguments, tenants))
    one, many = (statistics.median(costs) for costs in found.values())
    name = f"archiving a record, {arguments.records} tenants in a batch of {arguments.records}, CPU"
    yield Row(name, many, "µs", at_most(1.3, of_anchor=True), "one tenant", one)


def _cost_us(arguments: argparse.Namespace, tenants: int) -> float:
    from trajectories.domain.record import Record, digest_of
    from trajectories.domain.schema import canonical, parse
    from trajectories.storage.archive_writes import mirror

    body = canonical(parse(encoded(SMALL)))
    taken_s = 0.0
    for _ in range(arguments.batches):
        stamp = time.time_ns() // 1_000
        batch = [
            Record(f"tenant-{number % tenants}", uuid4(), stamp, digest_of(body), stamp, stamp, body)
            for number in range(arguments.records)
        ]
        before = time.process_time()
        mirror(batch)
        taken_s += time.process_time() - before
    return taken_s / int(arguments.batches * arguments.records) * 1e6


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batches", type=int, default=30)
    parser.add_argument("--records", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)


if __name__ == "__main__":
    report.main(__doc__, measure, _arguments)
