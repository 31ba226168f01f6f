"""Measure the CPU cost of a POST in web process and worker, and compare it with two DRF views.

    uv run python -m benchmarks.post_cpu [--requests 1000] [--rounds 3] [--phases 8]

CPU time is user and system time of the processes (from /proc), so other load on the machine has
little effect. Quote the ratios. The outbox commits at synchronous=FULL. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.processes import Process, Site, Web, wait_until

ROUTES = {"empty DRF view": "/empty", "nested serializers": "/nested", "this store": "/v1/agent/trajectories"}
_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as directory:
        site = Site.make(Path(directory) / "site", {})
        try:
            web = site.web(DJANGO_SETTINGS_MODULE="benchmarks.settings")
            worker = site.worker(concurrency=1)
            _measure(site, web, worker, arguments)
        finally:
            site.close()


def _measure(site: Site, web: Web, worker: Process, arguments: argparse.Namespace) -> None:
    body = json.dumps(run(arguments.phases)).encode()
    for route in ROUTES.values():
        _post(web, route, body, 50)
    recorded = 50
    per_post: dict[str, list[float]] = {name: [] for name in ROUTES}
    per_record: list[float] = []
    for _ in range(arguments.rounds):
        for name, route in ROUTES.items():
            is_store = name == "this store"
            worker_before = _cpu_s(worker.pid)
            work = partial(_post, web, route, body, arguments.requests)
            per_post[name].append(_cost_us(web, work, arguments))
            if is_store:
                recorded += arguments.requests
                _wait_until_archived(web, recorded)
                per_record.append((_cpu_s(worker.pid) - worker_before) / arguments.requests * 1e6)
    _print(len(body), per_post, per_record, arguments)


def _print(size: int, per_post: dict[str, list[float]], per_record: list[float], arguments: argparse.Namespace) -> None:
    base = statistics.median(per_post["empty DRF view"])
    print(f"{arguments.rounds} rounds of {arguments.requests} POSTs, {arguments.phases} phases, {size} bytes; medians")
    print(f"{'web process':24}{'µs CPU':>8}{'of empty':>10}")
    for name, costs in per_post.items():
        print(f"{name:24}{statistics.median(costs):8.0f}{statistics.median(costs) / base:10.2f}")
    worker = statistics.median(per_record)
    print(f"{'worker, per record':24}{worker:8.0f}{worker / base:10.2f}")


def _cost_us(web: Web, work: Callable[[], None], arguments: argparse.Namespace) -> float:
    before = _cpu_s(web.pid)
    work()
    return (_cpu_s(web.pid) - before) / int(arguments.requests) * 1e6


def _post(web: Web, route: str, body: bytes, count: int) -> None:
    for _ in range(count):
        answer = web.http.post(route, content=body, headers={"Content-Type": "application/json"})
        if answer.status_code != 201:
            raise SystemExit(f"{route} answered {answer.status_code}: {answer.text[:500]}")


def _wait_until_archived(web: Web, count: int) -> None:
    def is_archived() -> bool:
        answer = web.http.get("/v1/agent/trajectories/export?end=1")
        return answer.is_success and json.loads(answer.text.splitlines()[-1])["end"]["count"] >= count

    wait_until(is_archived, 120, "everything is archived")


def _cpu_s(pgid: int) -> float:
    """Return the CPU seconds of a process group, including its ended children."""
    total = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[2]) == pgid:
            total += sum(map(int, fields[11:13]))
    return total / _TICKS


def run(phases: int) -> dict[str, object]:
    """Return a run as an orchestrator reports it: typical fields, no id."""
    phase = {
        "phase_name": "implement",
        "agent": "coder",
        "model": "anthropic/claude-sonnet-4",
        "model_selection_method": "thompson-sampling",
        "candidates": [
            {"model": "anthropic/claude-sonnet-4", "probability": 0.7},
            {"model": "small", "probability": 0.3},
        ],
        "selection_probability": 0.7,
        "tools_used": ["file_read", "grep", "edit"],
        "steps_taken": 12,
        "input_tokens": 15_000,
        "output_tokens": 2_400,
        "cost_usd": 0.0812,
        "duration_ms": 41_250.5,
        "outcome": "success",
    }
    return {
        "request_summary": "Add user authentication to the API",
        "request_type": "feature",
        "source": "phase-build",
        "project": "my-project",
        "phases": [phase] * phases,
        "build_passed": True,
        "tests_passed": True,
        "started_at": "2026-01-05T23:58:46Z",
        "tags": ["nightly"],
        "metadata": {"branch": "auth", "ticket": 4711},
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--phases", type=int, default=8)
    return parser.parse_args()


if __name__ == "__main__":
    main()
