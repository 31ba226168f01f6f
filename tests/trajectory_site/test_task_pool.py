"""SIGTERM of a worker whose child has a task in part, or has not started it."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import sys
import termios
from contextlib import ExitStack, suppress
from pathlib import Path

import orjson
import pytest

from tests.api.client import PATH
from tests.examples import REFERENCE
from tests.processes import Process, Site, children, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads the size of a pipe in /proc")


@pytest.mark.parametrize("records", [1, 40], ids=["not started", "in part"])  # a pipe takes 64 KiB
def test_a_worker_that_stops_waits_for_the_task_that_its_child_has(site: Site, records: int) -> None:
    worker, child = stopping_worker(site, records)
    os.kill(child, signal.SIGCONT)
    assert worker.wait(20) == 0  # a child waits 30 s for the receipt of its result
    assert finished(worker) == 2


def test_a_worker_that_stops_does_not_wait_for_a_child_that_is_killed_with_a_task_in_part(site: Site) -> None:
    worker, child = stopping_worker(site, records=40)
    os.kill(child, signal.SIGKILL)
    assert worker.wait(20) == 0
    assert finished(worker) == 1


def stopping_worker(site: Site, records: int) -> tuple[Process, int]:
    """Return a worker after its first task and SIGTERM, and its child, which is stopped and has a
    second task in its pipe."""
    web, worker = site.web(), site.worker(concurrency=1, LOG_LEVEL="DEBUG")
    web.http.post(PATH, json=REFERENCE).raise_for_status()
    # With nothing left to do, the next task is the batch below.
    first = ("persist", "rebuild", "retain")
    worker.wait_for(lambda: all(finished(worker, name) for name in first), "the worker is idle")
    (child,) = children(worker.pid)
    os.kill(child, signal.SIGSTOP)

    lines = [orjson.dumps(REFERENCE | {"error": "x" * 4_000}) for _ in range(records)]
    headers = {"Content-Type": "application/x-ndjson"}
    web.http.post(PATH, content=b"\n".join(lines), headers=headers).raise_for_status()
    wait_until(lambda: bytes_in_pipes(child), what="the child has the task in its pipe")
    os.kill(worker.pid, signal.SIGTERM)
    worker.wait_for(lambda: "Closing Pool" in worker.output, "the worker takes no more tasks")
    return worker, child


def finished(worker: Process, name: str = "persist") -> int:
    return sum(f"trajectories.{name}[" in line and " succeeded in " in line for line in worker.output.splitlines())


def bytes_in_pipes(pid: int) -> int:
    """Return how much the fullest pipe that the process reads from has."""
    return max(map(_bytes_in, Path(f"/proc/{pid}/fd").iterdir()), default=0)


def _bytes_in(path: Path) -> int:
    with suppress(OSError), ExitStack() as stack:
        if str(path.readlink()).startswith("pipe:") and not path.lstat().st_mode & 0o200:  # only for reading
            pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            stack.callback(os.close, pipe)
            (size,) = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))
            return int(size)
    return 0
