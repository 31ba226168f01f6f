"""A host project outside the source tree, with the built wheel in an environment of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from tests.processes import PROJECT, OwnRedis, Process, clean_environment, run_python
from trajectory_site import servers


@dataclass
class Host:
    """The project in ``directory``; it runs on the Python of an environment that has the wheel and
    not the source tree."""

    directory: Path
    python: Path
    redis: OwnRedis
    environment: dict[str, str]
    _processes: list[Process] = field(default_factory=list)
    _clients: list[httpx2.Client] = field(default_factory=list)

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return run_python(arguments, self.environment | environment, directory=self.directory, python=str(self.python))

    def manage(self, *arguments: str) -> str:
        """The output of the project's ``manage.py``, which must succeed."""
        done = self.run("manage.py", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def web(self, api_key: str) -> httpx2.Client:
        """A client of a web server of the project."""
        port = servers.free_port()
        url = f"http://127.0.0.1:{port}"
        process = self.start(
            *("web", "-m", "granian", "--interface", "wsgi", "host.wsgi:application"),
            *("--port", str(port), "--blocking-threads", "4", "--http", "1"),
        )
        client = httpx2.Client(
            base_url=url, headers={"Authorization": f"Bearer {api_key}"}, timeout=30, trust_env=False
        )
        self._clients.append(client)

        def answers() -> bool:
            with suppress(httpx2.TransportError):
                return client.get("/store/v1/openapi.json").is_success
            return False

        process.wait_for(answers, "the web server answers")
        return client

    def worker(self) -> Process:
        """A worker of the project's own Celery app, for the queue of the app."""
        worker = self.start("worker", "-m", "celery", "--app", "host", "worker", "-Q", "runs", "-c", "1", "-l", "INFO")
        worker.wait_for(lambda: " ready." in worker.output, "the worker is ready")
        return worker

    def start(self, name: str, *arguments: str) -> Process:
        """A process of the project that runs until the end of the tests."""
        log = self.directory / f"{name}.log"
        process = Process([str(self.python), *arguments], self.environment, log, directory=self.directory)
        self._processes.append(process)
        return process

    def kill_processes(self) -> None:
        while self._processes:
            self._processes.pop().kill()

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self.kill_processes()
        self.redis.stop()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout without a network."""
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(PROJECT)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the wheel and not the source tree."""
    return _python_with(wheel, tmp_path_factory.mktemp("environment"))


def make_host(directory: Path, python: Path, **environment: str) -> Host:
    """The project in ``directory``, with a Redis of its own."""
    redis = OwnRedis(directory / "redis")
    given = {"PYTHONPATH": "", "PYTHONUNBUFFERED": "1", "HOST_REDIS_URL": redis.url.rpartition("/")[0]}
    return Host(directory, python, redis, clean_environment(**given, **environment))


@pytest.fixture(scope="session")
def host(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    directory = tmp_path_factory.mktemp("host")
    shutil.copytree(Path(__file__).parent / "project", directory, dirs_exist_ok=True)
    host = make_host(directory, python, HOST_DIR=str(directory))
    try:
        yield host
    finally:
        host.close()


def _python_with(wheel: Path, environment: Path) -> Path:
    """The Python of a new environment: the wheel, and by a path file what this one has installed.

    Path files in a directory that is itself named by one are not read, so an editable install of
    the source tree stays out.
    """
    venv.create(environment, with_pip=False, symlinks=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    installed = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (packages / "installed.pth").write_text("\n".join(installed) + "\n")
    return environment / "bin" / "python"
