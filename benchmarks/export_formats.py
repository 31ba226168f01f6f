"""Measure each format of exports: peak memory and speed, beside COPY of the same rows from Postgres.

    uv run python -m benchmarks.export_formats [--records 100000] [--formats jsonl decisions.parquet] [--cuts 10]

Records have eight phases. Postgres is started for it, or is the one of DATABASE_URL, which must be
empty. The first 20,000 records go through the store's own writer; the rest are copies of their rows
with other ids, made by the database, without rows of phases, which exports do not read. Each format
runs in a process of its own and writes its lines nowhere; MB are of lines, and of bodies for COPY; CPU
seconds are of that process, without the database's.

With ``--cuts``, each format is also exported to disk once whole and once with its process killed
that many times at random places; the files must be the same. Linux only.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson
import psycopg

from tests.postgres import throwaway_postgres

if TYPE_CHECKING:  # the settings are not chosen yet
    from trajectories.training.encoding import Encoding

TENANT = "bench"
_BATCH = 500
_WRITTEN = 20_000
_POLL_S = 0.005
_MODELS = ("large", "small", "tiny")
_NAMES = ("spec", "design", "implement", "test", "review", "implement", "test", "docs")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--formats", nargs="*", help="all by default; FORMAT, or FORMAT.parquet")
    parser.add_argument("--cuts", type=int, default=0)
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
        names = arguments.formats or _run(environment, "names", arguments.records).split()
        print(f"{'':26}{'lines':>9}{'MB':>8}{'MB/s':>8}{'s':>8}{'CPU s':>8}{'peak MiB':>10}", flush=True)
        _copy(url)
        for name in names:
            print(_run(environment, name, arguments.records), end="", flush=True)
        for name in names if arguments.cuts else ():
            print(_cut(environment, name, arguments.records, arguments.cuts, Path(directory)), flush=True)


def _command(step: str, records: int) -> list[str]:
    return [sys.executable, "-m", "benchmarks.export_formats", "--step", step, "--records", str(records)]


def _run(environment: dict[str, str], step: str, records: int) -> str:
    command = _command(step, records)
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def _copy(url: str) -> None:
    started, cpu_s, size, count = time.perf_counter(), time.process_time(), 0, 0
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        statement = "COPY (SELECT body FROM trajectories_trajectory ORDER BY seq) TO STDOUT"
        with cursor.copy(statement) as copy:
            for data in copy:
                size += len(data)
                count += 1
    _report("COPY", count, size, time.perf_counter() - started, time.process_time() - cpu_s, 0)


def _cut(environment: dict[str, str], name: str, records: int, cuts: int, directory: Path) -> str:
    """Export to disk whole, and with ``cuts`` kills; return a line that says whether the files are the same."""
    whole, cut = (directory / f"{name.replace('.', '-')}-{kind}" for kind in ("whole", "cut"))
    started = time.perf_counter()
    biggest, _ = _export(environment, name, records, whole, until_bytes=None)
    whole_s = time.perf_counter() - started
    draw = random.Random(name)
    kills = 0
    started = time.perf_counter()
    for place in sorted(draw.randrange(1, biggest) for _ in range(cuts)):
        kills += _export(environment, name, records, cut, until_bytes=place)[1]
    _export(environment, name, records, cut, until_bytes=None)
    cut_s = time.perf_counter() - started
    hashes = [
        {one.name: _sha256(one) for one in sorted(of.iterdir()) if "manifest" not in one.name} for of in (whole, cut)
    ]
    is_same = hashes[0] == hashes[1] and len(hashes[0]) == 1
    size = sum(one.stat().st_size for one in whole.iterdir())
    for of in (whole, cut):
        shutil.rmtree(of)
    verdict = "the same file" if is_same else f"DIFFERENT: {hashes}"
    return f"{name}: {size / 1e6:.0f} MB, whole in {whole_s:.0f} s, cut {kills} times in {cut_s:.0f} s: {verdict}"


def _export(
    environment: dict[str, str], name: str, records: int, output: Path, *, until_bytes: int | None
) -> tuple[int, bool]:
    """Export to ``output``; kill the process when the files there have ``until_bytes``.

    Returns:
        The most bytes that were seen there, and whether the process was killed.
    """
    process = subprocess.Popen(_command(f"disk:{name}:{output}", records), env=environment)
    biggest, is_killed = 0, False
    while process.poll() is None:
        size = _written(output)
        biggest = max(biggest, size)
        if until_bytes is not None and size >= until_bytes and not is_killed:
            process.kill()
            is_killed = True
        time.sleep(_POLL_S)
    if not is_killed and process.returncode:
        raise SystemExit(f"The export of {name} failed.")
    return biggest, is_killed


def _written(output: Path) -> int:
    size = 0
    with suppress(FileNotFoundError):  # not there yet, or renamed meanwhile
        for one in output.iterdir():
            if one.suffix in (".lines", ".new"):
                size += one.stat().st_size
    return size


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _step(step: str, records: int) -> None:
    import django

    django.setup()
    from trajectories.training import formats

    if step == "fill":
        _fill(records)
    elif step == "names":
        print(*formats.FORMATS, *(f"{name}.parquet" for name in ("jsonl", "decisions", "sft")))
    elif step.startswith("disk:"):
        _, name, output = step.split(":", 2)
        _to_disk(*_named(name), Path(output))
    else:
        _measure(*_named(step))


def _named(step: str) -> tuple[str, Encoding]:
    from trajectories.training.encoding import Encoding

    name, _, file = step.partition(".")
    return name, Encoding("parquet", "zstd") if file else Encoding()


def _fill(records: int) -> None:
    from django.core.management import call_command

    from trajectories.domain.record import Record, digest_of
    from trajectories.domain.schema import canonical, parse
    from trajectories.models import Tenant, Trajectory
    from trajectories.storage.archive_writes import mirror

    call_command("migrate", verbosity=0)
    Tenant.objects.get_or_create(slug=TENANT)
    if (found := Trajectory.objects.count()) != 0:
        if found != records:
            raise SystemExit(f"The database has {found} records. Give an empty one, or --records {found}.")
        return
    batch: list[Record] = []
    written = min(records, _WRITTEN)
    for number in range(1, written + 1):
        body = canonical(parse(orjson.dumps(_trajectory(number))))
        at_us = 1_767_657_526_000_000 + number
        batch.append(Record(TENANT, UUID(int=number), at_us, digest_of(body), at_us, at_us, body))
        if len(batch) == _BATCH or number == written:
            mirror(batch)
            batch = []
    _copy_rows(written, records)


def _copy_rows(written: int, records: int) -> None:
    """Copy the rows of records until there are ``records``, each with an id of its own in its body."""
    from django.db import connection

    from trajectories.models import Trajectory

    names = [str(field.column) for field in Trajectory._meta.fields if field.column != "id"]
    id_ = "lpad(to_hex({}), 32, '0')::uuid"
    changed = {
        "trajectory_id": id_.format("seq + %(shift)s"),
        "body": f"replace(body, {id_.format('seq')}::text, {id_.format('seq + %(shift)s')}::text)",
    }
    changed |= {name: f"{name} + %(shift)s" for name in ("seq", "changed", "stamp", "revision", "recorded_at_us")}
    statement = (
        f"INSERT INTO trajectories_trajectory ({', '.join(names)})"
        f" SELECT {', '.join(changed.get(name, name) for name in names)}"
        " FROM trajectories_trajectory WHERE seq <= %(limit)s ORDER BY seq"
    )
    with connection.cursor() as cursor:
        for shift in range(written, records, written):
            cursor.execute(statement, {"shift": shift, "limit": min(written, records - shift)})
        cursor.execute("UPDATE trajectories_tenant SET last_seq = %s, last_changed = %s", [records, records])
        cursor.execute("VACUUM ANALYZE trajectories_trajectory")


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
        "request_type": ("bugfix", "feature", "docs")[number % 5_000 % 3],
        "project": f"project-{number % 40}",
        "session_id": f"session-{number // 4}",
        "policy": f"router@{number % 3}",
        "phases": [phase(at, name) for at, name in enumerate(_NAMES)],
        "tests_passed": number % 7 > 1,
        "metadata": {"branch": f"b{number}"},
    }


def _measure(name: str, encoding: Encoding) -> None:
    from trajectories.storage.store import get_store
    from trajectories.training.export import export, parse_request

    before = _peak_mib()
    store = get_store()
    request = parse_request({"format": name}, store.now_us())
    started, cpu_s, size, lines = time.perf_counter(), time.process_time(), 0, 0
    for chunk in export(store, TENANT, request, encoding=encoding):
        size += len(chunk)
        lines += chunk.count(b"\n") if encoding.file == "jsonl" else 0
    seconds, cpu_s = time.perf_counter() - started, time.process_time() - cpu_s
    _report(f"{name} {encoding.file}", lines, size, seconds, cpu_s, _peak_mib() - before)


def _to_disk(name: str, encoding: Encoding, output: Path) -> None:
    from trajectories.storage.store import get_store
    from trajectories.training.files import export_to_disk

    export_to_disk(get_store(), TENANT, {"format": name}, output, encoding=encoding)


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _report(name: str, lines: int, size: int, seconds: float, cpu_s: float, peak_mib: int) -> None:
    mb = size / 1e6
    print(f"{name:26}{lines:>9}{mb:>8.0f}{mb / seconds:>8.1f}{seconds:>8.1f}{cpu_s:>8.1f}{peak_mib:>10}")


if __name__ == "__main__":
    main()
