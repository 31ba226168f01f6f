"""Fill an archive with records of many kinds, mostly by copying rows in the database.

    python -m benchmarks.seeding --records 1000 TENANT …

The environment is that of a site. Of each 800 records no two agree in project, request type, source
and outcome; they have 5 phases and span 90 days. Copies keep the body of their original, so that
the id in it is another one. Roll-ups are made for the tenants that get a key, the last ``--keys``
of them; each key is printed with the id of the tenant's oldest record, as JSON. Tenants that have
these records already get a key alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple
from uuid import uuid4

import orjson

from tests.processes import PROJECT, run_python

DAYS = 90
DAY_US = 24 * 3600 * 1_000_000
TEMPLATES = "templates"
_KINDS = 800
_PHASES = ("plan", "implement", "test", "review", "document")
MODELS = ("anthropic/claude-sonnet-4", "openai/gpt-5", "small", "mid")


class Seeded(NamedTuple):
    """A tenant's API key, and the id of its oldest record."""

    key: str
    oldest: str


def in_a_process(environment: dict[str, str], tenants: Sequence[str], records: int, *, keys: int = 1) -> list[Seeded]:
    """Seed ``records`` of each tenant in the site of ``environment``; return the last ``keys``
    tenants."""
    command = ["-m", "benchmarks.seeding", "--records", str(records), "--keys", str(keys), *tenants]
    done = run_python(command, environment, directory=PROJECT)
    if done.returncode:
        raise SystemExit(done.stderr)
    return [Seeded(*each) for each in json.loads(done.stdout.splitlines()[-1])]


def seed(tenants: Sequence[str], records: int, *, has_words: bool = True) -> None:
    """Give each new tenant ``records`` records, the newest of now, without roll-ups.

    Args:
        has_words: with those of the search. Otherwise the caller writes them.
    """
    from django.db import connection

    from trajectories.models import Tenant
    from trajectories.storage.archive_writes import mirror

    if not Tenant.objects.filter(slug=TEMPLATES).exists():
        templates = list(kinds(TEMPLATES))
        for start in range(0, len(templates), 100):
            mirror(templates[start : start + 100])
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET statement_timeout = 0")
        for tenant in tenants:
            Tenant.objects.create(
                slug=tenant, last_seq=records, last_changed=records, record_count=records, rolled_changed=-1
            )
            _copy_trajectories(cursor, tenant, records)
            _copy_phases(cursor, tenant)
            if has_words:
                _copy_words(cursor, tenant)
        cursor.execute("ANALYZE")


def roll_up(tenant: str) -> None:
    from trajectories.storage import rollup_rebuild

    if not rollup_rebuild.rebuild(tenant):
        raise SystemExit(f"The records of {tenant} need more roll-ups than ROLLUP_MAX_CELLS allows.")


def _copy_trajectories(cursor: Any, tenant: str, records: int) -> None:
    from trajectories.models import Trajectory

    is_sqlite = cursor.db.vendor == "sqlite"
    now_us, step_us = int(time.time() * 1_000_000), DAYS * DAY_US // records
    at = f"{now_us} - ({records} - n) * {step_us}"
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
        f"(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {records}) SELECT n FROM c) AS g"
        if is_sqlite
        else f"generate_series(CAST(1 AS bigint), {records}) AS g(n)"
    )
    columns = [str(field.column) for field in Trajectory._meta.fields if field.column != "id"]
    names = ", ".join(f'"{column}"' for column in columns)
    values = ", ".join(made.get(column, f't."{column}"') for column in columns)
    cursor.execute(
        f"INSERT INTO trajectories_trajectory ({names}) SELECT {values} FROM {numbers}"
        f" JOIN trajectories_trajectory t ON t.tenant_id = '{TEMPLATES}' AND t.seq = 1 + (n * 7919) % {_KINDS}"
    )


def _copy_phases(cursor: Any, tenant: str) -> None:
    from trajectories.models import Phase

    columns = [field.column for field in Phase._meta.fields if field.column not in ("id", "trajectory_id")]
    names = ", ".join(f'"{column}"' for column in columns)
    values = ", ".join(f'p."{column}"' for column in columns)
    cursor.execute(
        f"INSERT INTO trajectories_phase (trajectory_id, {names}) SELECT r.id, {values} FROM trajectories_trajectory r"
        f" JOIN trajectories_trajectory t ON t.tenant_id = '{TEMPLATES}' AND t.seq = 1 + (r.seq * 7919) % {_KINDS}"
        f" JOIN trajectories_phase p ON p.trajectory_id = t.id WHERE r.tenant_id = '{tenant}'"
    )


def _copy_words(cursor: Any, tenant: str) -> None:
    cursor.execute(
        "INSERT INTO trajectories_search (rowid, words) SELECT r.id, s.words FROM trajectories_trajectory r"
        f" JOIN trajectories_trajectory t ON t.tenant_id = '{TEMPLATES}' AND t.seq = 1 + (r.seq * 7919) % {_KINDS}"
        f" JOIN trajectories_search s ON s.rowid = t.id WHERE r.tenant_id = '{tenant}'"
    )


def kinds(tenant: str) -> Iterator[Any]:
    """Yield a ``Record`` of each combination of project, request type, source and outcome."""
    from trajectories.domain.record import Record, digest_of
    from trajectories.domain.schema import canonical, parse

    stamp = int(time.time() * 1_000_000)
    every = product(range(20), ("feature", "bug", "refactor", "docs", "chore"), ("cli", "ci"), range(4))
    for number, (project, request_type, source, outcome) in enumerate(every):
        id_ = uuid4()
        fields = {
            "id": str(id_),
            "request_summary": f"Run {number}: add a login",
            "request_type": request_type,
            "source": source,
            "project": f"project {project}",
            "outcome": ("success", "success", "failure", "partial")[outcome],
            "tests_passed": outcome < 2,
            "phases": [_phase(number, place) for place in range(len(_PHASES))],
            "tags": ["nightly"],
        }
        data = canonical(parse(orjson.dumps(fields)))
        yield Record(tenant, id_, stamp + number, digest_of(data), stamp, stamp, data)


def _phase(number: int, place: int) -> dict[str, object]:
    return {
        "phase_name": _PHASES[place],
        "agent": "coder",
        "model": MODELS[(number + place) % len(MODELS)],
        "model_selection_method": ("explicit", "thompson-sampling")[number % 2],
        "tools_used": ["file_read", "grep", "edit"],
        "input_tokens": 1_000 + 37 * number,
        "output_tokens": 200 + 11 * number,
        "cost_usd": 0.01 + number / 10_000,
        "duration_ms": 4_000 + 13.5 * number,
        "outcome": ("success", "failure", "success", "skipped")[(number + place) % 4],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tenants", nargs="+")
    parser.add_argument("--records", type=int, required=True)
    parser.add_argument("--keys", type=int, default=1)
    arguments = parser.parse_args()
    import django

    django.setup()
    from trajectories.models import ApiKey, Tenant, Trajectory

    known = Tenant.objects.filter(pk__in=arguments.tenants, record_count__gte=arguments.records)
    present = set(known.values_list("pk", flat=True))
    seed([tenant for tenant in arguments.tenants if tenant not in present], arguments.records)
    seeded = []
    for tenant in Tenant.objects.filter(pk__in=arguments.tenants[-arguments.keys :]):
        if tenant.slug not in present:
            roll_up(tenant.slug)
        _, key = ApiKey.objects.issue(tenant=tenant, name="", scopes=["read", "record", "export"])
        oldest = Trajectory.objects.get(tenant=tenant, seq=1).trajectory_id
        seeded.append(Seeded(key, str(oldest)))
    json.dump(seeded, sys.stdout)


if __name__ == "__main__":
    main()
