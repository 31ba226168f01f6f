"""Python processes that start with the libraries of the site loaded.

A process of the site spends three of its four seconds of start on importing Django, Celery and
other libraries. A server imports them once and forks for each process. It imports the SDK too, but
nothing of the app and the site, and reads no setting: a process reads their code and its
environment as after an ordinary start.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent

_LIBRARIES = (
    "anyio",
    "celery.apps.worker",
    "celery.bin.celery",
    "celery.concurrency.prefork",
    "celery.worker.components",
    "celery.worker.consumer",
    "click",
    "corsheaders.middleware",
    "csp.middleware",
    "django.contrib.admin",
    "django.contrib.postgres.fields",
    "django.contrib.staticfiles.handlers",
    "django.core.handlers.wsgi",
    "django.core.management",
    "django.db.backends.postgresql.base",
    "django.db.backends.sqlite3.base",
    "django.db.migrations.autodetector",
    "django.db.migrations.executor",
    "django.test",
    "django.views.generic",
    "django_redis.cache",
    "environ",
    "granian.server",
    "hiredis",
    "httpx2",
    "inflection",
    "jsonschema",
    "kombu.transport.redis",
    "orjson",
    "psycopg",
    "pydantic",
    "re2",
    "redis.asyncio",
    "requests",
    "rest_framework.serializers",
    "trajectories_sdk.cli.commands",
    "uritemplate",
    "whitenoise.middleware",
    "yaml",
)
"""Not prometheus_client, which reads the environment when it is imported."""

is_used = True
"""Benchmarks set this to False: a forked process starts sooner and shares memory with the server."""


class Forked:
    """A child of the server, with the part of ``subprocess.Popen`` that the tests use."""

    def __init__(self, server: _Server, pid: int) -> None:
        self._server = server
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._server.ask({"poll": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
            time.sleep(0.01)
        return code

    def terminate(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)


class _Server:
    """The process that forks. It ends with this one, since it reads from its pipe."""

    def __init__(self, python: str) -> None:
        left_out = {"DJANGO_SETTINGS_MODULE"} if python == sys.executable else {"DJANGO_SETTINGS_MODULE", "PYTHONPATH"}
        environment = {name: text for name, text in os.environ.items() if name not in left_out}
        self._process = subprocess.Popen(
            [python, "-u", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            # Ctrl-C ends the tests first, and they end their processes.
            start_new_session=True,
        )
        self._lock = threading.Lock()

    def ask(self, request: dict[str, Any]) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        with self._lock:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@cache
def _server(python: str) -> _Server:
    server = _Server(python)
    atexit.register(server.close)
    return server


def can_start(arguments: Sequence[str], environment: dict[str, str], directory: Path) -> bool:
    """Return whether the process is one of this Python and this checkout, or of a host project."""
    if not is_used or {"-X", "-W", "-I"} & set(arguments):
        return False
    if arguments[0] == sys.executable:
        return directory == PROJECT and environment.get("PYTHONPATH") in (None, str(PROJECT))
    return Path(arguments[0]).name == "python" and not environment.get("PYTHONPATH")


def start(
    arguments: Sequence[str],
    environment: dict[str, str],
    out: Path,
    err: Path | None = None,
    stdin: Path = Path(os.devnull),
    *,
    directory: Path = PROJECT,
) -> Forked:
    """Start ``python …`` in a session of its own, its output appended to ``out``, that of stderr to
    ``err`` if given."""
    server = _server(arguments[0])
    files = {"out": str(out), "err": str(err or out), "stdin": str(stdin), "directory": str(directory)}
    request = {"arguments": list(arguments[1:]), "environment": environment} | files
    return Forked(server, server.ask(request))


# --- The server process


def _serve() -> list[str]:
    """Fork as asked; return, in a child, the arguments of its program."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.dup(1)
    os.set_inheritable(answers, False)
    for name in _LIBRARIES:
        with suppress(ModuleNotFoundError):  # of a library that the site no longer has
            importlib.import_module(name)
    assert threading.active_count() == 1, "a library has started a thread, which no child would have"
    gc.collect()
    gc.freeze()  # the collector of a child leaves the shared pages alone
    for line in requests:
        request = json.loads(line)
        if "poll" in request:
            answer = _exit_code(request["poll"])
        else:
            has_group, in_group = os.pipe()
            answer = os.fork()
            if not answer:
                os.setsid()
                os.close(in_group)
                os.close(has_group)
                requests.close()
                os.close(answers)
                _become(request)
                return list(request["arguments"])
            # The caller may signal the group at once, so it must exist.
            os.close(in_group)
            os.read(has_group, 1)
            os.close(has_group)
        os.write(answers, json.dumps(answer).encode() + b"\n")
    os._exit(0)


def _exit_code(pid: int) -> int | None:
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _become(request: dict[str, Any]) -> None:
    append = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    for number, path, flags in (
        (0, request["stdin"], os.O_RDONLY),
        (1, request["out"], append),
        (2, request["err"], append),
    ):
        file = os.open(path, flags, 0o666)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["directory"])


def _run(arguments: list[str]) -> None:
    """Run ``-m module``, ``-c code`` or a file, as the command line of Python does."""
    sys.path[0] = str(Path.cwd())
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    elif arguments[0] == "-c":
        sys.argv = ["-c", *arguments[2:]]
        exec(arguments[1], {"__name__": "__main__"})
    else:
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")


def _run_to_the_end(arguments: list[str]) -> None:
    """Run a program, and end as Python does after it, but without freeing its objects one by one.

    Freeing them takes ten times as long as everything else that a short process does: it writes to
    each page that is shared with the server. An exception and a signal end the process in the
    ordinary way.
    """
    code: object = None
    try:
        _run(arguments)
    except SystemExit as ended:
        code = ended.code
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as an interpreter that ends does first
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


if __name__ == "__main__":
    _run_to_the_end(_serve())
