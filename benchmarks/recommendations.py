"""Measure a recommendation with a full hot cache and a larger archive, against an empty view.

    uv run python -m benchmarks.recommendations [--archived 100000] [--requests 40]

The newest 10,000 records of the tenant are hot, the rest is in SQLite; ``benchmarks.reads`` fills it.
One client sends one request at a time; figures are medians of wall time. Quote the ratios. Linux
only.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from benchmarks.post_cpu import run
from benchmarks.reads import HOT, PATH
from tests.processes import PROJECT, Site, Web

RECOMMENDATIONS = "/v1/agent/recommendations"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how long a recommendation takes.")
    parser.add_argument("--archived", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=40)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        site = Site.make(Path(directory) / "site", {})
        try:
            command = [sys.executable, "-m", "benchmarks.reads", "--fill", site.tenant]
            command += ["--archived", str(arguments.archived + HOT)]
            subprocess.run(command, env=site.environment, cwd=PROJECT, check=True)
            web = site.web(DJANGO_SETTINGS_MODULE="benchmarks.settings")
            _measure(web, arguments.archived, arguments.requests)
        finally:
            site.close()


def _measure(web: Web, archived: int, requests: int) -> None:
    record: dict[str, Any] = run(3)
    phase = record["phases"][0]["phase_name"]
    models = [*sorted({one["model"] for one in record["phases"] if one.get("model")}), "other-1", "other-2"]
    asked = {"phase": phase, "candidates": [{"model": model} for model in models]}

    def empty() -> None:
        web.http.get("/empty").raise_for_status()

    def recommend() -> None:
        _post(web, RECOMMENDATIONS, asked)

    web.http.get(PATH, params={"limit": 1}).raise_for_status()  # fills the hot cache
    first_ms = _timed(recommend)
    print(f"{HOT} hot records, {archived} below; {len(models)} candidates and plans of two; medians of {requests}")
    print(f"{'the first one of a process':36}{first_ms:10.2f} ms")
    base = 0.0
    for name, ask, prepare in (
        ("a view that does nothing", empty, None),
        ("records unchanged", recommend, None),
        ("after a new record", recommend, lambda: _record(web, record)),
    ):
        median = statistics.median(_times(ask, prepare, requests))
        base = base or median
        print(f"{name:36}{median:10.2f} ms{median / base:8.1f} x")


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


def _record(web: Web, record: dict[str, Any]) -> None:
    _post(web, PATH, record | {"request_summary": os.urandom(8).hex()})


def _post(web: Web, path: str, body: dict[str, Any]) -> Any:
    answer = web.http.post(path, content=orjson.dumps(body), headers={"Content-Type": "application/json"})
    if not answer.is_success:
        raise SystemExit(f"{path} answered {answer.status_code}: {answer.text[:500]}")
    return orjson.loads(answer.content)


if __name__ == "__main__":
    main()
