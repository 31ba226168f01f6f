"""Measure how long a short read of one tenant takes while another tenant sends long reads.

    uv run python -m benchmarks.fair_share [--records 15000] [--seconds 15] [--clients 10]

One web process with four threads, as the server starts by default. Alice has the records, and her
clients ask for ``stats`` of other costs each time, so that nothing is answered from memory. Bob reads
his newest 20 records, one request at a time. First Bob is alone, then Alice is not limited
(``LONG_READS_PER_TENANT`` = 0), then she has her share. Quote the ratios. Linux only.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from itertools import count
from pathlib import Path

import httpx2

from tests.processes import PROJECT, Site, Web, run_python

PATH = "/v1/agent/trajectories"
_KEY = """
import django; django.setup()
from trajectories.models import ApiKey, Tenant
tenant, _ = Tenant.objects.get_or_create(pk="bob")
print(ApiKey.objects.issue(tenant=tenant, name="", scopes=["read", "record"])[1])
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--records", type=int, default=15_000)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--clients", type=int, default=10)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        site = Site.make(Path(directory) / "site", {"TRAJECTORIES_RELAY_IN_PROCESS": "false"})
        try:
            bob = run_python(["-c", _KEY], site.environment).stdout.strip()
            for tenant, records in ((site.tenant, arguments.records), ("bob", 100)):
                command = [sys.executable, "-m", "benchmarks.reads", "--fill", tenant, "--archived", str(records)]
                subprocess.run(command, env=site.environment, cwd=PROJECT, check=True)
            print(f"{'':24}{'p50':>8}{'p99':>8}{'longest':>9} ms of Bob   answers to Alice")
            for name, limit, clients in (
                ("Bob alone", 2, 0),
                ("no limit", 0, arguments.clients),
                ("a share", 2, arguments.clients),
            ):
                web = site.web(TRAJECTORIES_LONG_READS_PER_TENANT=str(limit))
                _print(name, *_measure(web, bob, clients, arguments.seconds))
                web.stop()
        finally:
            site.close()


def _measure(web: Web, bob: str, clients: int, seconds: float) -> tuple[list[float], Counter[int]]:
    for key in (web.http.headers["Authorization"], f"Bearer {bob}"):
        _ = web.http.get(PATH, params={"limit": 20}, headers={"Authorization": key}).raise_for_status()
    is_over, answers, numbers = threading.Event(), Counter[int](), count(1)
    threads = [threading.Thread(target=_ask, args=(web, is_over, answers, numbers)) for _ in range(clients)]
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
    return times_ms, answers


def _ask(web: Web, is_over: threading.Event, answers: Counter[int], numbers: count[int]) -> None:
    with httpx2.Client(base_url=web.url, headers=web.http.headers, timeout=60) as http:
        while not is_over.is_set():
            answer = http.get(f"{PATH}/stats", params={"min_cost_usd": f"{next(numbers)}e-9"})
            answers[answer.status_code] += 1
            if answer.status_code == 429:
                is_over.wait(float(answer.headers["Retry-After"]))


def _print(name: str, times_ms: list[float], answers: Counter[int]) -> None:
    p50, p99 = statistics.median(times_ms), sorted(times_ms)[len(times_ms) * 99 // 100]
    said = ", ".join(f"{number} of {status}" for status, number in sorted(answers.items()))
    print(f"{name:24}{p50:8.1f}{p99:8.1f}{max(times_ms):9.1f}             {said}")


if __name__ == "__main__":
    main()
