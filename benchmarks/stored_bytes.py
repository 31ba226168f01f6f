"""Measure the bytes of a run in the archive (SQLite) and in Redis, with and without compression.

    uv run python -m benchmarks.stored_bytes [--records 10000] [--phases 5] [--file FILE]

The anchors are the bytes of JSON, and a SQLite table that holds nothing but the bodies. Parts of
the archive are those of ``dbstat``. Redis is a server of its own, as the quick start runs it; its
memory is ``used_memory`` before and after. Each form is measured in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson

from benchmarks import report
from benchmarks.report import Row, at_most

_BATCH = 100


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    if arguments.one:
        print(json.dumps(_measure(arguments)))
        raise SystemExit
    for form in ("compressed", "plain"):
        found = _in_a_process(form)
        size = found.pop("JSON")
        aim = {"archive": at_most(2_000), "Redis": at_most(0.5, of_anchor=True)} if form == "compressed" else {}
        for name, value in found.items():
            shown = f"{name}, a run, {form}"
            yield Row(shown, value, "bytes", aim.get(name), "JSON", size, name if name in aim else "")


def _in_a_process(form: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.stored_bytes", "--one", form, *sys.argv[1:]]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _measure(arguments: argparse.Namespace) -> dict[str, float]:
    from trajectory_site import servers

    with tempfile.TemporaryDirectory() as directory:
        base = Path(directory)
        (base / "redis").mkdir()
        with servers.own_redis(base / "redis", password="benchmark") as redis:
            os.environ |= {
                "DJANGO_SETTINGS_MODULE": "trajectory_site.settings",
                "SECRET_KEY": "only for a benchmark",
                "DATA_DIR": directory,
                "REDIS_URL": redis.url,
                "TRAJECTORIES_COMPRESS_BODIES": "true" if arguments.one == "compressed" else "false",
            }
            import django
            from django.core.management import call_command

            django.setup()
            call_command("migrate", verbosity=0)
            return _filled(arguments, base)


def _filled(arguments: argparse.Namespace, base: Path) -> dict[str, float]:
    from django.db import connection
    from django_redis import get_redis_connection

    from trajectories import persistence
    from trajectories.domain.record import Record, digest_of
    from trajectories.storage.archive_files import compact
    from trajectories.storage.store import get_store

    client = get_redis_connection("trajectories")
    made = list(bodies(arguments.records, arguments.phases, arguments.file))
    before = int(client.info("memory")["used_memory"])
    now_us = time.time_ns() // 1000
    records = [
        Record("benchmark", id_, now_us + n, digest_of(body), now_us + n, now_us + n, body)
        for n, (id_, body) in enumerate(made)
    ]
    for start in range(0, len(records), _BATCH):
        persistence.persist(get_store(), records[start : start + _BATCH])
    after = int(client.info("memory")["used_memory"])
    compact(is_full=True)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT name, SUM(pgsize) FROM dbstat WHERE name LIKE '%trajectories%' GROUP BY name"
            " HAVING SUM(pgsize) > 4096 ORDER BY 2 DESC"
        )
        parts = {f"archive: {name}": size / len(records) for name, size in cursor.fetchall()}
    return {
        "JSON": sum(len(body) for _, body in made) / len(records),
        "SQLite table of the bodies alone": _table_of(made, base / "anchor.sqlite3") / len(records),
        "Redis": (after - before) / len(records),
        "archive": sum(parts.values()),
        **parts,
    }


def bodies(count: int, phases: int, file: Path | None) -> Iterator[tuple[Any, bytes]]:
    """Yield ids and canonical bodies: those of ``file`` again and again, or made ones."""
    from benchmarks.bodies import run
    from trajectories.domain.schema import canonical, parse

    given = [orjson.loads(line) for line in file.open("rb")] if file else [run(phases)]
    for n in range(count):
        id_, body = uuid4(), given[n % len(given)]
        if not file:
            body |= {"request_summary": f"Request {n}"}
        yield id_, canonical(parse(orjson.dumps(body | {"id": str(id_)})))


def _table_of(bodies: list[tuple[Any, bytes]], path: Path) -> int:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE bodies (body TEXT)")
        connection.executemany("INSERT INTO bodies VALUES (?)", [(body.decode(),) for _, body in bodies])
    return path.stat().st_size


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--phases", type=int, default=5)
    parser.add_argument("--file", type=Path, help="NDJSON of bodies instead of made ones; repeated with other ids")
    parser.add_argument("--one", choices=["plain", "compressed"], help=argparse.SUPPRESS)


if __name__ == "__main__":
    report.main(__doc__, measure, _arguments)
