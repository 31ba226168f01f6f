"""Measure each format of exports: peak memory and speed, beside COPY of the same rows from Postgres.

    uv run python -m benchmarks.export_formats [--records 100000]

Records have eight phases. Postgres is started for it, or is the one of DATABASE_URL. Each format runs
in a process of its own and writes its lines nowhere; MB are of lines, and bodies for COPY. Filling the
archive takes a few minutes. Linux only.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from typing import Any
from uuid import UUID

import orjson
import psycopg

from tests.postgres import throwaway_postgres

TENANT = "bench"
_BATCH = 500
_MODELS = ("large", "small", "tiny")
_NAMES = ("spec", "design", "implement", "test", "review", "implement", "test", "docs")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--step", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        _step(arguments.step, arguments.records)
        return
    with ExitStack() as stack:
        url = os.environ.get("DATABASE_URL") or stack.enter_context(throwaway_postgres())
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        environment = os.environ | {
            "DATABASE_URL": url,
            "SECRET_KEY": "of a benchmark",
            "DATA_DIR": directory,
            "DJANGO_SETTINGS_MODULE": "trajectory_site.settings",
        }
        _run(environment, "fill", arguments.records)
        print(f"{'':22}{'lines':>9}{'MB':>8}{'MB/s':>8}{'s':>8}{'peak MiB':>10}")
        _copy(url)
        for name in _run(environment, "names", arguments.records).split():
            print(_run(environment, name, arguments.records), end="")


def _run(environment: dict[str, str], step: str, records: int) -> str:
    command = [sys.executable, "-m", "benchmarks.export_formats", "--step", step, "--records", str(records)]
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def _copy(url: str) -> None:
    started, size, count = time.perf_counter(), 0, 0
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        statement = "COPY (SELECT body FROM trajectories_trajectory ORDER BY seq) TO STDOUT"
        with cursor.copy(statement) as copy:
            for data in copy:
                size += len(data)
                count += 1
    _report("COPY", count, size, time.perf_counter() - started, 0)


def _step(step: str, records: int) -> None:
    import django

    django.setup()
    from trajectories.training import formats

    if step == "fill":
        _fill(records)
    elif step == "names":
        print(*formats.FORMATS, *(f"{name}.parquet" for name in ("jsonl", "decisions", "sft")))
    else:
        _measure(*step.split("."))


def _fill(records: int) -> None:
    from django.core.management import call_command

    from trajectories.domain.record import Record, digest_of
    from trajectories.domain.schema import canonical, parse
    from trajectories.models import Tenant
    from trajectories.storage.archive_writes import mirror

    call_command("migrate", verbosity=0)
    Tenant.objects.get_or_create(slug=TENANT)
    batch: list[Record] = []
    for number in range(1, records + 1):
        body = canonical(parse(orjson.dumps(_trajectory(number))))
        at_us = 1_767_657_526_000_000 + number
        batch.append(Record(TENANT, UUID(int=number), at_us, digest_of(body), at_us, at_us, body))
        if len(batch) == _BATCH or number == records:
            mirror(batch)
            batch = []


def _trajectory(number: int) -> dict[str, Any]:
    def phase(at: int, name: str) -> dict[str, Any]:
        model = _MODELS[(number + at) % 3]
        return {
            "phase_name": name,
            "agent": f"agent-{at}",
            "model": model,
            "model_selection_method": "thompson-sampling",
            "candidates": [{"model": one, "probability": 1 / 3} for one in _MODELS],
            "selection_probability": 1 / 3,
            "tools_used": ["file_read", "grep", "edit"],
            "input_tokens": 1_500 + number % 997,
            "output_tokens": 300 + number % 89,
            "cost_usd": 0.012,
            "duration_ms": 2_500 + number % 31,
            "outcome": "failure" if (number + at) % 7 == 0 else "success",
        }

    return {
        "id": str(UUID(int=number)),
        "request_summary": f"Fix issue {number % 5_000} of the login page and its tests",
        "request_type": ("bugfix", "feature", "docs")[number % 3],
        "project": f"project-{number % 40}",
        "session_id": f"session-{number // 4}",
        "policy": f"router@{number % 3}",
        "phases": [phase(at, name) for at, name in enumerate(_NAMES)],
        "tests_passed": number % 5 > 0,
        "metadata": {"branch": f"b{number}"},
    }


def _measure(name: str, file: str = "jsonl") -> None:
    from trajectories.storage.store import get_store
    from trajectories.training.encoding import Encoding
    from trajectories.training.export import export, parse_request

    before = _peak_mib()
    store = get_store()
    request = parse_request({"format": name}, store.now_us())
    encoding = Encoding(file, "zstd" if file == "parquet" else "none")
    started, size, lines = time.perf_counter(), 0, 0
    for chunk in export(store, TENANT, request, encoding=encoding):
        size += len(chunk)
        lines += chunk.count(b"\n") if file == "jsonl" else 0
    _report(f"{name} {file}", lines, size, time.perf_counter() - started, _peak_mib() - before)


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _report(name: str, lines: int, size: int, seconds: float, peak_mib: int) -> None:
    mb = size / 1e6
    print(f"{name:22}{lines:>9}{mb:>8.0f}{mb / seconds:>8.1f}{seconds:>8.1f}{peak_mib:>10}")


if __name__ == "__main__":
    main()
