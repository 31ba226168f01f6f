"""Measure the CPU of each part of a recorded run in one process: POST, relay, worker.

    uv run python -m benchmarks.write_parts [--records 100] [--rounds 40] [--tenants 1] [--directory /dev/shm]

Each round posts ``records`` runs of 5 phases through the WSGI application, lets the relay send
them, reads the message from the broker as a worker does, persists it, and lets the relay confirm
it. The table has the least CPU time of the rounds in µs a record, so that other load on the machine
has little effect. The CPU of Redis and of the web server is not in it. A directory in memory leaves
out the waiting for a disk.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.bodies import run
from trajectory_site import garbage, servers

_PHASES = 5
_PATH = "/v1/agent/trajectories"


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as name:
        directory = Path(name)
        with servers.own_redis(directory / "redis", password=secrets.token_urlsafe(12)) as redis:
            os.environ |= {
                "DJANGO_SETTINGS_MODULE": "trajectory_site.settings",
                "SECRET_KEY": "only for measurements",
                "DATA_DIR": name,
                "REDIS_URL": redis.url,
                "TRAJECTORIES_RELAY_IN_PROCESS": "false",
                "TRAJECTORIES_COMPRESS_BODIES": "true",  # as the quick start does
                "TRAJECTORIES_OUTBOX_KEEP_CONFIRMED_S": "0.001",
            }
            _measure(arguments)


def _measure(arguments: argparse.Namespace) -> None:
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    from trajectories import persistence
    from trajectories.relay import Relay
    from trajectories.storage.store import get_store
    from trajectory_site.wsgi import application

    keys = [_key(f"tenant-{number}") for number in range(arguments.tenants)]
    body, relay, spent = json.dumps(run(_PHASES)).encode(), Relay(get_store()), _Spent()

    def post() -> None:
        for number in range(arguments.records):
            _post(application, keys[number % len(keys)], body)

    relay.step()
    while _take():
        pass
    persistence.rebuild(get_store())
    garbage.collect_rarely()  # as the server's processes do
    for _ in range(arguments.rounds):
        spent.measure("POST", post)
        spent.measure("relay, send", relay._send)
        payload = spent.measure("worker, read the message", _take)
        spent.measure("worker, check the signature", partial(_is_signed, payload))
        spent.measure("worker, persist", partial(_persist, payload))
        time.sleep(0.06)  # the relay looks at a batch 50 ms after it was sent, at the earliest
        spent.measure("relay, confirm", relay._confirm)
        relay.step()
    spent.show(arguments.records)


class _Spent:
    def __init__(self) -> None:
        self._s: dict[str, list[float]] = {}

    def measure(self, name: str, work: Callable[[], Any]) -> Any:
        before = time.process_time()
        result = work()
        self._s.setdefault(name, []).append(time.process_time() - before)
        return result

    def show(self, records: int) -> None:
        print("| µs CPU a record | least | median |\n|---|---:|---:|")
        total = 0.0
        for name, found in self._s.items():
            least, median = (value / records * 1e6 for value in (min(found), statistics.median(found)))
            total += least
            print(f"| {name} | {least:.0f} | {median:.0f} |")
        print(f"| sum | {total:.0f} | |")


def _key(slug: str) -> str:
    from trajectories.models import ApiKey, Tenant

    tenant, _ = Tenant.objects.get_or_create(pk=slug)
    return ApiKey.objects.issue(tenant=tenant, name="benchmark", scopes=["record"])[1]


def _post(application: Any, key: str, body: bytes) -> None:
    environ = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": _PATH,
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "localhost:8000",
        "HTTP_AUTHORIZATION": f"Bearer {key}",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "wsgi.url_scheme": "http",
        "wsgi.version": (1, 0),
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    status: list[str] = []
    response = application(environ, lambda given, headers, *rest: status.append(given))
    answer = b"".join(response)
    response.close()
    if not status[0].startswith("201"):
        raise SystemExit(f"{status[0]}: {answer[:500]!r}")


def _take() -> Any:
    """Return the next message of the queue, decoded; None if there is none."""
    from celery import current_app

    from trajectories import tasks
    from trajectories.storage.store import get_store

    with current_app.connection_for_read() as connection:
        queue = connection.SimpleQueue(tasks.queue_name(get_store().queue))
        try:
            message = queue.get_nowait()
        except queue.Empty:
            return None
        message.ack()
        return message.headers, message.payload


def _is_signed(message: Any) -> None:
    from trajectories import tasks

    headers, ((records, store), _, _) = message
    task = type("Task", (), {"name": tasks.persist.name, "request": type("R", (), {"headers": headers})})
    if not tasks.is_signed(task, records, store):
        raise SystemExit("The message is not signed")


def _persist(message: Any) -> None:
    from trajectories import persistence, tasks
    from trajectories.storage.store import get_store

    _, ((records, _), _, _) = message
    persistence.persist(get_store(), tasks.records_of(records))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--records", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--tenants", type=int, default=1)
    parser.add_argument("--directory", default="/dev/shm" if Path("/dev/shm").is_dir() else None)
    return parser.parse_args()


if __name__ == "__main__":
    main()
