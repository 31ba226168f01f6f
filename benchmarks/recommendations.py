"""Measure a recommendation with a full hot cache and a larger archive, against an empty view.

    uv run python -m benchmarks.recommendations [--records 100000] [--requests 40] [--tenant NAME]

The newest 10,000 records of the tenant are hot, all are in SQLite, or in the database of
DATABASE_URL; ``benchmarks.seeding`` makes them, unless the tenant has them. One client sends one
request at a time; figures are medians of wall time, and of the CPU time of the web process, its
relay's included. Quote the ratios. Linux only.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from benchmarks import report, seeding, usage
from benchmarks.bodies import run
from benchmarks.report import Row
from benchmarks.sides import PATH
from tests.processes import Site, Web, wait_until

RECOMMENDATIONS = "/v1/agent/recommendations"


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as directory:
        database = {name: os.environ[name] for name in ("DATABASE_URL",) if name in os.environ}
        site = Site.make(Path(directory) / "site", database)
        try:
            (seeded,) = seeding.in_a_process(site.environment, [arguments.tenant], arguments.records)
            web = site.web(DJANGO_SETTINGS_MODULE="benchmarks.settings", TRAJECTORIES_METRICS_ACCESS="open")
            web.http.headers["Authorization"] = f"Bearer {seeded.key}"
            yield from _rows(web, arguments)
        finally:
            site.close()


class Took(NamedTuple):
    """Wall time, and the CPU time of the web process, in milliseconds."""

    wall_ms: float
    cpu_ms: float


def _rows(web: Web, arguments: argparse.Namespace) -> Iterator[Row]:
    asked = {"phase": "implement", "candidates": [{"model": model} for model in (*seeding.MODELS, "other")]}

    def empty() -> None:
        web.http.get("/empty").raise_for_status()

    def recommend() -> None:
        _post(web, RECOMMENDATIONS, asked)

    web.http.get(PATH, params={"limit": 1}).raise_for_status()  # fills the hot cache with the newest 500
    first = _timed(web, recommend)
    wait_until(lambda: _hot_records(web) >= min(arguments.records, 10_000), 120, "the hot cache is full")
    filled = _timed(web, recommend)
    base = _median(web, empty, None, arguments.requests)
    name = f"recommendation, {arguments.records:,} records"
    figures = {
        "the first one of a process": first,
        "the first one after the hot cache has filled": filled,
        "unchanged": _median(web, recommend, None, arguments.requests),
        "after a new record": _median(web, recommend, lambda: _record(web), arguments.requests),
    }
    for kind, took in figures.items():
        yield Row(f"{name}, {kind}", took.wall_ms, "ms", None, "a view that does nothing", base.wall_ms)
        yield Row(f"{name}, {kind}: CPU", took.cpu_ms, "ms", None, "a view that does nothing", base.cpu_ms)


def _hot_records(web: Web) -> float:
    text = web.http.get("/metrics").raise_for_status().text
    found = re.search(r"^trajectories_hot_records\S* (\S+)", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def _median(web: Web, ask: Callable[[], None], prepare: Callable[[], None] | None, requests: int) -> Took:
    took = []
    for _ in range(requests):
        if prepare is not None:
            prepare()
        took.append(_timed(web, ask))
    return Took(*map(statistics.median, zip(*took, strict=True)))


def _timed(web: Web, ask: Callable[[], None]) -> Took:
    cpu_ms, started = usage.exact_cpu_ms(web.pid), time.perf_counter()
    ask()
    wall_ms = (time.perf_counter() - started) * 1000
    return Took(wall_ms, usage.exact_cpu_ms(web.pid) - cpu_ms)


def _record(web: Web) -> None:
    _post(web, PATH, run(3) | {"request_summary": os.urandom(8).hex()})


def _post(web: Web, path: str, body: dict[str, Any]) -> Any:
    answer = web.http.post(path, content=orjson.dumps(body), headers={"Content-Type": "application/json"})
    if not answer.is_success:
        raise SystemExit(f"{path} answered {answer.status_code}: {answer.text[:500]}")
    return orjson.loads(answer.content)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--tenant", default="recommendations")


if __name__ == "__main__":
    report.main(__doc__, measure, _arguments)
