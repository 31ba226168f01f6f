"""The test run of a project that installs the app, by both runners, beside a development store.

The code of docs/testing.md and docs/authentication.md runs in the project.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
import psycopg
import pytest

from tests.processes import PROJECT, clean_environment
from tests.storage.hosts import draft, new_id
from trajectories.storage.outbox import Outbox

pytestmark = pytest.mark.outside

RUNNERS = {
    "manage.py test": ["manage.py", "test"],
    "pytest": ["-m", "pytest"],
}
SQLITE = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
_BLOCK = re.compile(r"^```python\n# (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Development:
    """The files that developers of the project have beside its code."""

    directory: Path
    outbox: Path
    servers: socket.socket
    """Listens where Redis and the broker of development are."""
    postgres_url: str

    def files(self) -> dict[str, tuple[int, bytes]]:
        return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in self.outbox.parent.iterdir()}

    def environment(self, runner: str) -> dict[str, str]:
        # A test database of Postgres takes seconds to make, and one of them is enough.
        postgres = environ.Env.db_url_config(urlsplit(self.postgres_url)._replace(path="/project").geturl())
        return clean_environment(
            PROJECT_DATABASE=json.dumps(SQLITE if runner == "pytest" else postgres),
            PROJECT_REDIS_URL=f"redis://127.0.0.1:{self.servers.getsockname()[1]}",
            PROJECT_OUTBOX=str(self.outbox),
            DJANGO_SETTINGS_MODULE="myproject.settings",
        )


@dataclass
class Run:
    output: str
    code: int


@pytest.fixture(scope="module")
def development(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Development]:
    directory = tmp_path_factory.mktemp("host") / "project"
    shutil.copytree(Path(__file__).parent / "project", directory)
    for page in ("testing.md", "authentication.md"):
        for name, code in _BLOCK.findall((PROJECT / "docs" / page).read_text()):
            with (directory / name).open("a") as file:  # a file may be spread over several blocks
                file.write(code + "\n")
    (directory / "var").mkdir()
    path = directory / "var" / "outbox.sqlite3"
    outbox = Outbox(str(path), synchronous="NORMAL", max_bytes=2**30)
    outbox.append([draft(new_id()) for _ in range(3)])
    outbox.close()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield Development(directory, path, listening, postgres_url)


@pytest.fixture(scope="module")
def before(development: Development) -> dict[str, tuple[int, bytes]]:
    return development.files()


@pytest.fixture(scope="module")
def runs(development: Development, before: Any) -> dict[str, Run]:
    """Both runners, at the same time."""
    started = {
        name: subprocess.Popen(
            [sys.executable, *command],
            cwd=development.directory,
            env=development.environment(name),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name, command in RUNNERS.items()
    }
    outputs = {name: process.communicate(timeout=120)[0] for name, process in started.items()}
    return {name: Run(outputs[name], process.returncode) for name, process in started.items()}


@pytest.mark.parametrize("runner", RUNNERS)
def test_every_test_of_the_project_passes(runs: dict[str, Run], runner: str) -> None:
    """Those of docs/testing.md post one record each, and find one each."""
    assert runs[runner].code == 0, runs[runner].output
    (count,) = re.findall(r"Ran (\d+) tests|(\d+) passed", runs[runner].output)
    assert int("".join(count)) >= 20


def test_the_outbox_of_development_is_not_touched(
    runs: dict[str, Run], development: Development, before: dict[str, tuple[int, bytes]]
) -> None:
    assert development.files() == before


def test_redis_and_broker_of_development_are_not_connected_to(runs: dict[str, Run], development: Development) -> None:
    with pytest.raises(BlockingIOError):
        development.servers.accept()


def test_no_test_database_is_left(runs: dict[str, Run], postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        left = connection.execute("SELECT datname FROM pg_database WHERE datname = 'test_project'").fetchall()
    assert left == []
