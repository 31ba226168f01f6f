"""Two hosts, a worker, a Redis and a Postgres that a test can stop and restart; and the verdict at
the end."""

from __future__ import annotations

import atexit
import os
import signal
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import UUID

import httpx2
import orjson
import psycopg
from redis import Redis

from tests.faults.load import PATH, Ledger, Load
from tests.postgres import PostgresFiles, postgres_files
from tests.processes import PROJECT, Access, Process, Site, Web, provision, wait_until
from trajectory_site import redis_url, servers

HOSTS = {"a1": "a", "a2": "a", "b1": "b"}
"""Web processes and their hosts: two on one outbox, and one on a second, simulated machine."""
OUTAGE_S = 60.0
_SETTINGS: dict[str, float | str] = {
    "TRAJECTORIES_RESEND_AFTER_S": 2,
    "TRAJECTORIES_RESEND_MAX_S": 4,
    "TRAJECTORIES_SETTLE_AFTER_S": 15,
    "TRAJECTORIES_OUTBOX_KEEP_CONFIRMED_S": 5,
    "TRAJECTORIES_EXPORT_WAIT_S": 1,
}
_DOUBLED = "SELECT count(*) - count(DISTINCT (tenant_id, trajectory_id)) FROM trajectories_trajectory"


@cache
def _provisioned(checkout: Path) -> tuple[PostgresFiles, Access]:
    """Return a stopped Postgres to copy, migrated by the code of ``checkout``, with a tenant and a
    key."""
    stack = ExitStack()
    atexit.register(stack.close)
    files = stack.enter_context(postgres_files())
    with files.running():
        with psycopg.connect(files.url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE site")
        with tempfile.TemporaryDirectory() as directory:
            return files, provision(Path(directory), checkout, DATABASE_URL=_site_url(files))


def _site_url(files: PostgresFiles) -> str:
    return urlsplit(files.url)._replace(path="/site").geturl()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The fate of everything that was acknowledged. ``differing`` describes each difference."""

    acknowledged: int
    lost_ids: set[UUID]
    doubled: int
    differing: list[str]
    converged_s: float

    @property
    def lost(self) -> int:
        return len(self.lost_ids)


class Cluster:
    """The processes of a site on two hosts."""

    def __init__(self, directory: Path, *, checkout: Path = PROJECT, **environment: str) -> None:
        self._stack = ExitStack()
        files, access = _provisioned(checkout)
        self._postgres_files = self._stack.enter_context(postgres_files(files))
        self.postgres_pid = 0
        self._postgres = ExitStack()
        self.start_postgres()
        self.database_url = _site_url(self._postgres_files)
        settings = {name: str(value) for name, value in _SETTINGS.items()}
        environment = settings | {"DATABASE_URL": self.database_url} | environment
        directory.mkdir()
        self.site = Site.around(directory, environment, access)
        self._ports = {name: servers.free_port() for name in HOSTS}
        self.web_environment: dict[str, dict[str, str]] = {name: {} for name in HOSTS}
        self.outboxes = {host: directory / f"outbox-{host}.sqlite3" for host in HOSTS.values()}
        self.webs: dict[str, Web] = {}
        self.worker: Process
        self.ledger = Ledger(directory / "ledger.jsonl")

    def start(self, *, worker: bool = True, checkout: Path = PROJECT) -> Cluster:
        with ThreadPoolExecutor() as pool:  # most of a start is waiting
            started: list[Future[Process]] = [pool.submit(self.start_web, name, checkout=checkout) for name in HOSTS]
            if worker:
                started.append(pool.submit(self.start_worker, checkout=checkout))
        for one in started:
            one.result()
        return self

    def close(self) -> None:
        self.ledger.close()
        self.site.close()
        self._postgres.close()
        self._stack.close()

    # Parts.

    def start_web(self, name: str, *, checkout: Path = PROJECT) -> Web:
        environment = {"TRAJECTORIES_OUTBOX_PATH": str(self.outbox(HOSTS[name]))} | self.web_environment[name]
        self.webs[name] = self.site.web(workers=1, threads=4, port=self._ports[name], checkout=checkout, **environment)
        return self.webs[name]

    def start_worker(self, *, checkout: Path = PROJECT, **environment: str) -> Process:
        self.worker = self.site.worker(concurrency=2, checkout=checkout, **environment)
        return self.worker

    def relay(self, host: str) -> Process:
        """The relay of a host as a process of its own."""
        return self.site.relay(TRAJECTORIES_OUTBOX_PATH=str(self.outbox(host)))

    def start_postgres(self) -> None:
        self.postgres_pid = self._postgres.enter_context(self._postgres_files.running()).pid

    def stop_postgres(self) -> None:
        self._postgres.close()

    def outbox(self, host: str) -> Path:
        return self.outboxes[host]

    def urls(self, *names: str) -> list[str]:
        return [self.webs[name].url for name in names or HOSTS]

    def load(self, *names: str, **options: Any) -> Load:
        return Load(self.ledger, self.urls(*names), self.site.api_key, **options)

    # Rows under way.

    def waiting(self, host: str | None = None) -> int:
        hosts = [host] if host else sorted(set(HOSTS.values()))
        return sum(self.in_outbox(one, "SELECT count(*) FROM rows WHERE state = 'waiting'") for one in hosts)

    def waiting_ids(self, host: str) -> set[UUID]:
        with closing(sqlite3.connect(self.outbox(host), timeout=20)) as db:
            return {UUID(bytes=id_) for (id_,) in db.execute("SELECT id FROM rows WHERE state = 'waiting'")}

    def last_numbers(self) -> dict[str, int]:
        """Return the number of each host's newest row."""
        newest = "SELECT seq FROM sqlite_sequence WHERE name = 'rows'"
        return {host: self.in_outbox(host, newest) for host in sorted(set(HOSTS.values()))}

    def has_decided(self, numbers: dict[str, int]) -> bool:
        """Return whether the archive has stored or refused every row of each host up to this
        number."""
        oldest = "SELECT coalesce(min(n), 9e18) FROM rows WHERE state = 'waiting'"
        return all(self.in_outbox(host, oldest) > n for host, n in numbers.items())

    def queued(self) -> int:
        """Messages in the broker that no worker has taken."""
        with Redis.from_url(redis_url.broker(self.site.redis.url), socket_timeout=5) as broker:
            return sum(cast(int, broker.llen(queue)) for queue in broker.scan_iter("trajectories*", _type="list"))

    def in_outbox(self, host: str, sql: str) -> int:
        with closing(sqlite3.connect(self.outbox(host), timeout=20)) as db:
            return int(db.execute(sql).fetchone()[0])

    def query(self, sql: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            return connection.execute(sql).fetchall()

    def execute(self, sql: Any) -> None:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute(sql)

    def value(self, sql: Any) -> Any:
        return self.query(sql)[0][0]

    @contextmanager
    def tenant_locked(self) -> Iterator[psycopg.Connection]:
        """Workers wait inside their transactions meanwhile."""
        with psycopg.connect(self.database_url) as holder:
            holder.execute("UPDATE trajectories_tenant SET name = name")
            yield holder
            holder.rollback()

    def workers_waiting(self) -> int:
        sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%UPDATE%' AND query LIKE '%tenant%'"
        return int(self.value(sql))

    # The verdict.

    def converged(self, timeout_s: float = 300.0) -> Verdict:
        """Wait until everything agrees, or report after the timeout what does not."""
        expected = self.ledger.newest()
        started = time.monotonic()
        while True:
            differing = self._differing(expected)
            if not differing or not self.worker.is_running or time.monotonic() - started > timeout_s:
                break
            time.sleep(0.2)
        archived = {UUID(str(id_)) for (id_,) in self.query("SELECT trajectory_id FROM trajectories_trajectory")}
        return Verdict(
            self.ledger.acknowledged,
            expected.keys() - archived,
            int(self.value(_DOUBLED)),
            differing,
            time.monotonic() - started,
        )

    def _differing(self, expected: dict[UUID, bytes]) -> list[str]:
        # The worker is not restarted here: it must survive every fault that is not its own.
        if not self.worker.is_running:
            return [f"the worker has ended by itself: {self.worker.output[-2000:]}"]
        if waiting := self.waiting():
            return [f"{waiting} rows wait in the outboxes"]
        found = {
            "archive": {
                row[0]: row[1].encode() for row in self.query("SELECT trajectory_id, body FROM trajectories_trajectory")
            },
            "Redis": self.in_redis(),
        }
        shown = {}
        for name, web in self.webs.items():
            try:
                shown[name] = _shown(web)
            except (httpx2.TransportError, AssertionError) as error:
                return [f"{name}: {error!r}"]
            found[f"export of {name}"] = shown[name][0]
        wrong = [_difference(where, bodies, expected) for where, bodies in found.items()]
        wrong.append(self._other_outcomes())
        answers = {name: rest for name, (_, *rest) in shown.items()}
        first = next(iter(answers.values()))
        wrong += [_other_answer(name, rest, first) for name, rest in answers.items() if rest != first]
        return [text for text in wrong if text]

    def _other_outcomes(self) -> str:
        """Say how the late outcomes of the archive, whose runs every process shows, differ from the
        ledger's."""
        if not self.ledger.outcomes:
            return ""
        rows = self.query("SELECT trajectory_id, outcomes FROM trajectories_trajectory WHERE outcomes <> ''")
        names = {id_: sorted(one["name"] for one in orjson.loads(outcomes)) for id_, outcomes in rows}
        given = {id_: sorted(of_run) for id_, of_run in self.ledger.outcomes.items()}
        wrong = [id_ for id_ in names.keys() | given.keys() if names.get(id_) != given.get(id_)]
        return f"{len(wrong)} runs have other outcomes than were acknowledged, as {wrong[:3]}" if wrong else ""

    def in_redis(self) -> dict[UUID, bytes]:
        found: dict[UUID, bytes] = {}
        with self.site.redis.client() as client:
            keys = list(client.scan_iter("*:record:*", count=1000))
            with client.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.hget(key, "body")
                for key, body in zip(keys, pipe.execute(), strict=True):
                    if body is not None:  # None if it was withdrawn
                        found[UUID(key.decode().rpartition(":")[2])] = bytes(body)
        return found


def _shown(web: Web) -> tuple[dict[UUID, bytes], bytes, list[Any], dict[str, Any]]:
    """Bodies by id and raw bytes of the export, the whole list, and stats."""
    export = web.http.get(f"{PATH}/export")
    assert export.is_success, export.text
    listed: list[Any] = []
    cursor = None
    while True:
        answer = web.http.get(PATH, params={"limit": 1000} | ({"cursor": cursor} if cursor else {}))
        page = answer.json()
        assert answer.is_success, answer.text
        assert page["complete"], f"the list is not complete, out of {page['tiers']}"
        listed += page["data"]
        cursor = page["next_cursor"]
        if not page["has_more"]:
            break
    stats = web.http.get(f"{PATH}/stats").json()
    stats.pop("window")
    assert stats["count"] == len(listed), "stats count otherwise than the list"
    records = [orjson.loads(line) for line in export.content.splitlines()]
    for record in records:
        record.pop("recorded_at"), record.pop("revision"), record.pop("derived"), record.pop("outcomes", None)
    bodies = {UUID(record["id"]): orjson.dumps(record) for record in records}
    assert len(bodies) == len(records), "an id is twice in the export"
    return bodies, export.content, listed, stats


def _difference(where: str, found: dict[UUID, bytes], expected: dict[UUID, bytes]) -> str:
    missing, more = expected.keys() - found.keys(), found.keys() - expected.keys()
    other = [id_ for id_ in found.keys() & expected.keys() if orjson.loads(found[id_]) != orjson.loads(expected[id_])]
    if missing or more or other:
        return f"{where}: {len(missing)} missing, {len(more)} more, {len(other)} other bodies, as {[*missing, *more, *other][:3]}"
    return ""


def _other_answer(name: str, rest: list[Any], first: list[Any]) -> str:
    """Say where the raw export, list and stats of a process first differ from those of the first."""
    (export, listed, stats), (first_export, first_listed, first_stats) = rest, first
    if export != first_export:
        return f"{name} exports otherwise than the first"
    if len(listed) != len(first_listed):
        return f"{name} lists {len(listed)} records, the first {len(first_listed)}"
    known = {record["id"]: record for record in first_listed}
    for record in listed:
        other = known.get(record["id"])
        if other is None:
            return f"{name} lists {record['id']}, recorded at {record['recorded_at']}, and the first does not"
        if fields := {
            field: (record[field], other.get(field)) for field in record if record[field] != other.get(field)
        }:
            return f"{name} lists {record['id']} otherwise than the first: {fields}"
    groups = {group: (stats[group], first_stats[group]) for group in stats if stats[group] != first_stats[group]}
    return f"{name} has other stats than the first: {str(groups)[:500]}"


def is_alive(pid: int) -> bool:
    with suppress(ProcessLookupError, FileNotFoundError):
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), what="it is gone")
