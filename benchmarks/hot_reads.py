"""Measure the memory and the first reads of a process's hot cache.

    uv run python -m benchmarks.hot_reads [--tenants 1000] [--records 100] [--writes 20000] [--file FILE]

- The memory of a process that has read many tenants, against the JSON that it holds.
- The first read of a process that has written nothing, after many writes of its neighbour; and its
  next one after as many again. The anchor is a read of the first record alone.
- Lists with a filter that no record matches, over 10,000 hot records.

Records go through outbox, Redis (a server of its own) and archive (SQLite), as a worker writes
them. Times are CPU times of the process, so that other load on the machine has little effect; Redis
adds its own. Linux only.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

_BATCH = 500
_REPEATS = 5


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tenants", type=int, default=1_000)
    parser.add_argument("--records", type=int, default=100, help="of each tenant")
    parser.add_argument("--writes", type=int, default=20_000)
    parser.add_argument("--phases", type=int, default=5)
    parser.add_argument("--file", type=Path, help="NDJSON of bodies instead of made ones; repeated with other ids")
    parser.add_argument("--one", choices=["tenants", "neighbour"], help=argparse.SUPPRESS)
    parser.add_argument("--directory", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        _set_up(arguments)
        (_read_tenants if arguments.one == "tenants" else _follow_neighbour)(arguments)
        return
    from trajectory_site import servers

    for one in ("neighbour", "tenants"):
        with tempfile.TemporaryDirectory() as directory:
            (Path(directory) / "redis").mkdir()
            with servers.own_redis(Path(directory) / "redis", password="benchmark") as redis:
                command = [sys.executable, "-m", "benchmarks.hot_reads", "--one", one, "--directory", directory]
                subprocess.run([*command, *sys.argv[1:]], check=True, env=os.environ | {"REDIS_URL": redis.url})


def _set_up(arguments: argparse.Namespace) -> None:
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "trajectory_site.settings",
        "SECRET_KEY": "only for a benchmark",
        "DATA_DIR": arguments.directory,
        "TRAJECTORIES_COMPRESS_BODIES": "true",
    }
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)


def _read_tenants(arguments: argparse.Namespace) -> None:
    from benchmarks.stored_bytes import bodies
    from trajectories import persistence
    from trajectories.domain.query import Query
    from trajectories.services import reads
    from trajectories.storage.store import get_store

    store = get_store()
    store.verify()
    persistence.rebuild(store)
    made = bodies(arguments.tenants * arguments.records, arguments.phases, arguments.file)
    tenants = [f"tenant-{number}" for number in range(arguments.tenants)]
    json_bytes = 0
    for tenant in tenants:
        json_bytes += _write(store, tenant, list(islice(made, arguments.records)))
    gc.collect()
    before, started = _rss(), time.process_time()
    for tenant in tenants:
        page = reads.list_(store, tenant, Query(), after=None, limit=50)
        if not (page.is_complete and len(page.records) == min(50, arguments.records)):
            raise SystemExit(f"The list of {tenant} has {len(page.records)} records.")
    seconds = time.process_time() - started
    gc.collect()
    held, estimate = store.hot_cache.size
    print(f"{arguments.tenants} tenants of {arguments.records}: {held} records held, {json_bytes / 1e6:.0f} MB of JSON")
    print(f"  process {_rss() / 1e6:.0f} MB, of which {(_rss() - before) / 1e6:.0f} since the first read")
    print(f"  estimate {estimate / 1e6:.0f} MB = {estimate / json_bytes:.2f} of the JSON")
    print(f"  first read of a tenant {seconds / arguments.tenants * 1000:.1f} ms")


def _follow_neighbour(arguments: argparse.Namespace) -> None:
    from benchmarks.stored_bytes import bodies
    from trajectories import persistence
    from trajectories.domain.query import Query, parse_query
    from trajectories.services import reads
    from trajectories.storage.store import Store, get_store

    writer = get_store()
    writer.verify()
    persistence.rebuild(writer)
    made = bodies(2 * arguments.writes + 1, arguments.phases, arguments.file)
    reader = Store(replace(writer.conf))

    def first_read() -> None:
        assert reads.list_(reader, "benchmark", Query(), after=None, limit=50).is_complete

    _write(writer, "benchmark", [next(made)])
    reader.verify()
    anchor = Store(replace(writer.conf))
    anchor.verify()
    anchor_ms = _ms(lambda: reads.list_(anchor, "benchmark", Query(), after=None, limit=50))
    print(f"first read of a process, one record: {anchor_ms:.0f} ms")
    for name in ("first read", "next read"):
        _write(writer, "benchmark", list(islice(made, arguments.writes)))
        print(f"{name} after {arguments.writes} writes of a neighbour: {_ms(first_read):.0f} ms")
    print(
        f"fill to {writer.conf.hot_max_records} in the background: {_ms(lambda: reader.hot_cache.grow('benchmark')):.0f} ms"
    )
    print(f"lists without a hit, {reader.hot_cache.size[0]} hot records, median of {_REPEATS}:")
    for given in ({}, {"project": "none"}, {"model": "none"}, {"tool": "none"}, {"q": "none"}, {"min_cost_usd": "999"}):
        query = parse_query(given, 0)
        snapshot = reader.hot_cache.snapshot("benchmark")
        times = [_ms(lambda: _scan(snapshot, query)) for _ in range(_REPEATS)]  # noqa: B023  called at once
        print(f"  {json.dumps(given):26}{statistics.median(times):8.1f} ms")


def _scan(snapshot: Any, query: Any) -> int:
    matches = query.scanner()
    return sum(matches(held.position.recorded_at_us, held.packed) for held in snapshot.held)


def _write(store: Any, tenant: str, made: list[tuple[Any, bytes]]) -> int:
    """Record bodies, and bring them to Redis and the archive; return their bytes."""
    from trajectories import persistence, relay
    from trajectories.domain.record import digest_of
    from trajectories.storage.archive_delivery import Version
    from trajectories.storage.outbox_rows import Draft

    for start in range(0, len(made), _BATCH):
        store.outbox.append(
            [Draft(tenant, id_, digest_of(body), body, None) for id_, body in made[start : start + _BATCH]]
        )
        rows = store.outbox.waiting(0, _BATCH)
        persistence.persist(store, [row.record for row in rows])
        relay.settle(store, {row.n: Version.of(row.record) for row in rows})
    return sum(len(body) for _, body in made)


def _ms(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return (time.process_time() - started) * 1000


def _rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
