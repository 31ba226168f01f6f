"""Start of a web server's worker process: a reliable stop, metrics without dead workers, a warm
first request."""

from __future__ import annotations

import importlib
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from trajectory_site import garbage

_REPEAT_S = 0.2


def repeat_stop_signals() -> None:
    """Send SIGTERM and SIGINT to the main thread again until the process ends.

    A busy granian 2.8 worker can miss the first signal: its main thread waits on a lock, and the
    handler runs only once that thread wakes up. Without this, one stop in five under load hung.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
    threading.Thread(target=_repeat, args=(reader,), name="stop-signals", daemon=True).start()


def _repeat(reader: socket.socket) -> None:
    main_thread = threading.main_thread().ident
    while number := reader.recv(1):
        while number[0] in (signal.SIGTERM, signal.SIGINT):
            time.sleep(_REPEAT_S)
            if main_thread is not None:
                signal.pthread_kill(main_thread, number[0])


def forget_dead_workers() -> None:
    """Drop the gauges of workers that were killed; their counters stay.

    The server replaces each worker that dies, so a check at the start of each worker is enough.
    """
    if not (directory := os.environ.get("PROMETHEUS_MULTIPROC_DIR")):
        return
    from prometheus_client import multiprocess

    pids = {int(path.stem.rpartition("_")[2]) for path in Path(directory).glob("gauge_live*_*.db")}
    for pid in pids:
        if not _is_alive(pid):
            multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]


def import_rest_framework() -> None:
    """Load Django REST framework without packages that the API does not need: 14 MB of a process.

    It imports psycopg for serializers of models in Postgres, and requests for its test client, where
    they are installed.
    """
    hidden = [name for name in ("psycopg", "psycopg2", "requests") if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None makes an import fail
    try:
        importlib.import_module("rest_framework.compat")
    finally:
        for name in hidden:
            del sys.modules[name]


def warm_up() -> None:
    """Load the views and open the outbox, before the server accepts a first request.

    The database is not asked: the start must not wait for it.
    """
    from django.urls import resolve

    from trajectories.exceptions import OutboxUnavailable
    from trajectories.storage.store import get_store

    resolve("/v1/agent/trajectories")
    with suppress(OutboxUnavailable):  # readiness reports it
        get_store().outbox.binding()
    garbage.collect_rarely()


def _is_alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False
