"""An earlier revision of this repository, whose files and processes the present code must work
with."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.processes import PROJECT

REVISION = "9e8a15d69a5c5ac683f6eb45edecf7b4e909d318"
"""The end of the first landing: before migration 0002, counters in the outbox file, and notes of
open batches in Redis."""


def check_out(directory: Path) -> Path:
    """The files of that revision, in ``directory``.

    A test that calls this is skipped where the history is not there: in a tarball, in a shallow
    clone, without git. ``CI`` asks for everything, so there it fails.
    """
    try:
        command = ["git", "-C", str(PROJECT), "archive", "--format=tar", REVISION]
        packed = subprocess.run(command, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        told = getattr(error, "stderr", b"").decode(errors="replace").strip()
        reason = f"revision {REVISION[:7]} cannot be checked out here: {told or error}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        tar.extractall(directory, filter="data")
    return directory
