"""Measure the cost of redaction as a share of the cost of ingest without it.

    uv run python -m benchmarks.redaction [--records 1000] [--rounds 5] [--phases 1 8 30]

Figures are CPU time of this process. ``ingest.record`` runs from bytes to the committed outbox row
(synchronous=FULL), with ``REDACT`` off. ``redaction.redact`` runs alone on the same canonical
bytes, with and without a credential. The last lines are bodies of 1 MiB that are built to be slow.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import orjson

from benchmarks import report
from benchmarks.bodies import run
from benchmarks.report import Row

MAX_LINES = 10_000
"""``api.views.MAX_LINES``."""
TOKEN = "gh" + "p_" + "a1B2c3D4e5F6" * 3
SLOW = {
    "nothing but prefixes": "sk-ant-",
    "keys without an end": "-----BEGIN PRIVATE KEY-----" + "A" * 24,
    "tokens that are none": "bearer " + "a" * 24 + " ",
    "131,072 passwords": "a://b:c@",
    "colours": "\x1b[32mab",
    "invisible characters": "\u200b",
    "invisible characters apart": "\u200ba",
    "percent-encoding": "%41a",
    "percent-encoding apart": "%41[",
    "passwords that are none": "a://:.@",
    "wrapped lines": "ghp_aaaaaaa1\n",
    "links without an end": "\x1b]8;;a",
    "links": "\x1b]8;;a\x07",
    "percent-encoded links without an end": "%1B]8;;a",
    "options of curl": "curl a.b -u a:$B\n",
    "options without curl": "%41 -ua: -ba=[0m",
    "options of other commands": "curl a.b; -u a:",
    "escaped slashes": "\\/",
    "short wrapped tokens": "ghp_a\nabcd12\n",
}


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as directory:
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "trajectory_site.settings",
            "SECRET_KEY": "only for a benchmark",
            "DATA_DIR": directory,
            "REDIS_URL": "redis://127.0.0.1:1/0",  # never contacted
            "TRAJECTORIES_REDACT": "false",
            "TRAJECTORIES_RELAY_IN_PROCESS": "false",
        }
        import django

        django.setup()
        for phases in arguments.phases:
            size, costs = _measure(phases, arguments)
            ingest, clean, hit = (statistics.median(each) for each in costs)
            name, anchor = f"redaction of {phases} phases, {size:,} bytes", "ingest without it"
            yield Row(f"{name}, without a credential, CPU", clean, "µs", None, anchor, ingest)
            yield Row(f"{name}, with one, CPU", hit, "µs", None, anchor, ingest)
        yield from _slow()


def _measure(phases: int, arguments: argparse.Namespace) -> tuple[int, tuple[list[float], ...]]:
    from trajectories.domain import redaction, schema
    from trajectories.services import ingest
    from trajectories.storage.store import get_store

    body = run(phases)
    data = orjson.dumps(body)
    clean = schema.canonical(schema.parse(data))
    hit = schema.canonical(schema.parse(orjson.dumps(body | {"error": f"401 for {TOKEN}"})))
    works: tuple[Callable[[], Any], ...] = (
        partial(ingest.record, get_store(), "benchmark", data),
        partial(redaction.redact, clean),
        partial(redaction.redact, hit),
    )
    costs: tuple[list[float], ...] = ([], [], [])
    for _ in range(arguments.rounds):
        for work, cost in zip(works, costs, strict=True):
            cost.append(_cpu_us(work, arguments.records))
    return len(clean), costs


def _cpu_us(work: Callable[[], Any], count: int) -> float:
    before = time.process_time()
    for _ in range(count):
        work()
    return (time.process_time() - before) / count * 1e6


def _slow() -> Iterator[Row]:
    from trajectories.services import ingest
    from trajectories.storage.store import get_store

    # The accepted cost of a request of 1 MiB: the maximum number of lines.
    small = orjson.dumps({"request_summary": "x", "phases": []})
    lines_ms = MAX_LINES * _cpu_us(lambda: ingest.record(get_store(), "benchmark", small), 500) / 1e3
    for name, data in _slow_bodies():
        ms = _cpu_us(lambda: _replace(data), 1) / 1e3  # noqa: B023  called at once
        yield Row(f"redaction of 1 MiB of {name}, CPU", ms, "ms", None, f"{MAX_LINES:,} small records", lines_ms)


def _replace(data: bytes) -> None:
    from trajectories.domain import redaction

    with suppress(redaction.TooManyCredentials):
        redaction.replace(data)


def _slow_bodies() -> Iterator[tuple[str, bytes]]:
    for name, piece in SLOW.items():
        text = piece * (2**20 // len(piece))
        yield name, orjson.dumps({"request_summary": text, "phases": []})
    keys = {f"{TOKEN}{number}": 1 for number in range(2**20 // (len(TOKEN) + 10))}
    yield f"{len(keys):,} keys, all tokens", orjson.dumps({"request_summary": "x", "phases": [], "metadata": keys})


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--records", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--phases", type=int, nargs="+", default=[1, 8, 30])


if __name__ == "__main__":
    report.main(__doc__, measure, _arguments)
