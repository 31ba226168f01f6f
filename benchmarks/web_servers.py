"""Compare the CPU of web servers for one POST to the same site, alternating, in one run.

    uv run python -m benchmarks.web_servers [--requests 1000] [--rounds 5] [--phases 8]

Each server has one worker process with four threads. Quote the ratios. Linux only.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.post_cpu import _arguments, _cost_us, _post, run
from tests.processes import Site, Web
from trajectory_site import servers

ROUTE = "/v1/agent/trajectories"


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as directory:
        site = Site.make(Path(directory) / "site", {"TRAJECTORIES_RELAY_IN_PROCESS": "false"})
        gunicorn = _gunicorn(site, Path(directory))
        try:
            webs = {"granian": site.web(), "gunicorn, gthread": gunicorn}
            body = json.dumps(run(arguments.phases)).encode()
            costs: dict[str, list[float]] = {name: [] for name in webs}
            for web in webs.values():
                _post(web, ROUTE, body, 50)
            for _ in range(arguments.rounds):
                for name, web in webs.items():
                    costs[name].append(_cost_us(web, partial(_post, web, ROUTE, body, arguments.requests), arguments))
            for name, of in costs.items():
                ratio = statistics.median(a / b for a, b in zip(of, costs["gunicorn, gthread"], strict=True))
                print(f"{name:20}{statistics.median(of):8.0f} µs{ratio:8.2f}  {[round(one) for one in of]}")
        finally:
            gunicorn.kill()
            gunicorn.http.close()
            site.close()


def _gunicorn(site: Site, directory: Path) -> Web:
    port = servers.free_port()
    arguments = [sys.executable, "-m", "gunicorn", "trajectory_site.wsgi", "--bind", f"127.0.0.1:{port}"]
    arguments += ["--workers", "1", "--threads", "4", "--no-control-socket"]
    return Web(port, site.api_key, arguments, site.environment, directory / "gunicorn.log")


if __name__ == "__main__":
    main()
