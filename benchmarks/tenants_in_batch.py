"""Measure what a record costs the archive in a batch of one tenant, and in one of as many tenants as records.

    uv run python -m benchmarks.tenants_in_batch [--batches 30] [--records 100] [--rounds 3]

CPU of this process: both SQLite and the worker's own work. The two alternate; quote the ratio.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from uuid import uuid4

_PHASES = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batches", type=int, default=30)
    parser.add_argument("--records", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        os.environ |= {"DJANGO_SETTINGS_MODULE": "trajectory_site.settings", "SECRET_KEY": "x", "DATA_DIR": directory}
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        _measure(arguments)


def _measure(arguments: argparse.Namespace) -> None:
    found: dict[int, list[float]] = {1: [], arguments.records: []}
    _cost_us(arguments, arguments.records)
    for _ in range(arguments.rounds):
        for tenants, costs in found.items():
            costs.append(_cost_us(arguments, tenants))
    one, many = (statistics.median(costs) for costs in found.values())
    print("| tenants in a batch | µs CPU a record | of one |\n|---:|---:|---:|")
    print(f"| 1 | {one:.0f} | 1.00 |\n| {arguments.records} | {many:.0f} | {many / one:.2f} |")


def _cost_us(arguments: argparse.Namespace, tenants: int) -> float:
    import orjson

    from benchmarks.post_cpu import run
    from trajectories.domain.record import Record, digest_of
    from trajectories.domain.schema import canonical, parse
    from trajectories.storage.archive_writes import mirror

    body = canonical(parse(orjson.dumps(run(_PHASES))))
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


if __name__ == "__main__":
    main()
