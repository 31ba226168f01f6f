"""A web process is warm before it accepts requests, and a worker before it takes messages."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.processes import clean_environment, run_python

SCRIPT = """
import gc, sys
import trajectory_site.wsgi
print("trajectories.api.views" in sys.modules, gc.get_freeze_count() > 10_000)
print({"drf_spectacular.views", "trajectories.api.openapi", "rest_framework.test"} & sys.modules.keys())
"""

OF_A_WORKER = """
import gc
import trajectory_site.celery
trajectory_site.celery._queue_of_the_store = lambda: None
worker = trajectory_site.celery.app.Worker(quiet=True, pool_cls="solo")
print(gc.get_freeze_count() > 10_000, gc.get_threshold()[0] > 10_000)
"""


def test_a_worker_collects_garbage_rarely(tmp_path: Path) -> None:
    environment = clean_environment(
        SECRET_KEY="only for tests", DATA_DIR=str(tmp_path), REDIS_URL="redis://127.0.0.1:1/0"
    )
    done = run_python(["-c", OF_A_WORKER], environment, python=sys.executable)
    assert (done.stdout, done.returncode) == ("True True\n", 0), done.stderr


def test_a_web_process_has_loaded_its_views_before_its_first_request(tmp_path: Path) -> None:
    environment = clean_environment(
        SECRET_KEY="only for tests",
        DATA_DIR=str(tmp_path),
        REDIS_URL="redis://127.0.0.1:1/0",
        TRAJECTORIES_RELAY_IN_PROCESS="false",
    )
    done = run_python(["-c", SCRIPT], environment, python=sys.executable)
    assert (done.stdout, done.returncode) == ("True True\nset()\n", 0), done.stderr
    assert (tmp_path / "outbox.sqlite3").exists()
