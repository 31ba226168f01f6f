"""The installed wheel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

PACKAGE = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(directory), str(PACKAGE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = directory.glob("*.whl")
    return path


def test_the_wheel_is_typed_has_its_licence_and_nothing_of_the_tests(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    assert "trajectories_sdk/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert all(name.startswith(("trajectories_sdk/", "trajectories_sdk-")) for name in names)
    assert not any("test_" in name or "generate" in name for name in names)


def test_the_wheel_runs_without_django_and_without_its_extras(wheel: Path) -> None:
    script = f"""
import sys
sys.path.insert(0, {str(wheel)!r})
for name in ("django", "celery", "trajectories", "typer", "click", "rich", "tqdm"):
    sys.modules[name] = None
from trajectories_sdk.testing import InMemoryServer
import trajectories_sdk
assert trajectories_sdk.__file__.startswith({str(wheel)!r}), trajectories_sdk.__file__
with InMemoryServer() as server:
    server.client().trajectories.record({{"request_summary": "x", "phases": []}})
    print(len(server.records))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_the_version_is_the_packages(wheel: Path) -> None:
    from trajectories_sdk import __version__

    assert wheel.name.startswith(f"trajectories_sdk-{__version__}-")
