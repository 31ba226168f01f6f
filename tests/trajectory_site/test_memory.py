"""The processes of the quick start load only what they use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import PROJECT, clean_environment


@pytest.mark.parametrize(
    ("script", "unused"),
    [
        pytest.param(
            "import trajectory_site.quickstart", ["redis", "kombu", "asyncio", "django.conf"], id="supervisor"
        ),
        pytest.param(
            "from trajectory_site import server; server._check_settings()", ["django", "trajectories"], id="server"
        ),
        pytest.param(
            "from trajectory_site.task_worker import app; app.loader.init_worker()",
            ["celery.bin", "click_repl", "rest_framework.views", "trajectories.api.views"],
            id="worker",
        ),
        pytest.param("import trajectory_site.wsgi", ["psycopg", "requests", "drf_spectacular.views"], id="web"),
    ],
)
def test_a_process_loads_only_what_it_uses(script: str, unused: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{script}; import sys; print(sorted(sys.modules.keys() & {unused}))"],
        env=clean_environment(
            SECRET_KEY="x",
            DATA_DIR=str(tmp_path),
            DJANGO_SETTINGS_MODULE="trajectory_site.settings",
            TRAJECTORIES_RELAY_IN_PROCESS="false",
        ),
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )

    assert done.stdout == "[]\n"


def test_the_server_ends_with_the_sentence_of_a_wrong_setting(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trajectory_site.server"],
        env=clean_environment(SECRET_KEY="", DATA_DIR=str(tmp_path)),
        cwd=PROJECT,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr.startswith("SECRET_KEY is not set.")
