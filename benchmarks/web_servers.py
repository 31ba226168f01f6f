"""Compare the CPU of web servers for one POST to the same site, alternating, in one run.

    uv run python -m benchmarks.web_servers [--seconds 3] [--rounds 5]

Each server has one worker process with four threads, and eight connections. Quote the ratios. Linux
only.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import report, usage
from benchmarks.bodies import SMALL, encoded
from benchmarks.load import Target, send
from benchmarks.report import Row
from benchmarks.sides import PATH
from tests.processes import Site, Web
from trajectory_site import servers


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as directory:
        site = Site.make(Path(directory) / "site", {"TRAJECTORIES_RELAY_IN_PROCESS": "false"})
        gunicorn = _gunicorn(site, Path(directory))
        try:
            webs = (site.web(), gunicorn)
            costs = [[_cost_us(web, site.api_key, arguments.seconds) for web in webs] for _ in range(arguments.rounds)]
        finally:
            gunicorn.kill()
            gunicorn.http.close()
            site.close()
    granian_us, gunicorn_us = map(statistics.median, zip(*costs, strict=True))
    yield Row("CPU of the web process for a POST, granian", granian_us, "µs", None, "gunicorn, gthread", gunicorn_us)


def _cost_us(web: Web, key: str, seconds: float) -> float:
    before = usage.cpu_s(web.pid)
    answers = send(Target(web.url, PATH, key), encoded(SMALL), connections=8, seconds=seconds)
    return (usage.cpu_s(web.pid) - before) / len(answers.took_s) * 1e6


def _gunicorn(site: Site, directory: Path) -> Web:
    port = servers.free_port()
    arguments = [sys.executable, "-m", "gunicorn", "trajectory_site.wsgi", "--bind", f"127.0.0.1:{port}"]
    arguments += ["--workers", "1", "--threads", "4", "--no-control-socket"]
    return Web(port, site.api_key, arguments, site.environment, directory / "gunicorn.log")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=5)


if __name__ == "__main__":
    report.main(__doc__, measure, _arguments)
