"""Measure list and stats with a full hot cache and a larger archive, against an empty view.

    uv run python -m benchmarks.reads [--archived 100000] [--requests 40]

The newest 10,000 records of the tenant are hot, the rest is in SQLite. One client sends one request
at a time; figures are medians of wall time. Quote the ratios. Filling the archive takes a few
minutes. Linux only.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson

from tests.processes import PROJECT, Site, Web

PATH = "/v1/agent/trajectories"
HOT = 10_000
_BATCH = 500
_PROJECTS = 20


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--archived", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--fill", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fill:
        _fill(arguments.fill, arguments.archived)
        return
    with tempfile.TemporaryDirectory() as directory:
        site = Site.make(Path(directory) / "site", {})
        try:
            command = [sys.executable, "-m", "benchmarks.reads", "--fill", site.tenant]
            command += ["--archived", str(arguments.archived + HOT)]
            subprocess.run(command, env=site.environment, cwd=PROJECT, check=True)
            _measure(site.web(DJANGO_SETTINGS_MODULE="benchmarks.settings"), arguments.archived, arguments.requests)
        finally:
            site.close()


def _measure(web: Web, archived: int, requests: int) -> None:
    started = time.perf_counter()
    first = _get(web, PATH, {"limit": 1})
    fill_ms = (time.perf_counter() - started) * 1000
    below = _cursor_below_floor(web)
    old = _get(web, PATH, {"limit": 1} | below)["data"][0]["id"]
    questions: dict[str, tuple[str, dict[str, Any]]] = {
        "a view that does nothing": ("/empty", {}),
        "retrieve, hot": (f"{PATH}/{first['data'][0]['id']}", {}),
        "retrieve, archived": (f"{PATH}/{old}", {}),
        "list, 50 newest": (PATH, {"limit": 50}),
        "list, 50 of one project in 20": (PATH, {"limit": 50, "project": "project 7"}),
        "list, 50 below the floor": (PATH, {"limit": 50} | below),
        "list, a project that is not there": (PATH, {"limit": 50, "project": "nobody's"}),
        "stats, everything": (f"{PATH}/stats", {}),
        "stats, one project in 20": (f"{PATH}/stats", {"project": "project 7"}),
    }
    print(f"{HOT} hot records, {archived} below; medians of {requests}; the first read took {fill_ms:.0f} ms")
    base = 0.0
    for name, (path, parameters) in questions.items():
        median = statistics.median(_times_ms(web, path, parameters, requests))
        base = base or median
        print(f"{name:36}{median:10.2f} ms{median / base:8.1f} x")


def _times_ms(web: Web, path: str, parameters: dict[str, Any], requests: int) -> list[float]:
    times = []
    for _ in range(requests):
        started = time.perf_counter()
        _get(web, path, parameters)
        times.append((time.perf_counter() - started) * 1000)
    return times


def _get(web: Web, path: str, parameters: dict[str, Any]) -> Any:
    answer = web.http.get(path, params=parameters)
    if not answer.is_success:
        raise SystemExit(f"{path} answered {answer.status_code}: {answer.text[:500]}")
    return orjson.loads(answer.content) if answer.content else None


def _cursor_below_floor(web: Web) -> dict[str, str]:
    cursor: dict[str, str] = {}
    for _ in range(HOT // 1_000 + 1):
        cursor = {"cursor": _get(web, PATH, {"limit": 1_000} | cursor)["next_cursor"]}
    return cursor


def _fill(tenant: str, count: int) -> None:
    """Write records directly into the archive, as a worker would."""
    import django

    django.setup()
    from benchmarks.post_cpu import run
    from trajectories.domain.record import Record, digest_of
    from trajectories.domain.schema import canonical, parse
    from trajectories.storage.archive_writes import mirror

    body, now_us = run(3), time.time_ns() // 1_000
    batch = []
    for number in range(count):
        fields = {"request_summary": f"Run {number}", "project": f"project {number % _PROJECTS}"}
        data = canonical(parse(orjson.dumps(body | fields | {"id": f"00000000-0000-4000-8000-{number:012x}"})))
        id_ = parse(data).id
        assert id_ is not None
        stamp = now_us - (count - number) * 1_000
        batch.append(Record(tenant, id_, stamp, digest_of(data), stamp, stamp, data))
        if len(batch) == _BATCH or number == count - 1:
            mirror(batch)
            batch = []


if __name__ == "__main__":
    main()
