"""The TypeScript package, installed and built outside of the checkout, once for all processes of a test run."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.processes import PROJECT

PACKAGE = PROJECT / "packages" / "sdk-ts"
_MADE_HERE = ("node_modules", "dist")


def built(directory: Path) -> Path:
    """The package with its dependencies and its ``dist``, in ``directory``; whoever comes first makes it.

    Where Node.js is missing the test is skipped, and in CI it fails.
    """
    if not shutil.which("npm"):
        missing = "Node.js with npm is not installed (apt-get install nodejs npm)"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    package, is_done = directory / "sdk-ts", directory / "sdk-ts.built"
    with (directory / "sdk-ts.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_done.exists():
            shutil.rmtree(package, ignore_errors=True)
            shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns(*_MADE_HERE))
            npm(package, "ci", "--no-audit", "--no-fund")
            npm(package, "run", "build")
            is_done.touch()
    return package


def npm(package: Path, *arguments: str) -> str:
    """What npm says, which must succeed."""
    done = subprocess.run(["npm", *arguments], cwd=package, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
