"""Servers that are measured beside each other: quick starts of checkouts, and anchors that store
nothing."""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx2

from benchmarks.load import Target
from tests import prefork
from tests.processes import PROJECT, Process, Site, clean_environment, wait_until
from trajectory_site import servers

prefork.is_used = False

# Compiled modules, as an installed package has them. A process that compiles its modules itself keeps
# 10 to 20 MB more.
_bytecode = tempfile.mkdtemp(prefix="trajectories-bytecode-")
atexit.register(shutil.rmtree, _bytecode, ignore_errors=True)
os.environ["PYTHONPYCACHEPREFIX"] = _bytecode
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

PATH = "/v1/agent/trajectories"
SHORT, NESTED, BARE = "DRF view of the main fields", "DRF view of all fields", "bare Django view"
_ROUTES = {SHORT: "/short", NESTED: "/nested", BARE: "/bare"}


class Side(NamedTuple):
    """A server that is measured, with the process whose descendants do its work."""

    pid: int
    target: Target

    def wait_until_archived(self) -> None:
        """Wait until nothing waits for the archive; return at once for an anchor."""
        if self.target.key:
            wait_until(lambda: not _waiting(self.target.url), 120, "everything is archived")


def _waiting(url: str) -> float:
    text = httpx2.get(f"{url}/metrics", trust_env=False, timeout=30).raise_for_status().text
    found = re.search(r"^trajectories_outbox_waiting\S* (\S+)", text, re.MULTILINE)
    return float(found[1]) if found else 1.0


@contextmanager
def quick_start(checkout: Path = PROJECT) -> Iterator[Side]:
    """Run the quick start of ``checkout`` with an empty data directory."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        directory, port, python = Path(name), servers.free_port(), checkout / ".venv" / "bin" / "python"
        command = [str(python) if python.exists() else sys.executable, str(checkout / "manage.py"), "quickstart"]
        _compile(command[0], checkout, directory)
        command += ["--data-dir", str(directory / "data"), "--port", str(port)]
        process = Process(command, clean_environment(), directory / "log", directory=checkout)
        try:
            process.wait_for(lambda: "Record a run:" in process.output, "the store runs")
            facts = json.loads((directory / "data" / "quickstart.json").read_text())
            yield Side(process.pid, Target(facts["url"], PATH, facts["api_key"]))
        finally:
            process.stop()


def _compile(python: str, checkout: Path, directory: Path) -> None:
    """Import what the processes of a site import."""
    environment = clean_environment(
        SECRET_KEY="only for a benchmark",
        DATA_DIR=str(directory / "compiled"),
        TRAJECTORIES_RELAY_IN_PROCESS="false",
    )
    script = "import trajectory_site.quickstart, trajectory_site.server, trajectory_site.wsgi, celery.apps.worker"
    subprocess.run([python, "-c", script], env=environment, cwd=checkout, check=True)


@contextmanager
def anchors(*names: str, workers: int = 2) -> Iterator[dict[str, Side]]:
    """Serve the views of ``benchmarks.baselines`` with granian, without middleware, key or
    database."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        site = Site.make(Path(directory) / "site", {})
        try:
            web = site.web(
                workers=workers,
                threads=1,
                DJANGO_SETTINGS_MODULE="benchmarks.anchor_settings",
                TRAJECTORIES_RELAY_IN_PROCESS="false",
            )
            yield {name: Side(web.pid, Target(web.url, _ROUTES[name])) for name in names}
        finally:
            site.close()
