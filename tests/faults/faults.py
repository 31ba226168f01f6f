"""Faults for the tests and the soak.

Each function causes one under load, repairs it, and returns the proof.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import psycopg
from redis import Redis
from redis.exceptions import RedisError

from tests.faults.cluster import HOSTS, Cluster, is_alive, kill
from tests.faults.load import PATH, Load
from tests.processes import OwnRedis, children, wait_until

Fault: TypeAlias = Callable[[Cluster, Load], str]

STOP_S = 35
"""Seconds until a stopped process is gone: 30 s of grace, of which a request takes milliseconds."""


# --- Our own processes


def in_flight(cluster: Cluster, host: str | None = None) -> int:
    """Wait until rows are waiting, and return their number."""
    return wait_until(lambda: cluster.waiting(host), what="rows are under way")


def kill_web_processes(cluster: Cluster, load: Load) -> str:
    flying = []
    for _ in range(3):
        (worker,) = wait_until(lambda: children(cluster.webs["a1"].pid))
        flying.append(in_flight(cluster, "a"))
        kill(worker)
        load.more(150)
        # The server ends if a worker dies within 5.5 s of its own start as a replacement.
        load.during(7)
    return f"3 workers of a web server gone, {min(flying)}+ rows under way"


def kill_all_web_processes(cluster: Cluster, load: Load) -> str:
    flying = in_flight(cluster)
    pids = [pid for web in cluster.webs.values() for pid in (web.pid, *children(web.pid))]
    for web in cluster.webs.values():
        os.killpg(web.pid, signal.SIGKILL)
    for web in cluster.webs.values():
        web.wait()
    wait_until(lambda: not any(map(is_alive, pids)), what="they are gone")
    for name in HOSTS:
        cluster.start_web(name)
    load.more(300)
    return f"{len(pids)} processes gone, {flying} rows under way"


def kill_worker_in_a_batch(cluster: Cluster, load: Load) -> str:
    flying = 0
    for _ in range(3):
        with cluster.tenant_locked():
            waiting = wait_until(cluster.workers_waiting, what="a worker is in its transaction")
            flying = in_flight(cluster)
            cluster.worker.kill()
        cluster.start_worker()
        load.more(100)
    return f"3 workers gone, {waiting} inside a transaction, {flying} rows under way"


def stop_web_and_worker(cluster: Cluster, load: Load) -> str:
    already_cut, already_unread = len(load.cut), len(load.unread)
    for name in ("a1", "b1", "a2"):
        web = cluster.webs[name]
        os.kill(web.pid, signal.SIGTERM)
        assert web.wait(STOP_S) == 0
        cluster.start_web(name)
        flying = in_flight(cluster)
        os.kill(cluster.worker.pid, signal.SIGTERM)
        assert cluster.worker.wait(STOP_S) == 0
        cluster.start_worker()
        load.more(100)
    cut = load.cut[already_cut:]
    assert not cut, cut
    unread = len(load.unread) - already_unread
    return (
        f"3 web servers and 3 workers exited with 0, {flying} rows under way, {len(cut)} requests cut, "
        f"{unread} met a connection that was closing"
    )


# --- Redis: tier, change feed and broker at once


def told(client: Redis, section: str, name: str) -> Any:
    info: Any = client.info(section)
    return info[name]


def size(client: Redis) -> int:
    return client.dbsize()


def wipe_redis(cluster: Cluster, load: Load) -> str:
    redis = cluster.site.redis
    lost = 0
    for _ in range(2):
        with redis.client() as client:
            before = told(client, "server", "run_id")
            keys = wait_until(lambda: size(client) > 100 and size(client), 60, "a worker has filled it")
        with cluster.tenant_locked():
            # Some records are only in the feed and in their outbox.
            lost = wait_until(lambda: len(cluster.waiting_ids("a") & cluster.in_redis().keys()))
            redis.kill()
        load.more(150)
        redis.wipe()
        redis.start()
        with redis.client() as client:
            assert told(client, "server", "run_id") != before
        load.more(150)
    return f"2 other run ids, {keys} keys gone, {lost} of them not archived yet"


def stop_redis(cluster: Cluster, load: Load, *, outage_s: float) -> str:
    redis = cluster.site.redis
    with redis.client() as client:
        before = told(client, "server", "run_id")
    redis.stop()
    load.during(outage_s)
    waiting = cluster.waiting()
    assert waiting
    redis.start()
    with redis.client() as client:
        assert told(client, "server", "run_id") != before
    return f"{outage_s:g} s away, another run id, {waiting} rows waited"


def hang_redis(cluster: Cluster, load: Load) -> str:
    """A client waits for a timeout, which is worse than a refusal."""
    pid = cluster.site.redis.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        load.during(10)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        assert state == "T"
        waiting = cluster.waiting()
    finally:
        os.kill(pid, signal.SIGCONT)
    return f"stopped in the middle (state {state}) for 10 s, {waiting} rows waited"


def fill_redis(cluster: Cluster, load: Load) -> str:
    with cluster.site.redis.client() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1mb")
        refused = ""
        try:
            client.set("one more", "x")
        except RedisError as error:
            refused = str(error)
        assert "OOM" in refused.upper() or "maxmemory" in refused
        load.more(300)
        waiting = wait_until(cluster.waiting, what="rows wait for it")
        client.config_set("maxmemory", "0")
    return f"refused with “{refused[:40]}…”, {waiting} rows waited"


def fail_redis_over(cluster: Cluster, load: Load) -> str:
    """To a replica that lacks the last writes."""
    redis = cluster.site.redis
    replica = OwnRedis(cluster.site.data_dir / "replica")
    replica.wipe()
    try:
        with replica.client() as client, redis.client() as master:
            replica.follow(redis)
            wait_until(lambda: told(client, "replication", "master_link_status") == "up")
            wait_until(lambda: told(client, "replication", "master_sync_in_progress") == 0)
            before = told(master, "replication", "master_replid")
            # It receives nothing more, while the master goes on.
            client.replicaof("NO", "ONE")
            load.more(200)
            ahead = cluster.in_redis().keys()
            redis.kill()
            # Its address moves: a new server on the old port copies its data, and then becomes a
            # master.
            redis.wipe()
            redis.start()
            redis.follow(replica)
            with redis.client() as heir:
                wait_until(lambda: told(heir, "replication", "master_link_status") == "up")
                behind = ahead - cluster.in_redis().keys()
                heir.replicaof("NO", "ONE")
                assert told(heir, "replication", "master_replid") != before
        assert behind
        return f"another replication id, {len(behind)} records lacking"
    finally:
        replica.stop()


# --- The archive


def stop_archive(cluster: Cluster, load: Load, *, outage_s: float) -> str:
    pid = cluster.postgres_pid
    cluster.stop_postgres()
    assert not is_alive(pid)
    load.during(outage_s)
    waiting = cluster.waiting()
    assert waiting
    cluster.start_postgres()
    return f"{outage_s:g} s away, its process gone, {waiting} rows waited"


def kill_archive(cluster: Cluster, load: Load) -> str:
    waiting = 0
    for _ in range(3):
        with suppress(psycopg.OperationalError), cluster.tenant_locked():
            waiting = in_flight(cluster)
            kill(cluster.postgres_pid)
        cluster.stop_postgres()
        cluster.start_postgres()
        load.more(150)
    return f"3 servers gone, {waiting} rows under way"


def make_archive_read_only(cluster: Cluster, load: Load) -> str:
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'site' AND pid <> pg_backend_pid()"
    cluster.execute("ALTER DATABASE site SET default_transaction_read_only = on")
    cluster.query(others)
    refused, already_told = "", cluster.worker.output.count("read-only transaction")
    try:
        cluster.execute("UPDATE trajectories_tenant SET name = name")
    except psycopg.errors.ReadOnlySqlTransaction as error:
        refused = str(error)
    assert refused
    load.more(300)
    waiting = wait_until(cluster.waiting, what="rows wait for it")
    wait_until(
        lambda: cluster.worker.output.count("read-only transaction") > already_told, what="the worker was refused"
    )
    with psycopg.connect(cluster.database_url, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute("ALTER DATABASE site RESET default_transaction_read_only")
    cluster.query(others)
    return f"“{refused}”, {waiting} rows waited"


def make_deadlocks(cluster: Cluster, load: Load) -> str:
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = 'site'"
    blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'UPDATE%trajectory%'"
    before, already_told = cluster.value(deadlocks), cluster.worker.output.count("deadlock detected")

    def try_once() -> bool:
        with psycopg.connect(cluster.database_url) as holder:
            # The worker must detect the deadlock first, after a second, so that its transaction is
            # the one cancelled.
            holder.execute("SET deadlock_timeout = '30s'")
            holder.execute("SELECT 1 FROM trajectories_trajectory FOR UPDATE")
            wait_until(lambda: cluster.value(blocked), what="a worker has the tenant and waits for a trajectory")
            holder.execute("UPDATE trajectories_tenant SET name = name")
            holder.rollback()
        return cluster.worker.output.count("deadlock detected") > already_told

    wait_until(try_once, 60, "a worker was the victim of a deadlock")
    wait_until(lambda: cluster.value(deadlocks) > before, what="the server has counted it")
    return f"{cluster.value(deadlocks) - before} deadlocks counted, a worker's transaction given up"


class Poison:
    """A database constraint behind our validation that records of one project violate."""

    _TABLE = "ALTER TABLE trajectories_trajectory"
    _QUARANTINED = "SELECT count(*) FROM trajectories_quarantined"

    def __init__(self) -> None:
        self._share, self._times = 0.0, 0

    def extra(self, chance: Any) -> dict[str, Any]:
        """Return the extra fields of the records of the load."""
        return {"project": self._project} if chance.random() < self._share else {}

    @staticmethod
    def may_go(record: dict[str, Any]) -> bool:
        """A refused record leaves the list: it is in quarantine."""
        return str(record.get("project")).startswith("odd")

    @property
    def _project(self) -> str:
        return f"odd{self._times}"

    def make(self, cluster: Cluster, load: Load) -> str:
        self._times += 1  # those of an earlier time have been replayed, and may be revised
        cluster.execute(f"{self._TABLE} ADD CONSTRAINT refusal CHECK (project <> '{self._project}')")
        self._share = 0.1
        wait_until(lambda: cluster.value(self._QUARANTINED) >= 20, 60, "quarantine")
        self._share = 0.0
        load.pause()
        wait_until(lambda: not cluster.waiting(), 300, "everything is decided")
        refused = {row[0] for row in cluster.query("SELECT trajectory_id FROM trajectories_quarantined")}
        self._expect_gone(cluster, refused)
        cluster.execute(f"{self._TABLE} DROP CONSTRAINT refusal")
        said = cluster.site.manage("replay_quarantine")
        assert said.endswith(" replayed, 0 still refused.\n")
        assert cluster.value(self._QUARANTINED) == 0
        load.resume()
        return f"{len(refused)} refused and quarantined, {said.strip()}"

    @staticmethod
    def _expect_gone(cluster: Cluster, refused: set[Any]) -> None:
        assert not refused & cluster.in_redis().keys()
        for web in cluster.webs.values():
            listed = web.http.get(PATH, params={"limit": 1000}).json()["data"]
            assert not refused & {record["id"] for record in listed}
