"""A running store: web servers, workers and a Redis in processes of their own."""

from __future__ import annotations

import atexit
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from typing import NamedTuple, TypeVar

import httpx2
from redis import Redis

from tests import prefork
from tests.prefork import PROJECT as PROJECT
from trajectory_site import redis_url, servers

_SETTINGS = (
    "DATABASE_URL",
    "REDIS_URL",
    "CELERY_BROKER_URL",
    "DEBUG",
    "ALLOWED_HOSTS",
    "CORS_ALLOWED_ORIGINS",
    "STATIC_ROOT",
    "LOG_LEVEL",
)

T = TypeVar("T")


def wait_until(condition: Callable[[], T], timeout_s: float = 120.0, what: str = "") -> T:
    """Wait until ``condition`` returns a true value, and return it.

    Raises:
        AssertionError: it is not within ``timeout_s``, which is a bound for a slow machine and no
            expectation.
    """
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"Not within {timeout_s:g} s: {what or condition}. It is {value!r}.")
        time.sleep(0.02)
    return value


def clean_environment(**more: str) -> dict[str, str]:
    """Return the environment of this process without settings of a site, and with ``more``."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("TRAJECTORIES_", "DJANGO_"))}
    return {name: text for name, text in kept.items() if name not in _SETTINGS} | more


def _known_to(checkout: Path, environment: dict[str, str]) -> dict[str, str]:
    """Drop the settings that are newer than ``checkout``; its code would refuse them as unknown."""
    fields = re.findall(r"^    (\w+): ", (checkout / "trajectories" / "conf.py").read_text(), re.MULTILINE)
    known = {f"TRAJECTORIES_{name.upper()}" for name in fields}
    return {name: text for name, text in environment.items() if name in known or not name.startswith("TRAJECTORIES_")}


def group_lives(pgid: int) -> bool:
    """Return whether a process of this group runs. A zombie does not count."""
    if not Path("/proc/self/stat").exists():
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pgid, 0)
            return True
        return False
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            state, _, group = path.read_text().rpartition(")")[2].split()[:3]
            if int(group) == pgid and state not in "ZX":
                return True
    return False


def children(pid: int) -> list[int]:
    """Return the running children of a process."""
    out = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False).stdout
    return [int(line) for line in out.split()]


class Process:
    """A program in a process group of its own, its output in a file."""

    def __init__(
        self, arguments: list[str], environment: dict[str, str], log: Path, *, directory: Path = PROJECT
    ) -> None:
        self._log = log
        log.touch()
        self._popen: prefork.Forked | subprocess.Popen[bytes]
        if prefork.can_start(arguments, environment, directory):
            self._popen = prefork.start(arguments, environment, log, directory=directory)
        else:
            with log.open("ab") as output:
                self._popen = subprocess.Popen(
                    arguments,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    cwd=directory,
                    start_new_session=True,
                )
        self.pid = self._popen.pid

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        return self._popen.poll() is None

    def wait_for(self, condition: Callable[[], T], what: str) -> T:
        """Wait as ``wait_until`` does; fail at once, with the output, if the program ends first."""
        try:
            return wait_until(lambda: self._unless_ended(condition()), what=what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.output}") from None

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to the whole group, as a terminal does for Ctrl-C."""
        os.killpg(self.pid, number)

    def wait(self, timeout_s: float = 120.0) -> int:
        """Wait for the end of the program and return its exit code."""
        return self._popen.wait(timeout_s)

    def stop(self) -> None:
        """Send SIGTERM and wait for the end."""
        self._popen.terminate()
        self.wait()

    def kill(self) -> None:
        """Send SIGKILL to the program and everything it started."""
        with suppress(ProcessLookupError):
            self.signal_group(signal.SIGKILL)
        self.wait()

    def _unless_ended(self, value: T) -> T:
        if not value and not self.is_running:
            raise AssertionError(f"It ended with exit code {self.wait()}.")
        return value


class Web(Process):
    """A web server; ``http`` speaks to it with the site's key."""

    def __init__(
        self,
        port: int,
        api_key: str,
        arguments: list[str],
        environment: dict[str, str],
        log: Path,
        *,
        directory: Path = PROJECT,
    ) -> None:
        super().__init__(arguments, environment, log, directory=directory)
        self.url = f"http://127.0.0.1:{port}"
        self.http = httpx2.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {api_key}"}, timeout=30, trust_env=False
        )
        self.wait_for(self._answers, "the web server answers")

    def _answers(self) -> bool:
        with suppress(httpx2.TransportError):
            return not self.http.get("/health/live").is_server_error  # an earlier release does not know it
        return False


class OwnRedis:
    """A Redis that a test can stop and restart on the same port with the same data."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._password = secrets.token_urlsafe(12)
        self._running = ExitStack()
        self._port = servers.free_port()
        self.start()

    def start(self) -> None:
        server = self._running.enter_context(
            servers.own_redis(self._directory, password=self._password, port=self._port)
        )
        assert server.pid is not None
        self.url, self.pid = server.url, server.pid
        assert redis_url.port(self.url) == self._port, "another program took the port of this Redis"

    def stop(self) -> None:
        self._running.close()

    def follow(self, master: OwnRedis) -> None:
        """Become a replica of ``master``."""
        with self.client() as client:
            client.config_set("masterauth", master._password)
            client.replicaof("127.0.0.1", str(master._port))

    def kill(self) -> None:
        """Send SIGKILL; nothing is saved."""
        os.kill(self.pid, signal.SIGKILL)
        self._running.close()

    def wipe(self) -> None:
        """Delete the data of a stopped server."""
        for path in self._directory.glob("*.aof"):
            path.unlink()
        shutil.rmtree(self._directory / "appendonlydir", ignore_errors=True)

    def client(self) -> Redis:
        """Return a client of the tier's database."""
        return Redis.from_url(self.url, socket_timeout=5)


class Access(NamedTuple):
    """A tenant and a key with every scope."""

    tenant: str
    api_key: str


def run_python(
    arguments: Sequence[str],
    environment: dict[str, str],
    *,
    directory: Path = PROJECT,
    python: str = sys.executable,
    stdin: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run ``python …`` to its end, whatever the exit code, and capture its output."""
    command = [python, *arguments]
    if not prefork.can_start(command, environment, directory):
        return subprocess.run(
            command, env=environment, cwd=directory, input=stdin, capture_output=True, text=True, check=False
        )
    with tempfile.TemporaryDirectory() as name:
        out, err, given = Path(name, "out"), Path(name, "err"), Path(name, "in")
        given.write_text(stdin)
        code = prefork.start(command, environment, out, err, given, directory=directory).wait()
        return subprocess.CompletedProcess(command, code, out.read_text(), err.read_text())


def _environment(data_dir: Path) -> dict[str, str]:
    return clean_environment(
        DJANGO_SETTINGS_MODULE="trajectory_site.settings",
        SECRET_KEY="only for tests",
        DATA_DIR=str(data_dir),
        PYTHONUNBUFFERED="1",
    )


def _with_code_of(checkout: Path, environment: dict[str, str]) -> dict[str, str]:
    given = environment | {"PYTHONPATH": str(checkout)}
    return given if checkout == PROJECT else _known_to(checkout, given)


def _output_of(arguments: Sequence[str], environment: dict[str, str], checkout: Path) -> str:
    done = run_python(arguments, environment, directory=checkout)
    assert done.returncode == 0, done.stderr
    return done.stdout


def provision(data_dir: Path, checkout: Path, **environment: str) -> Access:
    """Migrate with the code of ``checkout``, and create a tenant and a key."""
    script = (
        "import dataclasses, django, json; django.setup(); from trajectory_site.provision import provision;"
        "print(json.dumps(dataclasses.asdict(provision(known_key=None, admin_password='only for tests'))))"
    )
    access = json.loads(
        _output_of(["-c", script], _with_code_of(checkout, _environment(data_dir) | environment), checkout)
    )
    return Access(access["tenant"], access["api_key"])


@cache
def _provisioned(checkout: Path) -> tuple[Path, Access]:
    """Return a provisioned SQLite database to copy; creating one takes seconds."""
    directory = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    atexit.register(directory.cleanup)
    return Path(directory.name, "db.sqlite3"), provision(Path(directory.name), checkout)


@dataclass
class Site:
    """A site with its own data directory, database, Redis, tenant and key.

    ``environment`` is what its processes get; a test may change it between two starts.
    """

    data_dir: Path
    redis: OwnRedis
    environment: dict[str, str]
    tenant: str
    api_key: str
    _processes: list[Process] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=count)

    @classmethod
    def make(cls, data_dir: Path, environment: dict[str, str], *, checkout: Path = PROJECT) -> Site:
        """Make a migrated site with a tenant and a key, using the code of ``checkout``."""
        data_dir.mkdir()
        if "DATABASE_URL" in environment:
            return cls.around(data_dir, environment, provision(data_dir, checkout, **environment))
        database, access = _provisioned(checkout)
        shutil.copy(database, data_dir)
        return cls.around(data_dir, environment, access)

    @classmethod
    def around(cls, data_dir: Path, environment: dict[str, str], access: Access) -> Site:
        """Make a site from the files in ``data_dir``, or from the database in ``environment``,
        which already contain ``access``."""
        redis = OwnRedis(data_dir / "redis")
        return cls(data_dir, redis, _environment(data_dir) | {"REDIS_URL": redis.url} | environment, *access)

    def web(
        self,
        *,
        workers: int = 1,
        threads: int = 4,
        port: int | None = None,
        checkout: Path = PROJECT,
        **environment: str,
    ) -> Web:
        """Start a web server of this site; a second one shares outbox and archive with the first."""
        port = port or servers.free_port()
        options = ["--workers", str(workers), "--threads", str(threads)]
        if (checkout / "trajectory_site" / "server.py").exists():
            arguments = [sys.executable, "-m", "trajectory_site.server", "--port", str(port), *options]
        else:  # an earlier release
            arguments = [sys.executable, "-m", "gunicorn", "trajectory_site.wsgi", "--bind", f"127.0.0.1:{port}"]
            arguments += [*options, "--no-control-socket"]
            if (checkout / "trajectory_site" / "gunicorn_conf.py").exists():
                arguments += ["-c", "python:trajectory_site.gunicorn_conf"]
        web = Web(port, self.api_key, arguments, self._at(checkout, environment), self._log("web"), directory=checkout)
        self._processes.append(web)
        return web

    def worker(self, *, concurrency: int = 2, checkout: Path = PROJECT, **environment: str) -> Process:
        """Start a Celery worker of this site, and wait until it is ready."""
        arguments = [sys.executable, "-m", "celery", "--app", "trajectory_site", "worker"]
        arguments += ["--concurrency", str(concurrency), "--without-gossip", "--without-mingle"]
        worker = Process(arguments, self._at(checkout, environment), self._log("worker"), directory=checkout)
        self._processes.append(worker)
        worker.wait_for(lambda: " ready." in worker.output, "the worker is ready")
        return worker

    def relay(self, **environment: str) -> Process:
        """Start a relay in a process of its own, and wait until it works."""
        arguments = [sys.executable, str(PROJECT / "manage.py"), "relay"]
        relay = Process(arguments, self.environment | environment, self._log("relay"))
        self._processes.append(relay)
        relay.wait_for(lambda: "This is the relay" in relay.output, "the relay is at work")
        return relay

    def manage(self, *arguments: str, checkout: Path = PROJECT) -> str:
        """Return the output of ``manage.py`` with these arguments."""
        return _output_of(["manage.py", *arguments], self._at(checkout, {}), checkout)

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            if isinstance(process, Web):
                process.http.close()
        self.redis.stop()

    def _at(self, checkout: Path, environment: dict[str, str]) -> dict[str, str]:
        return _with_code_of(checkout, self.environment) | environment

    def _log(self, name: str) -> Path:
        return self.data_dir / f"{name}{next(self._numbers)}.log"
