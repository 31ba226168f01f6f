"""Installing a package from a checkout, as its README says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("page", "module"),
    [
        ("packages/sdk-py/README.md", "trajectories_sdk"),
        ("packages/mcp/README.md", "trajectories_mcp"),
        ("docs/host-project.md", "trajectories"),
    ],
)
def test_the_packages_of_a_checkout_install_as_the_page_says(page: str, module: str, tmp_path: Path) -> None:
    (line,) = re.findall(r"(?:^|`)pip install (\.(?:/packages/.+)?)(?:$|`)", (ROOT / page).read_text(), re.MULTILINE)
    paths = [path.partition("[")[0] for path in line.replace("'", "").split()]
    # The dependencies and the build backend are those of this environment, so no registry is needed.
    options = ["--offline", "--quiet", "--no-deps", "--no-build-isolation", "--python", sys.executable]
    subprocess.run(["uv", "pip", "install", *options, "--target", str(tmp_path), *paths], cwd=ROOT, check=True)
    script = f"import {module}; print({module}.__file__, {module}.__version__)"
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(str(tmp_path))
