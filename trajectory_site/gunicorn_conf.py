"""``gunicorn -c python:trajectory_site.gunicorn_conf trajectory_site.wsgi``: workers that no slow client keeps from work
and that stop without cutting a request off, and metrics over all of them."""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import Any

from trajectory_site.listeners import close_to_new

worker_class = "trajectory_site.gunicorn_worker.DrainingWorker"

_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

# In the master and before it forks, so that its workers write into one directory; a new one each time, since what another
# gunicorn left there would be counted again.
_own_directory = None if os.environ.get(_VARIABLE) else tempfile.mkdtemp(prefix="trajectories-metrics-")
if _own_directory:
    os.environ[_VARIABLE] = _own_directory


def when_ready(server: Any) -> None:
    """Before its workers hear that they are to stop, nobody is let in any more: whom they take then is answered."""
    stop = server.stop

    def close_and_stop(graceful: bool = True) -> None:
        # A socket that somebody else goes on with, a new gunicorn or systemd, has to stay open.
        if not (server.systemd or server.reexec_pid or server.master_pid):
            for listener in server.LISTENERS:
                close_to_new(listener.sock)
        stop(graceful)

    server.stop = close_and_stop


def child_exit(server: Any, worker: Any) -> None:
    """What it measured as of now goes with it; what it counted stays."""
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def on_exit(server: Any) -> None:
    if _own_directory:
        shutil.rmtree(_own_directory, ignore_errors=True)
