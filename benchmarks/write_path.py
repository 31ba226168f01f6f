"""Measure a recorded run from the POST to the archive: CPU, rate, latency and memory of the quick start.

    uv run python -m benchmarks.write_path [--seconds 5] [--rounds 3] [--connections 8] [--checkout DIR …]

The CPU is that of every process of the quick start (web, worker, Redis), from the first request until
nothing waits. The anchors are served by granian with two workers in the same run, without middleware,
key or database: nested serializers that store nothing, and a bare Django view. The sides alternate.
``--checkout`` measures the quick start of another checkout beside this one. Quote ratios. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import selectors
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx2

from benchmarks.post_cpu import run
from tests.processes import PROJECT, Process, Site, clean_environment, wait_until
from trajectory_site import servers

_TICKS = os.sysconf("SC_CLK_TCK")
_PHASES = 5
ANCHORS = {"nested serializers": "/nested", "bare Django view": "/bare"}


class Side(NamedTuple):
    """A server that is measured. ``key`` is empty for an anchor, which stores nothing."""

    pid: int
    url: str
    path: str
    key: str

    def wait_until_archived(self) -> None:
        def waiting() -> float:
            found = re.search(r"^trajectories_outbox_waiting\S* (\S+)", _get(f"{self.url}/metrics"), re.MULTILINE)
            return float(found[1]) if found else 1.0

        if self.key:
            wait_until(lambda: not waiting(), 120, "everything is archived")


class Result(NamedTuple):
    cpu_ms: float
    per_s: float
    p50_ms: float
    p99_ms: float
    pss_mb: float


def main() -> None:
    arguments = _arguments()
    with ExitStack() as stack:
        sides: dict[str, Side] = {}
        for number, checkout in enumerate([*arguments.checkout, PROJECT]):
            name = "this store" if checkout == PROJECT else f"checkout {number + 1}"
            sides[name] = stack.enter_context(_quick_start(checkout))
        sides |= stack.enter_context(_anchors())
        for side in sides.values():
            _load(side, arguments.connections, 1.0)
            side.wait_until_archived()
        results: dict[str, list[Result]] = {name: [] for name in sides}
        for at in range(arguments.rounds):
            for name, side in list(sides.items())[:: -1 if at % 2 else 1]:
                results[name].append(_measured(side, arguments))
        _print(results)


def _measured(side: Side, arguments: argparse.Namespace) -> Result:
    before, started = _cpu_s(side.pid), time.monotonic()
    took = _load(side, arguments.connections, arguments.seconds)
    elapsed = time.monotonic() - started
    side.wait_until_archived()
    p50, p99 = (took[int(len(took) * share)] * 1e3 for share in (0.5, 0.99))
    return Result((_cpu_s(side.pid) - before) / len(took) * 1e3, len(took) / elapsed, p50, p99, _pss_mb(side.pid))


def _print(results: dict[str, list[Result]]) -> None:
    median = {name: Result(*map(statistics.median, zip(*found, strict=True))) for name, found in results.items()}
    print("| | CPU ms a run | runs/s | p50 ms | p99 ms | PSS MB | CPU, of nested | of bare |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name, found in results.items():
        ratios = [
            statistics.median(one.cpu_ms / other.cpu_ms for one, other in zip(found, results[anchor], strict=True))
            for anchor in ANCHORS
        ]
        one = median[name]
        print(
            f"| {name} | {one.cpu_ms:.2f} | {one.per_s:,.0f} | {one.p50_ms:.1f} | {one.p99_ms:.0f} | {one.pss_mb:.0f}"
            f" | {ratios[0]:.2f} | {ratios[1]:.1f} |"
        )


@contextmanager
def _quick_start(checkout: Path) -> Iterator[Side]:
    """Run the quick start of ``checkout`` with an empty data directory."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        directory, port, python = Path(name), servers.free_port(), checkout / ".venv" / "bin" / "python"
        command = [str(python) if python.exists() else sys.executable, str(checkout / "manage.py"), "quickstart"]
        command += ["--data-dir", str(directory / "data"), "--port", str(port)]
        process = Process(command, clean_environment(), directory / "log", directory=checkout)
        try:
            process.wait_for(lambda: "Record a run:" in process.output, "the store runs")
            facts = json.loads((directory / "data" / "quickstart.json").read_text())
            yield Side(process.pid, facts["url"], "/v1/agent/trajectories", facts["api_key"])
        finally:
            process.stop()


@contextmanager
def _anchors() -> Iterator[dict[str, Side]]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        site = Site.make(Path(name) / "site", {})
        try:
            web = site.web(
                workers=2,
                threads=1,
                DJANGO_SETTINGS_MODULE="benchmarks.anchor_settings",
                TRAJECTORIES_RELAY_IN_PROCESS="false",
            )
            yield {name: Side(web.pid, web.url, path, "") for name, path in ANCHORS.items()}
        finally:
            site.close()


def _load(side: Side, connections: int, seconds: float) -> list[float]:
    """Send one request after the other on each connection; return the sorted times of the answers in seconds."""
    body = json.dumps(run(_PHASES)).encode()
    address = urlsplit(side.url)
    head = f"POST {side.path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
    head += f"Authorization: Bearer {side.key}\r\nContent-Length: {len(body)}\r\n\r\n"
    request = head.encode() + body
    selector, took = selectors.DefaultSelector(), []
    sent: dict[socket.socket, float] = {}
    received: dict[socket.socket, bytes] = {}
    for _ in range(connections):
        connection = socket.create_connection((address.hostname, address.port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(connection, selectors.EVENT_READ)
        received[connection], sent[connection] = b"", time.perf_counter()
        connection.sendall(request)
    until = time.monotonic() + seconds
    while sent:
        for key, _ in selector.select():
            connection = key.fileobj  # type: ignore[assignment]  # a socket was registered
            if not (data := connection.recv(65_536)):
                raise SystemExit(f"{side.path} closed a connection")
            received[connection] += data
            if not _is_whole(received[connection]):
                continue
            if not received[connection].startswith(b"HTTP/1.1 201"):
                raise SystemExit(f"{side.path} answered {received[connection][:500]!r}")
            took.append(time.perf_counter() - sent.pop(connection))
            received[connection] = b""
            if time.monotonic() < until:
                sent[connection] = time.perf_counter()
                connection.sendall(request)
            else:
                selector.unregister(connection)
                connection.close()
    return sorted(took)


def _is_whole(data: bytes) -> bool:
    head, separator, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    # Without a length, the answer is chunked.
    return bool(separator) and (len(body) >= int(length[1]) if length else body.endswith(b"0\r\n\r\n"))


def _get(url: str) -> str:
    return httpx2.get(url, trust_env=False, timeout=30).text


def _tree(pid: int) -> dict[int, float]:
    """Return the CPU seconds of a process and of all its descendants, by pid."""
    parents: dict[int, int] = {}
    cpu_s: dict[int, float] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents[int(path.parent.name)] = int(fields[1])
        cpu_s[int(path.parent.name)] = sum(map(int, fields[11:15])) / _TICKS
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return {one: cpu_s[one] for one in found if one in cpu_s}


def _cpu_s(pid: int) -> float:
    return sum(_tree(pid).values())


def _pss_mb(pid: int) -> float:
    """Return the memory of a process and its descendants; pages that several share are counted once."""
    total = 0
    for one in _tree(pid):
        try:
            found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{one}/smaps_rollup").read_text(), re.MULTILINE)
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += int(found[1]) if found else 0
    return total / 1024


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--checkout", type=Path, action="append", default=[], help="measure this checkout too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
