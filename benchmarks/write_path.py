"""Measure a recorded run from the POST to the archive: CPU, rate, latency and memory of the quick
start.

    uv run python -m benchmarks.write_path [--seconds 3] [--rounds 3] [--connections 8] [--checkout DIR …]

The CPU is that of every process of the quick start (web, worker, Redis), from the first request
until nothing waits. The anchors are served by granian with two workers in the same run, without
middleware, key or database: DRF views with nested serializers that store nothing, and a bare Django
view. The sides alternate. ``--checkout`` measures the quick start of another checkout beside this
one. Memory is that after ``--runs`` runs. Quote ratios. Linux only.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from benchmarks import report, usage
from benchmarks.bodies import SMALL, encoded
from benchmarks.load import send
from benchmarks.report import Row, at_least, at_most
from benchmarks.sides import BARE, NESTED, SHORT, Side, anchors, quick_start
from tests.processes import PROJECT

STORE = "this store"


class Result(NamedTuple):
    runs: float
    cpu_ms: float
    per_s: float
    p50_ms: float
    p99_ms: float


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    with ExitStack() as stack:
        sides: dict[str, Side] = {STORE: stack.enter_context(quick_start(PROJECT))}
        for number, checkout in enumerate(arguments.checkout, 1):
            sides[f"checkout {number}"] = stack.enter_context(quick_start(checkout))
        sides |= stack.enter_context(anchors(SHORT, NESTED, BARE))
        for side in sides.values():
            _result(side, arguments.connections, 1.0)
        results: dict[str, list[Result]] = {name: [] for name in sides}
        for at in range(arguments.rounds):
            for name, side in list(sides.items())[:: -1 if at % 2 else 1]:
                results[name].append(_result(side, arguments.connections, arguments.seconds))
        yield from _rows(results, arguments.connections)
        missing = arguments.runs - sum(result.runs for result in results[STORE])
        while missing > 0:
            missing -= _result(sides[STORE], arguments.connections, 2.0).runs
        yield from _memory(sides, arguments.runs)


def _result(side: Side, connections: int, seconds: float) -> Result:
    before = usage.cpu_s(side.pid)
    answers = send(side.target, encoded(SMALL), connections=connections, seconds=seconds)
    side.wait_until_archived()
    runs = len(answers.took_s)
    cpu_ms = (usage.cpu_s(side.pid) - before) / runs * 1e3
    return Result(runs, cpu_ms, answers.per_s, answers.ms(0.5), answers.ms(0.99))


def _rows(results: dict[str, list[Result]], connections: int) -> Iterator[Row]:
    median = {name: Result(*map(statistics.median, zip(*found, strict=True))) for name, found in results.items()}
    store, short = median[STORE], median[SHORT]
    at = f", {connections} connections"
    for name in (SHORT, NESTED, BARE):
        aim, key = (at_most(0.9, of_anchor=True), "cpu") if name == SHORT else (None, "")
        yield Row("CPU of a run, until it is archived", store.cpu_ms, "ms", aim, name, median[name].cpu_ms, key=key)
    yield Row(f"runs acknowledged{at}", store.per_s, "/s", at_least(1_800), SHORT, short.per_s, key="rate")
    yield Row(f"POST, p50{at}", store.p50_ms, "ms", None, SHORT, short.p50_ms, key="p50")
    yield Row(f"POST, p99{at}", store.p99_ms, "ms", at_most(20), SHORT, short.p99_ms, key="p99")
    spread = [statistics.median(one.p99_ms / one.p50_ms for one in results[name]) for name in (STORE, SHORT)]
    yield Row(f"POST, p99 over p50{at}", spread[0], "", at_most(5), SHORT, spread[1])
    for name in [name for name in results if name.startswith("checkout")]:
        yield Row(f"CPU of a run, {name}", median[name].cpu_ms, "ms", None, STORE, store.cpu_ms)
        yield Row(f"runs acknowledged, {name}", median[name].per_s, "/s", None, STORE, store.per_s)
        yield Row(f"POST, p99, {name}", median[name].p99_ms, "ms", None, STORE, store.p99_ms)


def _memory(sides: dict[str, Side], runs: int) -> Iterator[Row]:
    after = f"memory of the quick start after {runs:,} runs"
    store, anchor = sides[STORE].pid, sides[SHORT].pid
    name = "the server of the anchors"
    yield Row(f"{after}, resident", usage.rss_mb(store), "MB", at_most(350), name, usage.rss_mb(anchor), key="memory")
    yield Row(f"{after}, shared pages once", usage.pss_mb(store), "MB", None, name, usage.pss_mb(anchor))


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--runs", type=int, default=20_000, help="before memory is read")
    parser.add_argument("--checkout", type=Path, action="append", default=[], help="measure this checkout too")


if __name__ == "__main__":
    report.main(__doc__, measure, _arguments)
