"""Measure how long a POST takes, by connections, at a fixed rate and by size, and what a batch
costs.

    uv run python -m benchmarks.latency [--seconds 3] [--rate 200] [--lines 500]

The quick start answers, beside a DRF view that stores nothing, in turns. At a fixed rate the time
of an answer counts from the moment at which its request was due. The batch is NDJSON; its anchor
reads the same lines with the contract's Pydantic model and writes them with orjson, in this
process. Linux only.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import ExitStack

import httpx2
import orjson

import benchmarks.configured  # noqa: F401  before the app
from benchmarks import report, usage
from benchmarks.bodies import LARGE, SMALL, encoded
from benchmarks.load import Answers, send
from benchmarks.report import Row, at_most
from benchmarks.sides import SHORT, Side, anchors, quick_start
from trajectories.domain.schema import Trajectory

_POOL = 64
"""Connections for requests at a fixed rate: more than are ever under way on a server that keeps up."""


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    with ExitStack() as stack:
        store = stack.enter_context(quick_start())
        anchor = stack.enter_context(anchors(SHORT))[SHORT]
        for side in (store, anchor):
            _sent(side, SMALL, 8, 1.0)
        for phases, size in ((SMALL, "2 kB"), (LARGE, "64 kB")):
            for connections in (1, 8, 32) if phases == SMALL else (8,):
                name = f"POST of {size}, {connections} connection{'s' if connections > 1 else ''}"
                both = [_sent(side, phases, connections, arguments.seconds) for side in (store, anchor)]
                yield from _percentiles(name, *both)
                yield Row(f"{name}, rate", both[0].per_s, "/s", None, SHORT, both[1].per_s)
        name = f"POST of 2 kB, {arguments.rate:g} due each second"
        both = [_sent(side, SMALL, _POOL, arguments.seconds, arguments.rate) for side in (store, anchor)]
        yield from _percentiles(name, *both, has_aim=True)
        yield from _batch(store, arguments.lines)


def _sent(side: Side, phases: int, connections: int, seconds: float, per_s: float | None = None) -> Answers:
    answers = send(side.target, encoded(phases), connections=connections, seconds=seconds, per_s=per_s)
    side.wait_until_archived()
    return answers


def _percentiles(name: str, store: Answers, anchor: Answers, *, has_aim: bool = False) -> Iterator[Row]:
    yield Row(f"{name}, p50", store.ms(0.5), "ms", None, SHORT, anchor.ms(0.5))
    yield Row(f"{name}, p99", store.ms(0.99), "ms", at_most(20) if has_aim else None, SHORT, anchor.ms(0.99))


def _batch(store: Side, lines: int) -> Iterator[Row]:
    """Yield the CPU and the rate of NDJSON, from the second batch on; the first one warms up."""
    body = (encoded(SMALL) + b"\n") * lines
    headers = {"Authorization": f"Bearer {store.target.key}", "Content-Type": "application/x-ndjson"}
    with httpx2.Client(base_url=store.target.url, headers=headers, timeout=120, trust_env=False) as http:
        for _ in range(2):
            store.wait_until_archived()
            cpu_s, started = usage.cpu_s(store.pid), time.perf_counter()
            answer = http.post(store.target.path, content=body).raise_for_status()
            acknowledged_s = time.perf_counter() - started
            if answer.json()["accepted"] != lines:
                raise SystemExit(f"{answer.json()['accepted']} of {lines} lines were accepted.")
            store.wait_until_archived()
            cpu_us = (usage.cpu_s(store.pid) - cpu_s) / lines * 1e6
    cpu_s, started = time.process_time(), time.perf_counter()
    for line in body.splitlines():
        orjson.dumps(Trajectory.model_validate_json(line).model_dump(exclude_none=True))
    parsed_us, parsed_s = (time.process_time() - cpu_s) / lines * 1e6, time.perf_counter() - started
    name, anchor = f"line of an NDJSON batch of {lines:,}", "pydantic and orjson alone"
    yield Row(f"{name}, acknowledged", lines / acknowledged_s, "/s", None, anchor, lines / parsed_s, key="batch")
    yield Row(f"{name}, CPU until it is archived", cpu_us, "µs", None, anchor, parsed_us)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rate", type=float, default=200, help="requests that fall due each second")
    parser.add_argument("--lines", type=int, default=500, help="of a batch")


if __name__ == "__main__":
    report.main(__doc__, measure, _arguments)
