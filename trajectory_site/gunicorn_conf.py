"""``gunicorn -c python:trajectory_site.gunicorn_conf trajectory_site.wsgi``: workers that no slow client keeps from work
and that stop without cutting a request off, and metrics over all of them."""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import Any

worker_class = "trajectory_site.gunicorn_worker.DrainingWorker"

_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

# In the master and before it forks, so that its workers write into one directory; a new one each time, since what another
# gunicorn left there would be counted again.
_own_directory = None if os.environ.get(_VARIABLE) else tempfile.mkdtemp(prefix="trajectories-metrics-")
if _own_directory:
    os.environ[_VARIABLE] = _own_directory


def child_exit(server: Any, worker: Any) -> None:
    """What it measured as of now goes with it; what it counted stays."""
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def on_exit(server: Any) -> None:
    if _own_directory:
        shutil.rmtree(_own_directory, ignore_errors=True)
