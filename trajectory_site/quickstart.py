"""``manage.py quickstart``: the whole store on one machine, with one command.

All its files are in one data directory, so that the next start reuses them.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import json
import os
import secrets
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trajectory_site import redis_url, servers
from trajectory_site.supervisor import Supervisor

if TYPE_CHECKING:
    from trajectory_site.provision import Access

PROJECT = Path(__file__).resolve().parent.parent
SAMPLE = Path(__file__).with_name("sample.jsonl")
READY_S = 60.0

# Connect directly, even if the environment names a proxy.
_http = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class CannotStart(Exception):
    """The quick start cannot continue. The message is a sentence for the user."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """Secrets created at the first start and kept: a new ``secret_key`` would end every session."""

    secret_key: str
    admin_password: str
    redis_password: str


@dataclass(frozen=True, slots=True)
class Options:
    data_dir: Path
    port: int
    with_sample: bool


def main(arguments: list[str]) -> int:
    """Run until Ctrl-C or SIGTERM.

    Returns:
        The exit code: 0 after either, 1 if a process could not start or ended by itself.
    """
    options = _options(arguments)
    # Before the processes run, SIGTERM must unwind like Ctrl-C, or a Redis keeps running.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.umask(0o077)
    try:
        return _start(options)
    except (CannotStart, servers.ServerUnavailable) as error:
        print(f"quickstart: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def _options(arguments: list[str]) -> Options:
    parser = argparse.ArgumentParser(
        prog="manage.py quickstart",
        description="Starts the whole store on this machine: Redis, database, web server and worker. Ctrl-C ends it.",
        epilog="REDIS_URL and DATABASE_URL in the environment are used instead of servers of its own.",
    )
    parser.add_argument(
        "--data-dir", type=Path, default=PROJECT / "var", help="where everything is kept (default: var/)"
    )
    parser.add_argument("--port", type=_port, default=8000, help="of the web server on 127.0.0.1 (default: 8000)")
    parser.add_argument("--sample", action="store_true", help="record a few sample runs after the start")
    parsed = parser.parse_args(arguments)
    return Options(parsed.data_dir.expanduser().resolve(), parsed.port, parsed.sample)


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError("a port is a number from 1 to 65535")
    return int(text)


def _start(options: Options) -> int:
    with _locked(options.data_dir) as lock:
        _expect_free(options.port)
        kept = _secrets(options.data_dir / "secrets.json")
        before = _read_json(options.data_dir / "quickstart.json")
        with servers.running_redis(
            options.data_dir / "redis",
            password=kept.redis_password,
            port=redis_url.port(str(before.get("redis_url", ""))),
            pass_fds=[lock],
        ) as redis:
            print(f"Redis: {redis.origin}", flush=True)
            os.environ.update(_environment(options, kept, redis.url))
            access = _provision(before.get("api_key"), kept.admin_password)
            return _run(options, access, redis)


def _expect_free(port: int) -> None:
    with socket.socket() as probe:
        # As the web server does: a port with a connection in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise CannotStart(f"Port {port} is in use. Take another: --port {servers.free_port()}") from error
            raise CannotStart(f"Port {port} cannot be used: {error.strerror}.") from error


# --- The data directory


@contextmanager
def _locked(data_dir: Path) -> Iterator[int]:
    """Lock ``data_dir`` for this start.

    Redis holds the lock too, because it may outlive a quick start that was killed.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(data_dir / "quickstart.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise CannotStart(f"The data directory {data_dir} cannot be used: {error.strerror}.") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CannotStart(_in_use(data_dir)) from error
        yield lock
    finally:
        os.close(lock)


def _in_use(data_dir: Path) -> str:
    running = _read_json(data_dir / "processes.json")
    if (starter := running.pop("quickstart", None)) is None or _is_alive(starter):
        return f"The data directory {data_dir} is in use by a quick start that runs. Take another: --data-dir DIR"
    left = " ".join(str(pid) for pid in running.values())
    return f"An earlier quick start in {data_dir} was killed and left processes behind. End them first: kill {left}"


def _is_alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def _secrets(path: Path) -> Secrets:
    kept = _read_json(path)
    if not kept:
        made = Secrets(secrets.token_urlsafe(48), secrets.token_urlsafe(12), secrets.token_urlsafe(24))
        _write_json(path, asdict(made))
        return made
    try:
        return Secrets(**kept)
    except TypeError as error:
        raise CannotStart(f"{path} is not what an earlier start wrote. Put it back, or delete it.") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        read = json.loads(path.read_bytes() or b"{}")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CannotStart(f"{path} cannot be read ({error}). Put it back, or delete it.") from error
    return read if isinstance(read, dict) else {}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    """Write the file atomically, and never readable by other users."""
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


# --- Settings and database


def _environment(options: Options, kept: Secrets, tier_url: str) -> dict[str, str]:
    environment = {
        "DJANGO_SETTINGS_MODULE": "trajectory_site.settings",
        "SECRET_KEY": kept.secret_key,
        "DATA_DIR": str(options.data_dir),
        "REDIS_URL": tier_url,
        # The server listens on this machine only.
        "TRAJECTORIES_METRICS_ACCESS": "open",
        "CELERY_BROKER_URL": os.environ.get("CELERY_BROKER_URL") or redis_url.broker(tier_url),
        # The supervisor puts name and time before each line.
        "LOG_FORMAT": "%(levelname)s %(name)s: %(message)s",
        "PYTHONUNBUFFERED": "1",
        # The processes run in the caller's directory, to resolve a relative path in DATABASE_URL.
        "PYTHONPATH": os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")])),
    }
    if os.geteuid() == 0:
        # The warning is for machines that receive tasks from others.
        environment["PYTHONWARNINGS"] = "ignore:You're running the worker with superuser privileges"
    return environment


def _provision(known_key: str | None, admin_password: str) -> Access:
    import django
    from django.core.exceptions import ImproperlyConfigured
    from django.db import DatabaseError

    try:
        django.setup()
        # Models can be imported only after django.setup().
        from trajectory_site.provision import provision

        return provision(known_key=known_key, admin_password=admin_password)
    except ImproperlyConfigured as error:
        raise CannotStart(f"The settings are not right: {error}") from error
    except DatabaseError as error:
        raise CannotStart(f"The database cannot be used: {str(error).strip()}") from error


# --- Running


def _run(options: Options, access: Access, redis: servers.RedisServer) -> int:
    facts = {
        "url": f"http://127.0.0.1:{options.port}",
        "api_key": access.api_key,
        "tenant": access.tenant,
        "admin_user": access.admin_user,
        "admin_password": access.admin_password,
        "redis_url": redis.url,
    }
    supervisor = Supervisor()
    environment = dict(os.environ)
    supervisor.add("web", _web(options.port), environment)
    supervisor.add("worker", _worker(), environment)
    pids = {"quickstart": os.getpid()} | ({"redis": redis.pid} if redis.pid else {})
    _write_json(options.data_dir / "processes.json", pids)

    def announce() -> None:
        try:
            _wait_for_web(facts)
            _write_json(options.data_dir / "processes.json", pids | supervisor.pids)
            _write_json(options.data_dir / "quickstart.json", facts)
            sample = _post_sample(facts) if options.with_sample else None
            supervisor.say(_banner(facts, options.data_dir, sample))
        except (CannotStart, OSError) as error:
            supervisor.fail(f"quickstart: {error}")

    return supervisor.run(announce)


def _web(port: int) -> list[str]:
    command = [sys.executable, "-m", "trajectory_site.server"]
    return [*command, "--port", str(port), "--workers", "2", "--threads", "4"]


def _worker() -> list[str]:
    return [
        *(sys.executable, "-m", "celery", "--quiet", "--app", "trajectory_site", "worker"),
        # Gossip, mingle and heartbeat connect workers; there is only one here.
        *("--concurrency", "2", "--without-gossip", "--without-mingle", "--without-heartbeat"),
    ]


def _wait_for_web(facts: dict[str, Any]) -> None:
    deadline = time.monotonic() + READY_S
    while True:
        try:
            _request(facts, "GET", "/v1/agent/trajectories?limit=1")
            return
        except urllib.error.HTTPError as error:
            raise CannotStart(f"The web server answers {error.code}: {error.read().decode()}") from error
        except OSError as error:
            if time.monotonic() > deadline:
                raise CannotStart(f"The web server does not answer within {READY_S:.0f} seconds.") from error
            time.sleep(0.1)


def _post_sample(facts: dict[str, Any]) -> int:
    # The runs have fixed ids, so posting them at every start creates no duplicates.
    answer = _request(facts, "POST", "/v1/agent/trajectories", SAMPLE.read_bytes())
    if answer["refused"]:
        raise CannotStart(f"The sample runs were not accepted: {answer['results']}")
    return int(answer["accepted"])


def _request(facts: dict[str, Any], method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {facts['api_key']}", "Content-Type": "application/x-ndjson"}
    request = urllib.request.Request(facts["url"] + path, data=body, headers=headers, method=method)  # noqa: S310  (ours)
    with _http.open(request, timeout=10) as response:
        answer: dict[str, Any] = json.load(response)
        return answer


def _banner(facts: dict[str, Any], data_dir: Path, sample: int | None) -> str:
    curl = (
        f"curl -sS {facts['url']}/v1/agent/trajectories -H 'Authorization: Bearer {facts['api_key']}'"
        """ -H 'Content-Type: application/json' -d '{"request_summary": "My first run", "phases": []}'"""
    )
    lines = [
        "",
        "The store is running. Ctrl-C ends it; the next start finds everything again.",
        "",
        f"  URL      {facts['url']}",
        f"  API key  {facts['api_key']}  (tenant {facts['tenant']})",
        f"  Admin    {facts['url']}/admin/  ({facts['admin_user']} / {facts['admin_password'] or 'its own password'})",
        f"  Docs     {facts['url']}/docs/",
        *(
            [f"  MCP      {facts['url']}/v1/mcp/connect  (for agents, with the key)"]
            if find_spec("trajectories_mcp")
            else []
        ),
        f"  Data     {data_dir}  (the lines above as JSON: quickstart.json)",
        *([] if sample is None else [f"  Sample   {sample} runs recorded"]),
        "",
        "Record a run:",
        curl,
        "",
    ]
    return "\n".join(lines)
