"""The generated modules agree with the API's document."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def test_the_generated_modules_are_those_of_the_document() -> None:
    done = subprocess.run(
        [sys.executable, str(PACKAGE / "generate.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
