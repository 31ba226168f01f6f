"""Measure the CPU cost of the SDK's recorder in background mode, and the memory of a full queue.

    uv run python -m benchmarks.recorder [--runs 500] [--phases 8] [--work-us 2000]

A pipeline of PHASES phases computes for WORK_US in each, bare and recorded, in turns. Each phase
has a model, candidates, usage, two tools and steps. A mock server in this process answers, so the
figures exclude the work of a real one. ``caller`` is CPU of the pipeline's thread; the rest of the
process is the queue's thread and the mock server.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2

from benchmarks import report
from benchmarks.report import Row
from trajectories_sdk import BackgroundQueue, Client
from trajectories_sdk.background import MAX_RECORDS
from trajectories_sdk.delivery import Sender
from trajectories_sdk.spool import Spool

CANDIDATES: Any = [{"model": f"vendor/model-{number}", "score": 0.5, "probability": 0.25} for number in range(4)]


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    yield from _overhead(arguments)
    yield from _memory()


def _overhead(arguments: argparse.Namespace) -> Iterator[Row]:
    phases, loops = arguments.phases, _loops(arguments.work_us)
    bare: list[float] = []
    recorded: list[float] = []
    whole: list[float] = []
    idle_one: list[float] = []
    idle_all: list[float] = []
    with (
        tempfile.TemporaryDirectory() as spool,
        Client(transport=httpx2.MockTransport(_answer), spool_dir=spool) as client,
    ):
        _measured(lambda: _recorded(client, phases, 0))  # warm up
        for _ in range(arguments.runs):  # in turns, because the machine's speed varies
            bare.append(_measured(lambda: _bare(phases, loops))[0])
            of_thread, of_process = _measured(lambda: _recorded(client, phases, loops))
            recorded.append(of_thread)
            whole.append(of_process)
            idle_one.append(_measured(lambda: _recorded(client, 1, 0))[0])
            idle_all.append(_measured(lambda: _recorded(client, phases, 0))[0])
    assert client.queue.counters.dropped == 0
    bare_us, recorded_us, one_us, all_us = (
        statistics.median(values) for values in (bare, recorded, idle_one, idle_all)
    )
    per_phase_us = (all_us - one_us) / (phases - 1)
    name, anchor = (
        f"SDK recorder in a pipeline of {phases} phases of {arguments.work_us / 1_000:g} ms, CPU",
        "the pipeline bare",
    )
    yield Row(f"{name} of its thread", recorded_us, "µs", None, anchor, bare_us, "recorder")
    yield Row(f"{name} of the process, means", statistics.mean(whole), "µs", None, anchor, statistics.mean(bare))
    yield Row("SDK recorder, CPU of a phase", per_phase_us, "µs")
    yield Row("SDK recorder, CPU of a run without its phases", one_us - per_phase_us, "µs")


def _measured(pipeline: Callable[[], None]) -> tuple[float, float]:
    """Return CPU microseconds of this thread and of the whole process."""
    thread_ns, process_ns = time.thread_time_ns(), time.process_time_ns()
    pipeline()
    return (time.thread_time_ns() - thread_ns) / 1e3, (time.process_time_ns() - process_ns) / 1e3


def _bare(phases: int, loops: int) -> None:
    for _ in range(phases):
        _work(loops)


def _recorded(client: Client, phases: int, loops: int) -> None:
    with client.trajectories.run("Add auth", request_type="feature", project="shop") as run:
        for _ in range(phases):
            with run.phase(
                "spec", agent="pm", model="vendor/model-0", model_selection_method="thompson-sampling", candidates=CANDIDATES
            ) as phase:  # fmt: skip
                _work(loops)
                phase.usage(input_tokens=1500, output_tokens=800, cost_usd=0.012)
                phase.tool("grep")
                phase.tool("file_read")
                phase.step(3)


def _work(loops: int) -> int:
    total = 0
    for number in range(loops):
        total += number * number
    return total


def _loops(work_us: int) -> int:
    """Return the number of loops that take ``work_us`` on this machine."""
    started = time.thread_time_ns()
    _work(1_000_000)
    return max(1, int(work_us * 1_000 * 1_000_000 / (time.thread_time_ns() - started)))


def _answer(request: httpx2.Request) -> httpx2.Response:
    lines = request.read().count(b"\n")
    results = [{"line": number, "status": 201, "revision": 1} for number in range(1, lines + 1)]
    return httpx2.Response(200, json={"accepted": lines, "refused": 0, "results": results})


def _away(request: httpx2.Request) -> httpx2.Response:
    raise httpx2.ConnectError("away", request=request)


def _memory() -> Iterator[Row]:
    phase = {
        "phase_name": "spec",
        "agent": "pm",
        "model": "vendor/model-0",
        "candidates": CANDIDATES,
        "cost_usd": 0.012,
    }
    body: Any = {"request_summary": "Add auth", "phases": [phase] * 8}
    size = len(json.dumps(body))
    with tempfile.TemporaryDirectory() as directory:
        for where, spool in (("on disk", Spool(Path(directory))), ("in memory", Spool(None))):
            queue = BackgroundQueue(Sender(Client().config, httpx2.MockTransport(_away)), spool)
            gc.collect()
            tracemalloc.start()
            for _ in range(MAX_RECORDS + 1):
                queue.enqueue(body)
            gc.collect()
            allocated = tracemalloc.get_traced_memory()[0]
            tracemalloc.stop()
            assert (queue.counters.waiting, queue.counters.dropped) == (MAX_RECORDS, 1)
            files = sum(path.stat().st_size for path in Path(directory).iterdir()) if where == "on disk" else 0
            name = f"SDK queue of {MAX_RECORDS:,} records, {where}"
            yield Row(f"{name}, memory", allocated / 2**20, "MiB", None, "their JSON", size * MAX_RECORDS / 2**20)
            if files:
                yield Row(f"{name}, files", files / 2**20, "MiB", None, "their JSON", size * MAX_RECORDS / 2**20)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--phases", type=int, default=8)
    parser.add_argument("--work-us", type=int, default=2_000, help="what a phase of the bare pipeline computes for")


if __name__ == "__main__":
    report.main(__doc__, measure, _arguments)
