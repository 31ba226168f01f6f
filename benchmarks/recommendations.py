"""Measure a recommendation with a full hot cache and a larger archive, against an empty view.

    uv run python -m benchmarks.recommendations [--records 100000] [--requests 40]

The newest 10,000 records of the tenant are hot, all are in SQLite; ``benchmarks.seeding`` makes them.
One client sends one request at a time; figures are medians of wall time. Quote the ratios. Linux
only.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from benchmarks import report, seeding
from benchmarks.bodies import run
from benchmarks.report import Row
from benchmarks.sides import PATH
from tests.processes import Site, Web

RECOMMENDATIONS = "/v1/agent/recommendations"


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as directory:
        site = Site.make(Path(directory) / "site", {})
        try:
            (seeded,) = seeding.in_a_process(site.environment, ["recommendations"], arguments.records)
            web = site.web(DJANGO_SETTINGS_MODULE="benchmarks.settings")
            web.http.headers["Authorization"] = f"Bearer {seeded.key}"
            yield from _rows(web, arguments)
        finally:
            site.close()


def _rows(web: Web, arguments: argparse.Namespace) -> Iterator[Row]:
    asked = {"phase": "implement", "candidates": [{"model": model} for model in (*seeding.MODELS, "other")]}

    def empty() -> None:
        web.http.get("/empty").raise_for_status()

    def recommend() -> None:
        _post(web, RECOMMENDATIONS, asked)

    web.http.get(PATH, params={"limit": 1}).raise_for_status()  # fills the hot cache
    first_ms = _timed(recommend)
    base = statistics.median(_times(empty, None, arguments.requests))
    name, anchor = f"recommendation, {arguments.records:,} records", "a view that does nothing"
    yield Row(f"{name}, the first one of a process", first_ms, "ms", None, anchor, base)
    for kind, prepare in (("unchanged", None), ("after a new record", lambda: _record(web))):
        median = statistics.median(_times(recommend, prepare, arguments.requests))
        yield Row(f"{name}, {kind}", median, "ms", None, anchor, base)


def _times(ask: Callable[[], None], prepare: Callable[[], None] | None, requests: int) -> list[float]:
    times = []
    for _ in range(requests):
        if prepare is not None:
            prepare()
        times.append(_timed(ask))
    return times


def _timed(ask: Callable[[], None]) -> float:
    started = time.perf_counter()
    ask()
    return (time.perf_counter() - started) * 1000


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


if __name__ == "__main__":
    report.main(__doc__, measure, _arguments)
