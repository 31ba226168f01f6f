"""docs/host-project.md, followed block by block in projects that know nothing of the app."""

from __future__ import annotations

import re
import shlex
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from django.core.management import call_command
from redis import Redis

from tests.host_project.conftest import Host, make_host
from tests.processes import PROJECT, wait_until
from trajectory_site import redis_url, servers

pytestmark = pytest.mark.outside

PAGE = PROJECT / "docs" / "host-project.md"
_BLOCK = re.compile(r"^## (?P<heading>[^\n]+)$|^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# (?P<path>mysite/\S+\.py)(?:, if (?P<condition>.+))?\n")


@dataclass
class Block:
    heading: str
    language: str
    text: str


def blocks() -> list[Block]:
    found, heading = [], ""
    for match in _BLOCK.finditer(PAGE.read_text()):
        heading = match["heading"] or heading
        if match["language"]:
            found.append(Block(heading, match["language"], match["text"]))
    return found


@dataclass
class Reader:
    """Someone who follows the page in a project.

    ``conditions`` are those of the page that are true of the project. ``names`` are the names of
    the page that are others there.
    """

    host: Host
    conditions: set[str]
    names: dict[str, str]
    examples: str = ""
    output: dict[str, str] = field(default_factory=dict)
    _before: dict[Path, str | None] = field(default_factory=dict)
    _port: int = field(default_factory=servers.free_port)

    def follow(self, *headings: str) -> None:
        for block in blocks():
            if block.heading in headings:
                self.do(block)

    def do(self, block: Block) -> None:
        if block.language == "sh":
            for line in block.text.replace("\\\n", "").splitlines():
                self._run(line)
        elif named := _FILE.match(block.text):
            if named["condition"] is None or named["condition"] in self.conditions:
                told = named["path"] if named["condition"] is None else f"{named['path']}, if {named['condition']}"
                self._write(self.names.get(told) or self.names.get(named["path"], named["path"]), block.text)
        else:
            self.examples += block.text

    def restore_files(self) -> None:
        """Remove what the page added."""
        for path, text in self._before.items():
            path.write_text(text) if text is not None else path.unlink()

    def _write(self, name: str, text: str) -> None:
        base = redis_url.with_database(self.host.redis.url, 0).removesuffix("0")
        path = self.host.directory / name
        before = path.read_text() if path.exists() else None
        self._before.setdefault(path, before)
        path.write_text((before or "") + text.replace("redis://localhost:6379/", base))

    def _run(self, line: str) -> None:
        match line.split():
            case ["pip", *_]:
                assert "django-trajectories" in line  # the environment has the wheel, and no network
            case ["celery", *_]:
                given = self.names.get(line, line).split()
                worker = self.host.start("worker", "-m", *given)
                worker.wait_for(lambda: " ready." in worker.output, "the worker is ready")
            case ["python", "manage.py", "runserver"]:
                web = self.host.start("web", "manage.py", "runserver", "--noreload", str(self._port))
                web.wait_for(lambda: "Starting development server" in web.output, "the web server starts")
                web.wait_for(self._answers, "the web server answers")
            case ["export", *_]:
                name, _, command = line.removeprefix("export ").partition("=")
                self.host.environment[name] = self._sh(command.removeprefix("$(").removesuffix(")")).strip()
            case _:
                self.output[line.partition(" -H")[0]] = self._sh(line)

    def _answers(self) -> bool:
        return not subprocess.run(["curl", "-s", f"http://localhost:{self._port}/"], capture_output=True).returncode

    def _sh(self, line: str) -> str:
        """Run a line as a shell does; the Python of the project starts faster outside of one."""
        if line.startswith("python manage.py"):
            done = self.host.run(*shlex.split(line)[1:])
        else:
            done = subprocess.run(
                ["sh", "-c", line.replace("localhost:8000", f"localhost:{self._port}")],
                cwd=self.host.directory,
                env=self.host.environment | {"NO_PROXY": "localhost"},
                capture_output=True,
                text=True,
                check=False,
            )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout + (done.stderr if " check " in line else "")

    def rows(self, sql: str) -> list[Any]:
        with closing(sqlite3.connect(self.host.directory / "db.sqlite3", timeout=30)) as database:
            return database.execute(sql).fetchall()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "somewhere"
    made.mkdir()
    return made


@pytest.fixture
def empty_project(directory: Path, python: Path) -> Iterator[Reader]:
    """As ``django-admin startproject mysite .`` makes it."""
    call_command("startproject", "mysite", str(directory))
    host = make_host(directory, python)
    yield Reader(host, {"it has no CACHES", "the project has no Celery app"}, {})
    host.close()


@pytest.fixture
def template_project(directory: Path, python: Path) -> Iterator[Reader]:
    """In the layout of cookiecutter-django: settings by place, apps in a package, a Celery app, a
    user model."""
    shutil.copytree(Path(__file__).parent / "template", directory, dirs_exist_ok=True)
    host = make_host(directory, python)
    base = directory / "config/settings/base.py"
    broker = redis_url.with_database(host.redis.url, 0)
    base.write_text(base.read_text().replace("redis://localhost:6379/0", broker))
    names = {
        "mysite/settings.py": "config/settings/base.py",
        "mysite/settings.py, if it has CACHES": "config/settings/local.py",
        "mysite/urls.py": "config/urls.py",
        "celery -A mysite worker --loglevel INFO": "celery -A config.celery_app worker --loglevel INFO",
    }
    yield Reader(host, {"it has CACHES"}, names)
    host.close()


INSTALL = "Install", "Celery", "Start", "Record from Django code"
LIST = "curl -sS http://localhost:8000/v1/agent/trajectories"


def expect_installed(reader: Reader) -> None:
    listed = orjson.loads(reader.output[LIST])
    assert [run["request_summary"] for run in listed["data"]] == ["Add user authentication"]
    for warning in ("W002", "W003", "W004", "W006"):
        assert warning not in reader.output["python manage.py check --deploy --tag trajectories"]
    wait_until(
        lambda: len(reader.rows("SELECT 1 FROM trajectories_trajectory")) == 2,
        what="the posted record and that of the shell are archived",
    )


def test_the_page_installs_the_app_into_an_empty_project_and_removes_it(
    empty_project: Reader,
) -> None:
    reader = empty_project
    reader.follow(*INSTALL)
    expect_installed(reader)
    leftovers = (
        "SELECT name FROM sqlite_master WHERE name LIKE '%trajector%'",
        "SELECT app_label FROM django_content_type WHERE app_label = 'trajectories'",
        "SELECT codename FROM auth_permission WHERE codename LIKE '%trajectory' OR codename LIKE '%apikey'",
        "SELECT name FROM django_migrations WHERE app = 'trajectories'",
    )
    assert all(reader.rows(left) for left in leftovers)
    drain, remove_data, remove_types, uninstall = [block for block in blocks() if block.heading == "Uninstall"]
    reader.do(drain)
    reader.host.kill_processes()
    reader.do(remove_data)
    reader.restore_files()
    reader.do(remove_types)
    reader.do(uninstall)
    for left in leftovers:
        assert reader.rows(left) == [], left
    assert not list((reader.host.directory / "var").iterdir())
    with Redis.from_url(redis_url.with_database(reader.host.redis.url, 2)) as tier:
        assert tier.keys() == []
    with Redis.from_url(redis_url.with_database(reader.host.redis.url, 3)) as broker:
        assert broker.llen("celery") == 0


def test_the_page_installs_the_app_into_a_project_of_a_popular_layout(template_project: Reader) -> None:
    reader = template_project
    reader.follow(*INSTALL)
    expect_installed(reader)
    # The examples of the page, as a module of the project.
    reader.follow("Signals", "URLs and admin")
    (reader.host.directory / "examples.py").write_text(reader.examples)
    reader.host.manage("shell", "-c", "import examples; print(examples.OurTenantAdmin)")
