"""``quickstart``: the whole store on one machine, with one command.

All its files are in one data directory, so that the next start reuses them.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from trajectory_site import data_dir, redis_url, servers
from trajectory_site.data_dir import PROJECT, Secrets
from trajectory_site.sample import sample_runs
from trajectory_site.supervisor import Program, Supervisor

READY_S = 60.0
_SAMPLE_BATCH = 100
_THREADS = 8
"""Threads of a web process. An export holds one as long as its client reads."""
_MAX_WEB_PROCESSES = 4
"""Web processes of a quick start, each of which takes 100 MB, where nothing says how many."""

# Connect directly, even if the environment names a proxy.
_http = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class CannotStart(Exception):
    """The quick start cannot continue. The message is a sentence for the user."""


@dataclass(frozen=True, slots=True)
class Options:
    data_dir: Path
    port: int
    with_sample: bool
    cors_origins: tuple[str, ...]


def main(arguments: list[str], *, program: str = "manage.py") -> int:
    """Run until Ctrl-C or SIGTERM.

    Returns:
        The exit code: 0 after either, 1 if a process could not start or kept ending.
    """
    options = _options(arguments, program)
    # Before the processes run, SIGTERM must unwind like Ctrl-C, or a Redis keeps running.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.umask(0o077)
    try:
        return _start(options)
    except (CannotStart, data_dir.DataDirUnusable, servers.ServerUnavailable) as error:
        print(f"quickstart: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def _options(arguments: list[str], program: str) -> Options:
    parser = argparse.ArgumentParser(
        prog=f"{program} quickstart",
        description="Starts the whole store on this machine: Redis, database, web server and worker. Ctrl-C ends it.",
        epilog="REDIS_URL and DATABASE_URL in the environment are used instead of servers of its own.",
    )
    parser.add_argument("--data-dir", help=f"where everything is kept (default: DATA_DIR, or {data_dir.default()})")
    parser.add_argument("--port", type=_port, default=8000, help="of the web server on 127.0.0.1 (default: 8000)")
    parser.add_argument("--sample", action="store_true", help="record six weeks of sample runs after the start")
    parser.add_argument(
        "--cors",
        action="append",
        type=_origin,
        default=[],
        metavar="ORIGIN",
        help="let pages of this origin use the API, such as http://localhost:5173; more than once",
    )
    parsed = parser.parse_args(arguments)
    return Options(data_dir.chosen(parsed.data_dir), parsed.port, parsed.sample, tuple(parsed.cors))


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError("a port is a number from 1 to 65535")
    return int(text)


def _origin(text: str) -> str:
    with suppress(ValueError):
        parts = urlsplit(text)
        if parts.scheme and parts.hostname and text == f"{parts.scheme}://{parts.netloc}" and "@" not in parts.netloc:
            return text
    raise argparse.ArgumentTypeError(f"{text!r} is not an origin; write scheme://host[:port], as http://localhost:5173")


def _start(options: Options) -> int:
    with data_dir.locked(options.data_dir) as lock:
        _expect_free(options.port)
        kept = data_dir.kept_secrets(options.data_dir)
        before = data_dir.read_json(options.data_dir / "quickstart.json")
        with Supervisor(on_start=lambda pids: _note_processes(options.data_dir, pids)) as supervisor:
            redis = servers.given_redis() or _start_redis(options, kept, before, supervisor, lock)
            print(f"Redis: {redis.origin}", flush=True)
            settings = _settings(options, kept, redis.url)
            data_dir.keep_settings(options.data_dir, settings)
            os.environ.update(settings | _process_environment())
            access = _provision(before.get("api_key"), kept.admin_password)
            return _run(options, access, redis.url, before, supervisor)


def _start_redis(
    options: Options, kept: Secrets, before: dict[str, Any], supervisor: Supervisor, lock: int
) -> servers.RedisServer:
    prepared = servers.prepare_redis(
        options.data_dir / "redis",
        password=kept.redis_password,
        port=redis_url.port(str(before.get("redis_url", ""))),
    )
    process = supervisor.start(Program("redis", prepared.argv, log=prepared.log, pass_fds=[lock]))
    prepared.wait(process)
    return servers.RedisServer(prepared.url, prepared.origin, process.pid)


def _note_processes(directory: Path, pids: dict[str, int]) -> None:
    data_dir.write_json(directory / "processes.json", {"quickstart": os.getpid()} | pids)


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


# --- Settings and database


def _settings(options: Options, kept: Secrets, tier_url: str) -> dict[str, str]:
    """Return the settings of the site, for its processes and for commands beside them."""
    given = {name: text for name, text in os.environ.items() if name.startswith("TRAJECTORIES_")}
    if database := os.environ.get("DATABASE_URL"):
        given["DATABASE_URL"] = database
    origins = [*filter(None, [os.environ.get("CORS_ALLOWED_ORIGINS")]), *options.cors_origins]
    # All processes start anew with each release, so none reads plain bodies only.
    given.setdefault("TRAJECTORIES_COMPRESS_BODIES", "true")
    return given | {
        "SECRET_KEY": kept.secret_key,
        "DATA_DIR": str(options.data_dir),
        "REDIS_URL": tier_url,
        # The server listens on this machine only.
        "TRAJECTORIES_METRICS_ACCESS": "open",
        "CELERY_BROKER_URL": os.environ.get("CELERY_BROKER_URL") or redis_url.broker(tier_url),
        "CORS_ALLOWED_ORIGINS": ",".join(origins),
    }


def _process_environment() -> dict[str, str]:
    environment = {
        "DJANGO_SETTINGS_MODULE": "trajectory_site.settings",
        # The supervisor puts name and time before each line.
        "LOG_FORMAT": "%(levelname)s %(name)s: %(message)s",
        "PYTHONUNBUFFERED": "1",
    }
    if data_dir.IS_CHECKOUT:
        # The processes run in the caller's directory, to resolve a relative path in DATABASE_URL.
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
    if os.geteuid() == 0:
        # The warning is for machines that receive tasks from others.
        environment["PYTHONWARNINGS"] = "ignore:You're running the worker with superuser privileges"
    return environment


def _provision(known_key: str | None, admin_password: str) -> dict[str, Any]:
    """Return tenant, key and admin, as ``provision.Access`` names them, after creating what is
    missing."""
    done = subprocess.run(
        [sys.executable, "-m", "trajectory_site.prepare"],
        input=json.dumps({"known_key": known_key, "admin_password": admin_password}),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CannotStart(done.stdout.strip() or "The database could not be prepared.")
    access: dict[str, Any] = json.loads(done.stdout)
    return access


# --- Running


def _run(
    options: Options, access: dict[str, Any], tier_url: str, before: dict[str, Any], supervisor: Supervisor
) -> int:
    facts = {
        "url": f"http://127.0.0.1:{options.port}",
        "api_key": access["api_key"],
        "tenant": access["tenant"],
        "admin_user": access["admin_user"],
        "admin_password": access["admin_password"],
        "redis_url": tier_url,
    }
    supervisor.start(Program("web", _web(options.port)))

    def announce() -> None:
        try:
            _wait_for_web(facts)
            # Not before: it would take the processor from the web server, which needs no worker.
            supervisor.add(Program("worker", _worker()))
            data_dir.write_json(options.data_dir / "quickstart.json", facts)
            sample = _post_sample(facts) if options.with_sample else None
            supervisor.say(_banner(facts, before, options.data_dir, sample))
        except (CannotStart, OSError) as error:
            supervisor.fail(f"quickstart: {error}")

    return supervisor.run(announce)


def _web(port: int) -> list[str]:
    command = [sys.executable, "-m", "trajectory_site.server"]
    return [*command, "--port", str(port), "--workers", _web_processes(), "--threads", str(_THREADS)]


def _web_processes() -> str:
    """Return ``TRAJECTORIES_WEB_PROCESSES``, or one for each two cores that this process may use.

    The worker and the clients use the other cores. docs/decisions.md compares one process with two.
    """
    given = os.environ.get("TRAJECTORIES_WEB_PROCESSES", "").strip()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return given or str(min(max(1, cores // 2), _MAX_WEB_PROCESSES))


def _worker() -> list[str]:
    return [sys.executable, "-m", "trajectory_site.task_worker"]


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
    lines = [json.dumps(run).encode() for run in sample_runs(datetime.now(UTC).date())]
    accepted = 0
    for start in range(0, len(lines), _SAMPLE_BATCH):
        body = b"\n".join(lines[start : start + _SAMPLE_BATCH])
        answer = _request(facts, "POST", "/v1/agent/trajectories", body)
        if answer["refused"]:
            raise CannotStart(f"The sample runs were not accepted: {answer['results']}")
        accepted += int(answer["accepted"])
    return accepted


def _request(facts: dict[str, Any], method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {facts['api_key']}", "Content-Type": "application/x-ndjson"}
    request = urllib.request.Request(facts["url"] + path, data=body, headers=headers, method=method)  # noqa: S310  (ours)
    with _http.open(request, timeout=10) as response:
        answer: dict[str, Any] = json.load(response)
        return answer


def _admin_login(facts: dict[str, Any], before: dict[str, Any]) -> str:
    """Return the login of the admin, with a password that was not printed before."""
    if not facts["admin_password"]:
        return f"{facts['admin_user']} / its own password"
    if facts["admin_password"] == before.get("admin_password"):
        return f"{facts['admin_user']} / the password in quickstart.json"
    return f"{facts['admin_user']} / {facts['admin_password']}"


def _banner(facts: dict[str, Any], before: dict[str, Any], directory: Path, sample: int | None) -> str:
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
        f"  Admin    {facts['url']}/admin/  ({_admin_login(facts, before)})",
        f"  Docs     {facts['url']}/docs/",
        *(
            [f"  MCP      {facts['url']}/v1/mcp/connect  (for agents, with the key)"]
            if find_spec("trajectories_mcp")
            else []
        ),
        f"  Data     {directory}  (the lines above as JSON: quickstart.json)",
        *([] if sample is None else [f"  Sample   {sample} runs recorded"]),
        "",
        "Record a run:",
        curl,
        "",
    ]
    return "\n".join(lines)
