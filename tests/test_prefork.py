"""Processes of the fork server behave as ordinary ones."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from tests.processes import PROJECT, Process, clean_environment, run_python

SHOW = "import os, sys; print(os.environ.get('A'), os.getcwd(), sys.argv, os.getsid(0) == os.getpid())"


def test_a_process_has_its_own_environment_arguments_directory_and_session() -> None:
    done = run_python(["-c", SHOW, "x"], clean_environment(A="1"))
    assert done.stdout == f"1 {PROJECT} ['-c', 'x'] True\n"
    assert "None" in run_python(["-c", SHOW], clean_environment()).stdout


@pytest.mark.parametrize(
    ("code", "expected", "said"),
    [
        ("", 0, ""),
        ("import sys; sys.exit(3)", 3, ""),
        ("sys.exit('no')", 1, "NameError"),
        ("raise SystemExit('no')", 1, "no"),
    ],
)
def test_its_exit_code_and_its_errors_are_those_of_python(code: str, expected: int, said: str) -> None:
    done = run_python(["-c", code], clean_environment())
    assert (done.returncode, done.stdout) == (expected, "")
    assert said in done.stderr


def test_it_runs_its_exit_handlers() -> None:
    assert run_python(["-c", "import atexit; atexit.register(print, 'end')"], clean_environment()).stdout == "end\n"


def test_it_waits_for_its_threads_before_it_runs_its_exit_handlers() -> None:
    code = (
        "import atexit, sys, threading; atexit.register(sys.stdout.write, 'end');"
        "threading.Timer(0.05, sys.stdout.write, ['thread ']).start()"
    )
    assert run_python(["-c", code], clean_environment()).stdout == "thread end"


def test_it_has_loaded_neither_app_nor_site_nor_settings() -> None:
    code = (
        "import sys; from django.conf import settings;"
        "print(settings.configured, [n for n in sys.modules if n.startswith(('trajectories.', 'trajectory_', 'tests', 'prometheus'))])"
    )
    assert run_python(["-c", code], clean_environment()).stdout == "False []\n"


def test_a_killed_process_has_the_signal_as_its_exit_code(tmp_path: Path) -> None:
    process = Process([sys.executable, "-c", "import time; time.sleep(60)"], clean_environment(), tmp_path / "log")
    assert process.is_running
    process.kill()
    assert process.wait() == -signal.SIGKILL
