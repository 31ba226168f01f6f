"""A program that records in the background, for tests that end it: ``python -m
tests.sdk.background.pipeline HOW COUNT``.

It prints the id of each record once ``enqueue`` has returned. The client reads where the server is,
and its spool, from the environment, and the project of its records; only what ends the process, or
another process, sends before ``LINGER_S`` has gone by.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

from trajectories_sdk import BackgroundQueue, Client, shutdown
from trajectories_sdk.background import MAX_RECORDS
from trajectories_sdk.client_queue import Background
from trajectories_sdk.delivery import Sender
from trajectories_sdk.spool import Spool

LINGER_S: Final = 3600.0


def patient_client() -> Client:
    """Return a client whose queue sends only on flush or exit, and then has the time of a slow
    machine, unless ``EXIT_TIMEOUT_S`` says otherwise."""
    shutdown.EXIT_TIMEOUT_S = float(os.environ.get("EXIT_TIMEOUT_S", "120"))  # type: ignore[misc]
    client = Client(timeout_s=3600)
    client._background = Background(
        client.config, None, Spool.of(client.config, None), client._adjustments, client._warning_log
    )
    client._background._queues.append(
        BackgroundQueue(Sender(client.config, None), Spool.of(client.config, None), linger_s=LINGER_S)
    )
    return client


def body(project: str, **fields: Any) -> Any:
    """A record that a test can find again."""
    return {"request_summary": "Add auth", "project": project, "phases": []} | fields


def record(client: Client, count: int) -> None:
    for _ in range(count):
        id_ = client.trajectories.enqueue(body(os.environ["PROJECT"], error="x" * 500))
        os.write(1, f"{id_}\n".encode())


def _exit(count: int) -> None:
    record(patient_client(), count)


def _forever(count: int) -> None:
    client = Client()
    while True:
        record(client, count)
        # On a slow machine the queue would be full at last, and drop.
        while client.queue.counters.waiting > MAX_RECORDS // 2:
            threading.Event().wait(0.01)


def _wait(count: int) -> None:
    record(Client(), count)
    threading.Event().wait()


def _fork(count: int) -> None:
    client = patient_client()
    record(client, count)
    children = []
    for _ in range(2):
        if (pid := os.fork()) == 0:
            record(client, count)
            sys.exit(0)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0]


def _pool(method: str) -> Callable[[int], None]:
    def run(count: int) -> None:
        client = patient_client()
        record(client, count)
        context = multiprocessing.get_context(method)
        # Only a forked child can be given the client; a spawned one makes its own.
        target, argument = (record, client) if method == "fork" else (_spawned, None)
        processes = [context.Process(target=target, args=(argument, count)) for _ in range(2)]  # type: ignore[attr-defined]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            assert process.exitcode == 0
        os._exit(0)  # and so sends nothing, neither of its own nor of what the children may have left

    return run


def _spawned(_: None, count: int) -> None:
    record(patient_client(), count)


WAYS: Final = {
    "exit": _exit,
    "forever": _forever,
    "wait": _wait,
    "os.fork": _fork,
    "multiprocessing.fork": _pool("fork"),
    "multiprocessing.spawn": _pool("spawn"),
}

if __name__ == "__main__":
    WAYS[sys.argv[1]](int(sys.argv[2]))
