"""Measure how long a short read of one tenant takes while another tenant sends long reads.

    uv run python -m benchmarks.fair_share [--records 15000] [--seconds 15] [--clients 10]

One web process with four threads, as the server starts by default. Alice has the records, and her
clients ask for ``stats`` of other costs each time, so that nothing is answered from memory. Bob
reads his newest 20 records, one request at a time. First Bob is alone, then Alice is not limited
(``LONG_READS_PER_TENANT`` = 0), then she has her share. Quote the ratios. Linux only.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import httpx2

from benchmarks import report, seeding
from benchmarks.report import Row
from benchmarks.sides import PATH
from tests.processes import Site, Web


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as directory:
        site = Site.make(Path(directory) / "site", {"TRAJECTORIES_RELAY_IN_PROCESS": "false"})
        try:
            (alice,) = seeding.in_a_process(site.environment, ["alice"], arguments.records)
            (bob,) = seeding.in_a_process(site.environment, ["bob"], 100)
            anchor: float | None = None
            for name, limit, clients in (
                ("Bob alone", 2, 0),
                ("LONG_READS_PER_TENANT 0", 0, arguments.clients),
                ("LONG_READS_PER_TENANT 2", 2, arguments.clients),
            ):
                web = site.web(TRAJECTORIES_LONG_READS_PER_TENANT=str(limit))
                web.http.headers["Authorization"] = f"Bearer {alice.key}"
                times_ms = sorted(_measure(web, bob.key, clients, arguments.seconds))
                p50, p99 = statistics.median(times_ms), times_ms[len(times_ms) * 99 // 100]
                anchor = anchor or p50
                yield Row(f"short read beside long ones, {name}, p50", p50, "ms", None, "Bob alone, p50", anchor)
                yield Row(f"short read beside long ones, {name}, p99", p99, "ms", None, "Bob alone, p50", anchor)
                web.stop()
        finally:
            site.close()


def _measure(web: Web, bob: str, clients: int, seconds: float) -> list[float]:
    for key in (web.http.headers["Authorization"], f"Bearer {bob}"):
        _ = web.http.get(PATH, params={"limit": 20}, headers={"Authorization": key}).raise_for_status()
    is_over, numbers = threading.Event(), count(1)
    threads = [threading.Thread(target=_ask, args=(web, is_over, numbers)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    times_ms, until = [], time.monotonic() + seconds
    with httpx2.Client(base_url=web.url, headers={"Authorization": f"Bearer {bob}"}, timeout=60) as http:
        while time.monotonic() < until:
            started = time.perf_counter()
            http.get(PATH, params={"limit": 20}).raise_for_status()
            times_ms.append((time.perf_counter() - started) * 1000)
            time.sleep(0.01)
    is_over.set()
    for thread in threads:
        thread.join()
    return times_ms


def _ask(web: Web, is_over: threading.Event, numbers: count[int]) -> None:
    with httpx2.Client(base_url=web.url, headers=web.http.headers, timeout=60) as http:
        while not is_over.is_set():
            answer = http.get(f"{PATH}/stats", params={"min_cost_usd": f"{next(numbers)}e-9"})
            if answer.status_code == 429:
                is_over.wait(float(answer.headers["Retry-After"]))


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--records", type=int, default=15_000)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--clients", type=int, default=10)


if __name__ == "__main__":
    report.main(__doc__, measure, _arguments)
