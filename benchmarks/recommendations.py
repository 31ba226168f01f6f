"""Measure a recommendation with a full hot cache and a larger archive, against an empty view.

    uv run python -m benchmarks.recommendations [--records 100000] [--requests 40] [--database sqlite]

The newest 10,000 records of the tenant are hot, the rest is in the archive; ``benchmarks.stats`` fills it.
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
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson

from benchmarks.reads import HOT, PATH
from benchmarks.stats import seed, templates_of
from tests.postgres import throwaway_postgres
from tests.processes import PROJECT, Site, Web

RECOMMENDATIONS = "/v1/agent/recommendations"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how long a recommendation takes.")
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--database", choices=["postgres", "sqlite"], default="postgres")
    parser.add_argument("--fill", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fill:
        _fill(arguments.fill, arguments.records)
        return
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        is_postgres = arguments.database == "postgres"
        database = {"DATABASE_URL": stack.enter_context(throwaway_postgres())} if is_postgres else {}
        site = Site.make(Path(directory) / "site", database)
        stack.callback(site.close)
        command = [sys.executable, "-m", "benchmarks.recommendations", "--fill", site.tenant]
        command += ["--records", str(arguments.records)]
        subprocess.run(command, env=site.environment, cwd=PROJECT, check=True)
        web = site.web(DJANGO_SETTINGS_MODULE="benchmarks.settings")
        _measure(web, arguments.records, arguments.requests)


def _fill(tenant: str, records: int) -> None:
    import django

    django.setup()
    from trajectories.storage import rollup_rebuild

    seed(records, tenant)
    rollup_rebuild.PAGE = 20_000  # nothing else writes
    assert rollup_rebuild.rebuild(tenant)


def _measure(web: Web, records: int, requests: int) -> None:
    record: dict[str, Any] = orjson.loads(next(templates_of("any", 0)).body)
    phase = record["phases"][0]["phase_name"]
    del record["id"]
    models = sorted({one["model"] for one in record["phases"]})
    asked = {"phase": phase, "candidates": [{"model": model} for model in models]}

    def empty() -> None:
        web.http.get("/empty").raise_for_status()

    def recommend() -> None:
        _post(web, RECOMMENDATIONS, asked)

    web.http.get(PATH, params={"limit": 1}).raise_for_status()  # fills the hot cache
    first_ms = _timed(recommend)
    print(f"{records} records, {HOT} of them hot; {len(models)} candidates and plans of two; medians of {requests}")
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
