"""Measure stats of an archive: from roll-ups, by a scan, and beside an indexed count of the same rows.

    uv run python -m benchmarks.stats [--records 100000] [--repeats 5] [--database postgres]

The database makes the records from some that the mirror has written: 20 projects, 5 types of request,
5 phases, 90 days. Rows are medians in milliseconds, of one process without HTTP and without the hot
cache. Then the CPU of the mirror for a record, with roll-ups and without. Linux only.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import product
from typing import Any
from uuid import uuid4

import orjson

from tests.postgres import throwaway_postgres

DAYS = 90
_DAY_US = 24 * 3600 * 1_000_000
TENANT, TEMPLATES = "bench", "templates"
_PHASES = ("plan", "implement", "test", "review", "document")
_MODELS = ("anthropic/claude-sonnet-4", "openai/gpt-5", "small", "mid")
_LATER = 500
"""Records that come after the selections were counted; half of what they lag behind at most."""
_SCANS_UP_TO = 200_000
"""More records than that are scanned once, not ``--repeats`` times."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--database", choices=["postgres", "sqlite"], help="only this one")
    parser.add_argument("--without-scans", action="store_true", help="do not time scans, which take minutes")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        _inside(arguments.records, arguments.repeats, scans=not arguments.without_scans)
        return
    for database in [arguments.database] if arguments.database else ["postgres", "sqlite"]:
        with ExitStack() as stack:
            directory = stack.enter_context(tempfile.TemporaryDirectory())
            environment = os.environ | {
                "DATABASE_URL": f"sqlite:///{directory}/db.sqlite3",
                "SECRET_KEY": "of a benchmark",
                "DATA_DIR": directory,
                "DJANGO_SETTINGS_MODULE": "trajectory_site.settings",
            }
            if database == "postgres":
                environment["DATABASE_URL"] = stack.enter_context(throwaway_postgres())
            print(f"\n{database}, {arguments.records} records", flush=True)
            command = [sys.executable, "-m", "benchmarks.stats", "--inside", "--records", str(arguments.records)]
            command += ["--repeats", str(arguments.repeats), *["--without-scans"] * arguments.without_scans]
            subprocess.run(command, env=environment, check=True)


def _inside(records: int, repeats: int, *, scans: bool) -> None:
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    started = time.perf_counter()
    seed(records)
    print(f"seeded in {time.perf_counter() - started:.0f} s", flush=True)
    rebuild()
    _measure(records, repeats, scans=scans)
    _mirror()


def seed(records: int, tenant: str = TENANT) -> None:
    """Write templates by the mirror, and make ``records`` of ``tenant`` of them, whose roll-ups are missing."""
    from django.db import connection

    from trajectories.models import Tenant, Trajectory
    from trajectories.storage.archive_writes import mirror

    templates = list(templates_of(TEMPLATES, int(time.time() * 1_000_000)))
    for start in range(0, len(templates), 100):
        mirror(templates[start : start + 100])
    numbers_of = {"last_seq": records, "last_changed": records, "record_count": records}
    Tenant.objects.update_or_create(slug=tenant, defaults=numbers_of)
    now_us, step_us = int(time.time() * 1_000_000), DAYS * _DAY_US // records
    columns = [str(field.column) for field in Trajectory._meta.fields if field.column != "id"]
    at = f"{now_us} - ({records} - n) * {step_us}"
    is_sqlite = connection.vendor == "sqlite"
    made = {
        "tenant_id": f"'{tenant}'",
        "trajectory_id": "lower(hex(randomblob(16)))" if is_sqlite else "gen_random_uuid()",
        "seq": "n",
        "changed": "n",
        "stamp": at,
        "revision": at,
        "recorded_at_us": at,
        "started_at_us": f"{at} - 60000000",
    }
    numbers = (
        f"(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {records}) SELECT n FROM c)"
        if is_sqlite
        else f"generate_series(CAST(1 AS bigint), {records})"
    )
    values = ", ".join(made.get(column, f't."{column}"') for column in columns)
    count = len(templates)
    names = ", ".join(f'"{column}"' for column in columns)
    with connection.cursor() as cursor:
        if not is_sqlite:
            cursor.execute("SET statement_timeout = 0")
        cursor.execute(
            f"INSERT INTO trajectories_trajectory ({names}) SELECT {values} FROM {numbers} AS g{'' if is_sqlite else '(n)'}"
            f" JOIN trajectories_trajectory t ON t.tenant_id = '{TEMPLATES}' AND t.seq = 1 + (n * 7919) % {count}"
        )
        _seed_phases(cursor, tenant, count)
        cursor.execute("ANALYZE")


def _seed_phases(cursor: Any, tenant: str, templates: int) -> None:
    from trajectories.models import Phase

    columns = [field.column for field in Phase._meta.fields if field.column not in ("id", "trajectory_id")]
    names = ", ".join(f'"{column}"' for column in columns)
    values = ", ".join(f'p."{column}"' for column in columns)
    cursor.execute(
        f"INSERT INTO trajectories_phase (trajectory_id, {names}) SELECT r.id, {values} FROM trajectories_trajectory r"
        f" JOIN trajectories_trajectory t ON t.tenant_id = '{TEMPLATES}' AND t.seq = 1 + (r.seq * 7919) % {templates}"
        f" JOIN trajectories_phase p ON p.trajectory_id = t.id WHERE r.tenant_id = '{tenant}'"
    )


def templates_of(tenant: str, stamp: int) -> Iterator[Any]:
    from trajectories.domain.record import Record, digest_of
    from trajectories.domain.schema import canonical, parse

    kinds = product(range(20), ("feature", "bug", "refactor", "docs", "chore"), ("cli", "ci"), range(4))
    for number, (project, request_type, source, outcome) in enumerate(kinds):
        phases = [
            {
                "phase_name": name,
                "agent": "coder",
                "model": _MODELS[(number + place) % len(_MODELS)],
                "model_selection_method": ("explicit", "thompson-sampling")[number % 2],
                "tools_used": ["file_read", "grep", "edit"],
                "input_tokens": 1_000 + 37 * number,
                "output_tokens": 200 + 11 * number,
                "cost_usd": 0.01 + number / 10_000,
                "duration_ms": 4_000 + 13.5 * number,
                "outcome": ("success", "failure", "success", "skipped")[(number + place) % 4],
            }
            for place, name in enumerate(_PHASES)
        ]
        fields = {
            "id": str(uuid4()),
            "request_summary": f"Run {number}: add a login",
            "request_type": request_type,
            "source": source,
            "project": f"project {project}",
            "outcome": ("success", "success", "failure", "partial")[outcome],
            "tests_passed": outcome < 2,
            "phases": phases,
            "tags": ["nightly"],
        }
        data = canonical(parse(orjson.dumps(fields)))
        id_ = parse(data).id
        assert id_ is not None
        yield Record(tenant, id_, stamp + number, digest_of(data), stamp, stamp, data)


def rebuild() -> None:
    """Make the roll-ups of ``TENANT``, and print how long that took."""
    from trajectories.models import RollUp
    from trajectories.storage import rollup_rebuild
    from trajectories.storage.archive_writes import mirror

    # Few transactions, since nothing else writes here.
    rollup_rebuild.PAGE = 20_000
    wall, cpu = time.perf_counter(), time.process_time()
    assert rollup_rebuild.rebuild(TENANT)
    rows = RollUp.objects.filter(tenant=TENANT).count()
    print(
        f"roll-ups made in {time.perf_counter() - wall:.1f} s, {time.process_time() - cpu:.1f} s of CPU in Python: {rows} rows"
    )
    later = list(templates_of(TENANT, int(time.time() * 1_000_000)))[:_LATER]
    for start in range(0, len(later), 100):
        mirror(later[start : start + 100])


def _measure(records: int, repeats: int, *, scans: bool) -> None:
    from trajectories.domain.query import parse_query
    from trajectories.storage import archive_reads, rollup_reads

    now_us = int(time.time() * 1_000_000)
    weeks = {"since": _date(now_us - 7 * _DAY_US), "until": _date(now_us)}
    questions: dict[str, tuple[dict[str, str], str | None]] = {
        "everything": ({}, None),
        "everything, by day": ({}, "day"),
        "project": ({"project": "project 7"}, None),
        "project, by week": ({"project": "project 7"}, "week"),
        "project and request_type": ({"project": "project 7", "request_type": "bug"}, None),
        "request_type": ({"request_type": "bug"}, None),
        "source": ({"source": "ci"}, None),
        "outcome": ({"outcome": "failure"}, None),
        "the last seven whole days": (weeks, None),
        "7d, from within a day": ({"since": "7d"}, None),
        "30d of a project": ({"since": "30d", "project": "project 7"}, None),
        "request_type without a hit": ({"request_type": "none"}, None),
        "phase": ({"phase": "test"}, None),
        "selection method": ({"selection_method": "explicit"}, None),
        "model": ({"model": "small"}, None),
        "model and phase": ({"model": "small", "phase": "test"}, None),
        "model without a hit": ({"model": "none"}, None),
        "q without a hit": ({"q": "nothing"}, None),
        "tool and tag without a hit": ({"tool": "none", "tag": "none"}, None),
    }
    print(f"{'ms':34}{'roll-ups':>10}{'scan':>10}{'count':>10}{'records':>10}")
    for name, (given, bucket) in questions.items():
        query = parse_query(given, now_us)
        count = archive_reads._matching(TENANT, query, None).count()

        def rolled(query: Any = query, bucket: str | None = bucket) -> bytes | None:
            found = rollup_reads.summary(TENANT, query, bucket=bucket)
            return None if found is None else orjson.dumps(found.as_json())

        def scan(query: Any = query, bucket: str | None = bucket) -> bytes:
            return orjson.dumps(archive_reads.summary(TENANT, query, None, bucket=bucket).as_json())

        answer = rolled()
        assert not scans or answer in (None, scan()), name
        times = [
            _median_ms(rolled, repeats) if answer else None,
            _median_ms(scan, repeats if records <= _SCANS_UP_TO else 1) if scans else None,
            _median_ms(archive_reads._matching(TENANT, query, None).count, repeats),
        ]
        print(
            f"{name:34}" + "".join("         -" if ms is None else f"{ms:10.1f}" for ms in times) + f"{count:10}",
            flush=True,
        )


def _date(at_us: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(at_us / 1_000_000))


def _median_ms(work: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def _mirror() -> None:
    """Mirror records in batches of 100 with and without roll-ups, in turns.

    ``mixed``: each record of a batch is another combination. ``few``: batches of 10 combinations.
    """
    from trajectories.models import Tenant
    from trajectories.storage.archive_writes import mirror

    costs: dict[tuple[str, bool], list[float]] = {}
    for turn, kind, is_kept in product(range(3), ("few", "mixed"), (True, False)):
        tenant = f"mirror-{turn}-{kind}-{is_kept}"
        Tenant.objects.create(slug=tenant, rolled_changed=0 if is_kept else -1)
        records = list(templates_of(tenant, int(time.time() * 1_000_000)))
        if kind == "few":
            bodies = [orjson.loads(record.body) for record in records[:10]]
            records = [record for _ in range(8) for record in _again(tenant, bodies)]
        for start in range(0, len(records), 100):
            batch = records[start : start + 100]
            began = time.process_time()
            mirror(batch)
            costs.setdefault((kind, is_kept), []).append((time.process_time() - began) / len(batch) * 1e6)
    for (kind, is_kept), values in sorted(costs.items()):
        name = f"mirror, {kind}, {'with' if is_kept else 'without'} roll-ups"
        print(f"{name:34}{statistics.median(values):10.0f} µs of CPU in Python a record")


def _again(tenant: str, bodies: list[dict[str, Any]]) -> Iterator[Any]:
    """Yield ten records of each body, with new ids."""
    from trajectories.domain.record import Record, digest_of
    from trajectories.domain.schema import canonical, parse

    for fields in bodies * 10:
        data = canonical(parse(orjson.dumps(fields | {"id": str(uuid4())})))
        id_, stamp = parse(data).id, int(time.time() * 1_000_000)
        assert id_ is not None
        yield Record(tenant, id_, stamp, digest_of(data), stamp, stamp, data)


if __name__ == "__main__":
    main()
