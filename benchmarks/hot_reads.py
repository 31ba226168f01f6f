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
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks import report, usage
from benchmarks.report import Row, at_most

_BATCH = 500
_REPEATS = 5


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    if arguments.one:
        _set_up(arguments)
        yield from (_read_tenants if arguments.one == "tenants" else _follow_neighbour)(arguments)
        return
    from trajectory_site import servers

    for one in ("neighbour", "tenants"):
        with tempfile.TemporaryDirectory() as directory:
            (Path(directory) / "redis").mkdir()
            with servers.own_redis(Path(directory) / "redis", password="benchmark") as redis:
                found = Path(directory) / "rows.json"
                command = [sys.executable, "-m", "benchmarks.hot_reads", *sys.argv[1:], "--json", str(found)]
                command += ["--one", one, "--directory", directory]
                environment = os.environ | {"REDIS_URL": redis.url}
                subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
                yield from (Row.from_json(fields) for fields in json.loads(found.read_text()))


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


def _read_tenants(arguments: argparse.Namespace) -> Iterator[Row]:
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
    before, started = usage.own_rss(), time.process_time()
    for tenant in tenants:
        page = reads.list_(store, tenant, Query(), after=None, limit=50)
        if not (page.is_complete and len(page.records) == min(50, arguments.records)):
            raise SystemExit(f"The list of {tenant} has {len(page.records)} records.")
    seconds = time.process_time() - started
    gc.collect()
    estimate = store.hot_cache.size[1]
    name = f"a process that has read {arguments.tenants:,} tenants of {arguments.records:,}"
    json_mb = json_bytes / 1e6
    yield Row(f"memory of {name}", usage.own_rss() / 1e6, "MB", at_most(300), "JSON of the records", json_mb, "tenants")
    yield Row(f"memory of {name}, since the first read", (usage.own_rss() - before) / 1e6, "MB", None, "JSON of the records", json_mb)  # fmt: skip
    yield Row("its own estimate of the hot cache", estimate / 1e6, "MB", None, "JSON of the records", json_mb)
    yield Row("first read of each tenant, CPU", seconds / arguments.tenants * 1000, "ms")


def _follow_neighbour(arguments: argparse.Namespace) -> Iterator[Row]:
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
    one = "a process and one record"
    for name, aim in (("first read", at_most(100)), ("next read", None)):
        _write(writer, "benchmark", list(islice(made, arguments.writes)))
        shown = f"{name} after {arguments.writes:,} writes of a neighbour, CPU"
        yield Row(shown, _ms(first_read), "ms", aim, one, anchor_ms)
    filled = f"filling the hot cache to {writer.conf.hot_max_records:,} in the background, CPU"
    yield Row(filled, _ms(lambda: reader.hot_cache.grow("benchmark")), "ms")
    found: dict[str, float] = {}
    for given in ({}, {"project": "none"}, {"model": "none"}, {"q": "none"}, {"min_cost_usd": "999"}):
        query = parse_query(given, 0)
        snapshot = reader.hot_cache.snapshot("benchmark")
        name = next(iter(given), "no filter")
        found[name] = statistics.median(_ms(lambda: _scan(snapshot, query)) for _ in range(_REPEATS))  # noqa: B023  called at once
        if given:
            shown = f"looking at {len(snapshot.held):,} hot records without a hit: {name}, CPU"
            yield Row(shown, found[name], "ms", None, "no filter", found["no filter"])


def _scan(snapshot: Any, query: Any) -> int:
    from trajectories.services.reads import PART

    among = query.among()
    return sum(len(among(snapshot.held[at : at + PART])) for at in range(0, len(snapshot.held), PART))


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


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tenants", type=int, default=1_000)
    parser.add_argument("--records", type=int, default=100, help="of each tenant")
    parser.add_argument("--writes", type=int, default=20_000)
    parser.add_argument("--phases", type=int, default=5)
    parser.add_argument("--file", type=Path, help="NDJSON of bodies instead of made ones; repeated with other ids")
    parser.add_argument("--one", choices=["tenants", "neighbour"], help=argparse.SUPPRESS)
    parser.add_argument("--directory", help=argparse.SUPPRESS)


if __name__ == "__main__":
    report.main(__doc__, measure, _arguments)
