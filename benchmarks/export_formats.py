"""Measure each format of exports: peak memory and speed, beside COPY of the same rows from
Postgres.

    uv run python -m benchmarks.export_formats [--records 100000] [--formats jsonl decisions.parquet] [--cuts 10]
        [--results FILE]

Records have two or three phases; contexts have several actions, so pairs and routing tables are not
empty. Postgres is started for it, or is the one of DATABASE_URL, which must be empty or have these
records. The first 20,000 records go through the store's own writer; the rest are copies of their
rows with other ids, made by the database, without rows of phases, which exports do not read. Each
format runs in a process of its own and writes its bytes nowhere; MB are of these bytes, and of
bodies for COPY; CPU seconds are of that process, without the database's. "peak MiB" is the greatest
resident memory of the process, "grown" the part of it above that at the start.

With ``--cuts``, each format is also exported to disk once whole and once with its process killed
that many times at random places; the files must be the same. ``--results`` keeps each result in a
file of JSON; the same call goes on after the results that it has. Linux only.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson
import psycopg

from tests.postgres import throwaway_postgres

if TYPE_CHECKING:  # the settings are not chosen yet
    from collections.abc import Callable

    from trajectories.training.encoding import Encoding

TENANT = "bench"
_BATCH = 500
_WRITTEN = 20_000
_POLL_S = 0.005
_HEAD = f"{'':26}{'lines':>9}{'MB':>8}{'MB/s':>8}{'s':>8}{'CPU s':>8}{'peak MiB':>10}{'grown':>7}"
_MODELS = ("large", "small", "tiny")
_NAMES = ("spec", "implement", "docs")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--formats", nargs="*", help="all by default; FORMAT, or FORMAT.parquet")
    parser.add_argument("--cuts", type=int, default=0)
    parser.add_argument("--results", type=Path, help="a file that keeps the results, to go on after a stop")
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
        results = _Results(arguments.results)
        print(_HEAD, flush=True)
        results.show("COPY", partial(_copy, url))
        for name in names:
            results.show(name, partial(_run, environment, name, arguments.records))
        for name in names if arguments.cuts else ():
            step = f"cut:{arguments.cuts}:{name}"
            results.show(f"{name} cut", partial(_run, environment, step, arguments.records))


class _Results:
    """The lines of results by name, kept in a file if there is one."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[str, str] = orjson.loads(path.read_bytes()) if path and path.exists() else {}

    def show(self, name: str, measure: Callable[[], str]) -> None:
        """Print the result of this name, measured if it is not known yet."""
        if name not in self._known:
            self._known[name] = measure().rstrip()
            if self._path:
                self._path.write_bytes(orjson.dumps(self._known, option=orjson.OPT_INDENT_2))
        print(self._known[name], flush=True)


def _command(step: str, records: int) -> list[str]:
    return [sys.executable, "-m", "benchmarks.export_formats", "--step", step, "--records", str(records)]


def _run(environment: dict[str, str], step: str, records: int) -> str:
    command = _command(step, records)
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def _copy(url: str) -> str:
    started, cpu_s, size, count = time.perf_counter(), time.process_time(), 0, 0
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        statement = "COPY (SELECT body FROM trajectories_trajectory ORDER BY seq) TO STDOUT"
        with cursor.copy(statement) as copy:
            for data in copy:
                size += len(data)
                count += 1
    return _report("COPY", count, size, time.perf_counter() - started, time.process_time() - cpu_s, _peak_mib())


def _cut(name: str, encoding: Encoding, cuts: int, directory: Path) -> str:
    """Export to disk whole, and with ``cuts`` kills; return a line that says whether the files are
    the same."""
    whole, cut = directory / "whole", directory / "cut"
    biggest, _ = _export(name, encoding, whole, until_bytes=None)
    draw = random.Random(f"{name} {encoding.file}")
    places = sorted(draw.randrange(1, biggest) for _ in range(cuts))
    kills = sum(_export(name, encoding, cut, until_bytes=place)[1] for place in places)
    _export(name, encoding, cut, until_bytes=None)
    hashes = [
        {one.name: _sha256(one) for one in sorted(of.iterdir()) if "manifest" not in one.name} for of in (whole, cut)
    ]
    is_same = hashes[0] == hashes[1] and len(hashes[0]) == 1
    size = sum(one.stat().st_size for one in whole.iterdir())
    for of in (whole, cut):
        shutil.rmtree(of)
    verdict = "the same file" if is_same else f"DIFFERENT: {hashes}"
    return f"{name} {encoding.file}: {size / 1e6:.0f} MB, killed {kills} times and continued: {verdict}"


def _export(name: str, encoding: Encoding, output: Path, *, until_bytes: int | None) -> tuple[int, bool]:
    """Export to ``output`` in a process of its own; kill it when the files there have
    ``until_bytes``.

    Returns:
        The most bytes that were seen there, and whether the process was killed.
    """
    process = multiprocessing.get_context("fork").Process(target=_to_disk, args=(name, encoding, output))
    process.start()
    biggest, is_killed = 0, False
    while process.is_alive():
        size = _written(output)
        biggest = max(biggest, size)
        if until_bytes is not None and size >= until_bytes and not is_killed:
            process.kill()
            is_killed = True
        process.join(_POLL_S)
    if not is_killed and process.exitcode:
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
    elif step.startswith("cut:"):
        _, cuts, name = step.split(":")
        with tempfile.TemporaryDirectory() as directory:
            print(_cut(*_named(name), int(cuts), Path(directory)))
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
    """Return a run of two or three phases. Of four runs of a request, each phase has several
    actions."""
    draw = random.Random(number)

    def phase(name: str) -> dict[str, Any]:
        model = draw.choice(_MODELS)
        known = {
            "phase_name": name,
            "agent": f"{name}-agent",
            "model": model,
            "model_selection_method": "thompson-sampling",
            "candidates": [{"model": one, "probability": 1 / 3} for one in _MODELS],
            "selection_probability": 1 / 3,
            "tools_used": ["file_read", "grep", "edit"],
            "input_tokens": draw.randrange(1_500, 2_500),
            "output_tokens": draw.randrange(300, 400),
            "cost_usd": draw.randrange(1, 40) / 1_000,
            "duration_ms": draw.randrange(2_500, 60_000),
            "outcome": "success" if draw.random() < 0.85 else "failure",
        }
        if name != "implement" or draw.random() < 0.8:
            return known
        other = draw.choice([one for one in _MODELS if one != model])
        tried = [{"model": model, "outcome": "failure"}, {"model": other, "outcome": "success"}]
        return known | {"model": other, "requested_model": model, "attempts": tried, "outcome": "success"}

    return {
        "id": str(UUID(int=number)),
        "request_summary": f"Fix issue {number % 5_000} of the login page and its tests",
        "request_type": ("bugfix", "feature", "docs")[number % 5_000 % 3],
        "project": f"project-{number % 40}",
        "session_id": f"session-{number // 4}",
        "policy": f"router@{number % 3}",
        "phases": [phase(name) for name in _NAMES[number % 2 :]],
        "tests_passed": draw.random() < 0.7,
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
    print(_report(f"{name} {encoding.file}", lines, size, seconds, cpu_s, before))


def _to_disk(name: str, encoding: Encoding, output: Path) -> None:
    from trajectories.storage.store import get_store
    from trajectories.training.files import export_to_disk

    export_to_disk(get_store(), TENANT, {"format": name}, output, encoding=encoding)


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _report(name: str, lines: int, size: int, seconds: float, cpu_s: float, before_mib: int) -> str:
    mb, peak = size / 1e6, _peak_mib()
    figures = f"{mb:>8.0f}{mb / seconds:>8.1f}{seconds:>8.1f}{cpu_s:>8.1f}{peak:>10}{peak - before_mib:>7}"
    return f"{name:26}{lines:>9}{figures}"


if __name__ == "__main__":
    main()
