"""Compare the memory of a process's hot cache with the cache's own estimate.

    uv run python -m benchmarks.hot_memory [--records 10000] [--phases 5]

Memory is measured as CPython's allocations (tracemalloc) and as RSS of the process (from /proc).
``hot_max_bytes`` limits the estimate. Each figure comes from a separate process. Linux only.
"""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Iterator

import orjson

from benchmarks import report, usage
from benchmarks.report import Row, at_most

_MIB = 2**20


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    if arguments.one:
        measured = _measure(arguments.records, arguments.phases[0], is_traced=arguments.one == "allocated")
        print(orjson.dumps(measured).decode())
        raise SystemExit
    for phases in arguments.phases:
        traced, plain = (_in_a_process(arguments.records, phases, one) for one in ("allocated", "rss"))
        bodies, allocated, estimate = (traced[name] / _MIB for name in ("bodies", "allocated", "estimate"))
        name = f"hot cache of {arguments.records:,} records with {phases} phases"
        yield Row(f"{name}, allocated", allocated, "MiB", at_most(1.4, of_anchor=True), "their JSON", bodies, "hot")
        yield Row(f"{name}, growth of the process", plain["rss"] / _MIB, "MiB", None, "their JSON", bodies)
        yield Row(f"{name}, its own estimate", estimate, "MiB", None, "allocated", allocated)


def _in_a_process(records: int, phases: int, one: str) -> dict[str, int]:
    command = [sys.executable, "-m", "benchmarks.hot_memory", "--one", one, "--phases", str(phases)]
    done = subprocess.run([*command, "--records", str(records)], check=True, stdout=subprocess.PIPE)
    return dict(orjson.loads(done.stdout.splitlines()[-1]))


def _measure(records: int, phases: int, *, is_traced: bool) -> dict[str, int]:
    with tempfile.TemporaryDirectory() as directory:
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "trajectory_site.settings",
            "SECRET_KEY": "only for a benchmark",
            "DATA_DIR": directory,
            "REDIS_URL": "redis://127.0.0.1:1/0",  # no server: the cache fills from the outbox
        }
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        return _fill(records, phases, is_traced=is_traced)


def _fill(records: int, phases: int, *, is_traced: bool) -> dict[str, int]:
    from benchmarks.bodies import run
    from trajectories.services import ingest
    from trajectories.storage.store import get_store

    body = run(phases)
    for start in range(0, records, 500):
        numbers = range(start, min(start + 500, records))
        ingest.record_many(
            get_store(), "benchmark", [orjson.dumps(body | {"request_summary": f"Run {n}"}) for n in numbers]
        )
    get_store().hot_cache.snapshot("benchmark")  # exclude imports and connections
    get_store().hot_cache.clear()
    gc.collect()
    before = usage.own_rss()
    if is_traced:  # tracing itself uses memory
        tracemalloc.start()
    get_store().hot_cache.snapshot("benchmark")
    get_store().hot_cache.grow("benchmark")  # what a thread does a second later
    view = get_store().hot_cache.snapshot("benchmark")
    rss, allocated = usage.own_rss() - before, tracemalloc.get_traced_memory()[0]
    held, estimate = get_store().hot_cache.size
    if held != records:
        raise SystemExit(f"{held} of {records} are held.")
    bodies = sum(len(each.record.body) for each in view.held)
    return {"bodies": bodies, "allocated": allocated, "rss": rss, "estimate": estimate}


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--phases", type=int, nargs="+", default=[5])
    parser.add_argument("--one", choices=["allocated", "rss"], help=argparse.SUPPRESS)


if __name__ == "__main__":
    report.main(__doc__, measure, _arguments)
