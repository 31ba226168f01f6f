"""Time every page of the admin at many records in Postgres.

    uv run python -m benchmarks.admin_pages [--records 1000000] [--repeats 5]

Records, phases and roll-ups are those of ``benchmarks.seeding``; their words, as many entries of
the audit trail, and a run of 200 phases and 1 MiB are added. Postgres is started for it, or is the
one of DATABASE_URL: it must be empty, or have the records of an earlier call; so with Redis and
REDIS_URL. One process asks itself through Django's test client, without HTTP. ``first`` is the
first answer of a process, ``changed`` the median after a run was recorded, ``again`` the median of
an unchanged store. Times are in ms: wall, and CPU (user and system) of the process and of its
Postgres, which other work on the machine does not change. Linux only.
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
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID, uuid4

import orjson

from tests.postgres import throwaway_postgres
from trajectory_site import servers

if TYPE_CHECKING:  # the settings are not chosen yet
    from django.test import Client

TENANT = "bench"
_RUNS = "/admin/trajectories/trajectory/"
_LONG = UUID(int=200)
"""The id of the run of 200 phases."""
_MIB = 2**20
_RULE = "feature=request_type&value=bug&use=mid"
_PAGE = 50
_DEEP = 1_000
"""The page that is timed far down the list."""


class Time(NamedTuple):
    """Wall time of an answer, and the CPU of this process and of the Postgres on this machine, in
    ms."""

    wall: float
    cpu: float
    database: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", help="pages whose name contains this")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        _inside(arguments.records, arguments.repeats, arguments.only or "")
        return
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = stack.enter_context(servers.running_redis(directory / "redis", password="benchmark"))
        environment = os.environ | {
            "DATABASE_URL": os.environ.get("DATABASE_URL") or stack.enter_context(throwaway_postgres()),
            "REDIS_URL": redis.url,
            "SECRET_KEY": "of a benchmark",
            "DATA_DIR": str(directory),
            "ALLOWED_HOSTS": "testserver",
            "DJANGO_SETTINGS_MODULE": "trajectory_site.settings",
        }
        command = [sys.executable, "-m", "benchmarks.admin_pages", "--inside", *sys.argv[1:]]
        subprocess.run(command, env=environment, check=True)


def _inside(records: int, repeats: int, only: str) -> None:
    import django

    django.setup()
    _fill(records)
    _measure(repeats, only)


# Rows.


def _fill(records: int) -> None:
    from django.core.management import call_command
    from django.db import connection

    from benchmarks.seeding import seed
    from trajectories import persistence
    from trajectories.models import Tenant
    from trajectories.storage import rollup_reads
    from trajectories.storage.store import get_store

    call_command("migrate", verbosity=0)
    if (row := Tenant.objects.filter(pk=TENANT).first()) is None:
        started = time.perf_counter()
        seed([TENANT], records, has_words=False)
        with connection.cursor() as cursor:
            _seed_words(cursor)
            _seed_audit(cursor, records)
        _persist(_long_run())
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")
        print(f"seeded in {time.perf_counter() - started:.0f} s", flush=True)
        row = Tenant.objects.get(pk=TENANT)
    elif row.record_count < records:
        raise SystemExit(f"The database has {row.record_count} records. Give an empty one, or --records.")
    if not rollup_reads.is_current(row):
        started = time.perf_counter()
        _roll_up()
        print(f"roll-ups made in {time.perf_counter() - started:.0f} s", flush=True)
    store = get_store()
    if not store.hot_cache.snapshot(TENANT).is_complete:
        started = time.perf_counter()
        print(f"{persistence.rebuild(store)} records in Redis after {time.perf_counter() - started:.0f} s", flush=True)


def _seed_words(cursor: Any) -> None:
    """Give each record the words of the template that it was made of, and the word of its own
    number."""
    from benchmarks.seeding import TEMPLATES

    cursor.execute(
        "INSERT INTO trajectories_search (rowid, words)"
        " SELECT r.id, s.words || array_to_tsvector(ARRAY['n' || r.seq]) FROM trajectories_trajectory r"
        " JOIN trajectories_trajectory t ON t.tenant_id = %s AND t.digest = r.digest"
        " JOIN trajectories_search s ON s.rowid = t.id WHERE r.tenant_id = %s",
        [TEMPLATES, TENANT],
    )


def _roll_up() -> None:
    """Make the roll-ups as a rebuild does, but count the copies of a template on a day at once."""
    from django.db import connection, transaction

    from benchmarks.seeding import TEMPLATES
    from trajectories.domain.clock import DAY_US
    from trajectories.models import RollUp, Tenant, Trajectory
    from trajectories.storage import rollup_reads, rollup_rebuild
    from trajectories.storage.rollup_rows import mark
    from trajectories.storage.rollups import TENANT_FIELDS, Changes, archived, write

    facets = {seq: found for seq, _, found in archived(Trajectory.objects.filter(tenant=TEMPLATES), "default")}
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute(
            "SELECT r.recorded_at_us / %s, r.started_at_us / %s, t.seq, count(*), max(r.seq)"
            " FROM trajectories_trajectory r JOIN trajectories_trajectory t ON t.tenant_id = %s AND t.digest = r.digest"
            " WHERE r.tenant_id = %s GROUP BY 1, 2, 3 ORDER BY 1",
            [DAY_US, DAY_US, TEMPLATES, TENANT],
        )
        copies = cursor.fetchall()
    with transaction.atomic():
        RollUp.objects.filter(tenant=TENANT).delete()
        row = Tenant.objects.select_for_update().get(pk=TENANT)
        row.rolled_changed, row.rolled_seq = mark(row.last_changed), row.last_seq
        row.rolled_cells = row.rollup_cut = row.selected_seq = 0
        for day, of_day in groupby(copies, key=itemgetter(0)):
            changes = Changes(row, "default", is_rebuild=True)
            for _, start, seq, count, _ in of_day:
                changes.add(0, day * DAY_US, facets[seq]._replace(started_at_us=start * DAY_US), times=count)
            write([changes])
        row.rolled_seq = max(last for *_, last in copies)
        row.save(update_fields=TENANT_FIELDS)
    rollup_rebuild.catch_up(TENANT, 10)
    if not rollup_reads.is_current(Tenant.objects.get(pk=TENANT)):
        raise SystemExit("The roll-ups lack changes: the figures would be those of scans.")
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE trajectories_rollup")


def _seed_audit(cursor: Any, records: int) -> None:
    cursor.execute(
        "INSERT INTO trajectories_auditentry (at_us, action, actor, tenant, target, count)"
        " SELECT (extract(epoch from now()) * 1000000)::bigint- n::bigint * 1000000, 'view', 'user alice', %s, gen_random_uuid(), 1"
        " FROM generate_series(1, %s) n",
        [TENANT, records],
    )


def _long_run() -> dict[str, Any]:
    """Return a run of 200 phases, of a little less than 1 MiB."""
    text = "The build failed in a step of this phase. "
    phase = {"model": "small", "outcome": "failure", "cost_usd": 0.01, "duration_ms": 1_000, "tools_used": ["grep"]}
    long = text * (_MIB // 200 // len(text) - 8)
    phases = [phase | {"phase_name": f"step-{at}", "error": long} for at in range(200)]
    return {"id": str(_LONG), "request_summary": "A run of 200 phases", "phases": phases}


def _persist(fields: dict[str, Any]) -> None:
    """Write a run to Redis and the archive, as a worker does."""
    from trajectories import persistence
    from trajectories.domain.record import Record, digest_of
    from trajectories.domain.schema import canonical, parse
    from trajectories.storage.store import get_store

    data = canonical(parse(orjson.dumps(fields)))
    now_us = time.time_ns() // 1_000
    persistence.persist(
        get_store(), [Record(TENANT, UUID(fields["id"]), now_us, digest_of(data), now_us, now_us, data)]
    )


# Times.


def _measure(repeats: int, only: str) -> None:
    from django.contrib.auth.models import User
    from django.test import Client

    user, _ = User.objects.get_or_create(username="benchmark", is_staff=True, is_superuser=True)
    client = Client()
    client.force_login(user)
    _time(_opened(client, "/admin/trajectories/savedview/"))  # imports, and what is read once a process
    print(
        f"{'wall (CPU + of Postgres)':38}{'first':>20}{'changed':>20}{'again':>20}{'queries':>9}{'kB':>7}", flush=True
    )
    for name, work in _works(client):
        if only not in name:
            continue
        first = _time(work)
        changed = [_after_a_run(partial(_time, work)) for _ in range(repeats)]
        again = [_time(work) for _ in range(repeats)]
        times = [_text([first]), _text(changed), _text(again)]
        print(f"{name:38}" + "".join(f"{one:>20}" for one in times) + _size(work), flush=True)


def _works(client: Client) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield the name of each page, and what opens it and returns its content."""
    yield "alerts of the overview", _alerts
    for name, address in _pages():
        yield name, _opened(client, address)


def _alerts() -> bytes:
    from trajectories.admin import alerts

    found = alerts.lines(TENANT, "admin", {})
    if found.problem:
        raise SystemExit(found.problem)
    return orjson.dumps([line.text for line in found.shown])


def _opened(client: Client, address: str) -> Callable[[], bytes]:
    def open_() -> bytes:
        answer = client.get(address)
        if answer.status_code != 200 or b"errornote" in answer.content:
            raise SystemExit(f"{address} answered {answer.status_code}: {answer.content[:2_000]!r}")
        return bytes(answer.content)

    return open_


def _pages() -> Iterator[tuple[str, str]]:
    from trajectories.models import Tenant, Trajectory

    rows = Trajectory.objects.filter(tenant=TENANT)
    tail = rows.order_by("seq").values_list("pk", flat=True)
    long = rows.get(trajectory_id=_LONG).pk
    middle = rows.order_by("-recorded_at_us").values_list("pk", "trajectory_id")[_PAGE]
    yield "overview", f"{_RUNS}overview/?tenant={TENANT}"
    yield "overview, all time", f"{_RUNS}overview/?tenant={TENANT}&period=all"
    yield "overview, a project", f"{_RUNS}overview/?tenant={TENANT}&project=project+7"
    yield "list", _RUNS
    yield "list, of a tenant", f"{_RUNS}?tenant={TENANT}"
    yield "list, words in every run", f"{_RUNS}?q=login"
    yield "list, words in one run in 800", f"{_RUNS}?q=run+777+login"
    yield "list, a word in one run", f"{_RUNS}?q=n{Tenant.objects.get(pk=TENANT).record_count // 2}"
    yield "list, a word in none", f"{_RUNS}?q=nothing"
    yield "list, an id", f"{_RUNS}?q={middle[1]}"
    yield "list, a project", f"{_RUNS}?tenant={TENANT}&project=project+7"
    yield "list, a project, any tenant", f"{_RUNS}?project=project+7"
    yield "list, a model and an outcome", f"{_RUNS}?model=small&outcome=failure"
    yield "list, a model that is not there", f"{_RUNS}?tenant={TENANT}&model=none"
    yield "list, a project that is not there", f"{_RUNS}?tenant={TENANT}&project=none"
    yield "list, a tag that is not there", f"{_RUNS}?tenant={TENANT}&tag=none"
    yield f"list, page {_DEEP:,}", f"{_RUNS}?{_deep()}"
    yield "list, oldest first", f"{_RUNS}?o=9"
    yield "list, live", f"{_RUNS}live/?after={_newest()}"
    yield "run", f"{_RUNS}{tail[10]}/change/"
    yield "run of 200 phases and 1 MiB", f"{_RUNS}{long}/change/"
    yield "the same, shape", f"{_RUNS}{long}/change/?view=shape"
    yield "the same, transcript", f"{_RUNS}{long}/change/?view=transcript"
    chosen = "&".join(f"run={pk}" for pk in tail[100:103])
    yield "compare runs", f"{_RUNS}compare/runs/?{chosen}"
    yield "compare groups", f"{_RUNS}compare/?tenant={TENANT}"
    yield "evaluate a policy", f"{_RUNS}evaluate/?tenant={TENANT}&otherwise=small"
    yield "evaluate rules at a phase", f"{_RUNS}evaluate/?tenant={TENANT}&otherwise=small&phase=implement&{_RULE}"
    yield "phases", "/admin/trajectories/phase/"
    yield "audit", "/admin/trajectories/auditentry/"
    yield "audit, an action that is not there", "/admin/trajectories/auditentry/?action=erase"
    yield "tenants", "/admin/trajectories/tenant/"
    yield "a tenant", f"/admin/trajectories/tenant/{TENANT}/change/"
    yield "readiness", f"/admin/trajectories/tenant/{TENANT}/readiness/"
    yield "health", "/admin/trajectories/tenant/health/"
    yield "index of the admin", "/admin/"


def _deep() -> str:
    """Return the parameters of a page far down the list."""
    from trajectories.admin import keyset
    from trajectories.models import Trajectory

    order = ("-recorded_at_us", "-trajectory_id", "-pk")
    above = min((_DEEP - 1) * _PAGE, Trajectory.objects.count() - 1) - 1
    return f"p={keyset.at(Trajectory.objects.order_by(*order)[above], order)}"


def _newest() -> str:
    from trajectories.domain.query import encode_cursor
    from trajectories.domain.record import Position
    from trajectories.models import Trajectory

    row = Trajectory.objects.order_by("-recorded_at_us", "-trajectory_id")[0]
    return encode_cursor(Position(row.recorded_at_us, row.trajectory_id))


def _after_a_run(work: Callable[[], Time]) -> Time:
    """Record a run, so that no earlier answer is the present one."""
    _persist(
        {"id": str(uuid4()), "request_summary": "One more", "phases": [{"phase_name": "plan", "outcome": "success"}]}
    )
    return work()


def _time(work: Callable[[], bytes]) -> Time:
    database, wall, cpu = _database_ms(), time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Time(1000 * wall, 1000 * cpu, _database_ms() - database)


def _database_ms() -> float:
    """Return the CPU of the connection's Postgres process, in steps of 10 ms; 0 if it runs
    elsewhere."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0
    return 1000 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _text(times: list[Time]) -> str:
    wall, cpu, database = (statistics.median(column) for column in zip(*times, strict=True))
    return f"{wall:,.0f} ({cpu:,.0f} + {database:,.0f})"


def _size(work: Callable[[], bytes]) -> str:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as captured:
        content = work()
    return f"{len(captured):9}{len(content) / 1000:7.0f}"


if __name__ == "__main__":
    main()
