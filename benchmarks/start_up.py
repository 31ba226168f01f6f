"""Measure how soon a web process answers, and what its first request costs.

    uv run python -m benchmarks.start_up [--rounds 3]

The time is that from the start of the command until it answers; the first request is the first POST
that records a run, and its anchor a later one. CPU is that of the server's processes. The anchor of
the start is a Python process that imports Django and granian. Linux only.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import report, usage
from benchmarks.bodies import SMALL, encoded
from benchmarks.report import Row, at_most
from benchmarks.sides import PATH
from tests.processes import Site, Web

_LATER = 200


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        site = Site.make(Path(directory) / "site", {"TRAJECTORIES_RELAY_IN_PROCESS": "false"})
        try:
            site.web().stop()  # writes the byte code
            found = [_start(site) for _ in range(arguments.rounds)]
        finally:
            site.close()
    up_s, import_s, first_s, later_s = map(statistics.median, zip(*found, strict=True))
    yield Row("a web process answers after", up_s, "s", at_most(1.5), "importing Django and granian", import_s)
    yield Row("CPU of its first POST", first_s * 1e3, "ms", at_most(100), "a later POST", later_s * 1e3)


def _start(site: Site) -> tuple[float, float, float, float]:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import django.core.handlers.wsgi, granian.server"], check=True)
    import_s = time.perf_counter() - started
    started = time.perf_counter()
    web = site.web()
    up_s = time.perf_counter() - started
    try:
        first_s = _cpu_s(web, 1)
        return up_s, import_s, first_s, _cpu_s(web, _LATER)
    finally:
        web.stop()


def _cpu_s(web: Web, posts: int) -> float:
    """Return the CPU seconds of the server for each of ``posts`` POSTs."""
    before = usage.cpu_s(web.pid)
    for _ in range(posts):
        headers = {"Content-Type": "application/json"}
        web.http.post(PATH, content=encoded(SMALL), headers=headers).raise_for_status()
    return (usage.cpu_s(web.pid) - before) / posts


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=3)


if __name__ == "__main__":
    report.main(__doc__, measure, _arguments)
