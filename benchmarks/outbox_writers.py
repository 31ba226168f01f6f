"""Measure how long an append to the outbox waits while several processes write to it.

    uv run python -m benchmarks.outbox_writers [--processes 2] [--threads 4] [--seconds 3] [--rounds 3]

Each thread appends one record of 2 kB after the other, at ``synchronous=FULL``. ``turns`` is the
outbox as it is. ``sqlite`` leaves the waiting to SQLite's busy handler. They run in turns, because
the machine's speed varies.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks import report
from benchmarks.report import Row
from trajectories.storage.outbox import Outbox
from trajectories.storage.outbox_file import OutboxFile
from trajectories.storage.outbox_rows import Draft

_BODY = b"x" * 2_000


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    waits: dict[str, list[float]] = {"turns": [], "sqlite": []}
    for _ in range(arguments.rounds):
        for name, found in waits.items():
            found += _measured(arguments, has_turns=name == "turns")
    turns, sqlite = (sorted(found) for found in waits.values())
    anchor, seconds = "SQLite's busy handler", arguments.rounds * arguments.seconds
    name = f"append to the outbox, {arguments.processes} processes of {arguments.threads} threads"
    yield Row(f"{name}, rate", len(turns) / seconds, "/s", None, anchor, len(sqlite) / seconds)
    for label, share in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)):
        ms, sqlite_ms = (found[int(len(found) * share)] * 1e3 for found in (turns, sqlite))
        yield Row(f"{name}, {label}", ms, "ms", None, anchor, sqlite_ms)


def _measured(arguments: argparse.Namespace, *, has_turns: bool) -> list[float]:
    """Return the seconds that each append took, over all processes."""
    with tempfile.TemporaryDirectory() as directory:
        path = str(Path(directory) / "outbox.sqlite3")
        context = multiprocessing.get_context("spawn")
        queue = context.Queue()
        given = path, arguments.threads, arguments.seconds, has_turns, queue
        processes = [context.Process(target=_write, args=given) for _ in range(arguments.processes)]
        for process in processes:
            process.start()
        found = [seconds for _ in processes for seconds in queue.get(timeout=60 + arguments.seconds)]
        for process in processes:
            process.join()
    return found


def _write(path: str, threads: int, seconds: float, has_turns: bool, queue: Any) -> None:
    if not has_turns:
        setattr(OutboxFile, "_turn", lambda self: nullcontext())  # noqa: B010  mypy forbids the assignment
    outbox = Outbox(path, synchronous="FULL", max_bytes=2**30)
    took: list[float] = []
    until = time.monotonic() + seconds

    def append() -> None:
        while time.monotonic() < until:
            started = time.perf_counter()
            outbox.append([Draft("benchmark", uuid4(), "digest", _BODY, None)])
            took.append(time.perf_counter() - started)

    pool = [threading.Thread(target=append) for _ in range(threads)]
    for thread in pool:
        thread.start()
    for thread in pool:
        thread.join()
    outbox.close()
    queue.put(took)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)


if __name__ == "__main__":
    report.main(__doc__, measure, _arguments)
