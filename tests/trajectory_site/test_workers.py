"""A web process is warm before it accepts requests."""

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
