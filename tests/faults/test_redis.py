"""Faults of Redis, which is tier, change feed and broker at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import RedisError

from tests.faults.cluster import OUTAGE_S, Cluster
from tests.faults.load import Load
from tests.processes import OwnRedis, wait_until

pytestmark = pytest.mark.faults

Judge = Callable[..., None]


def told(client: Redis, section: str, name: str) -> Any:
    info: Any = client.info(section)
    return info[name]


def size(client: Redis) -> int:
    return client.dbsize()


def test_redis_is_killed_without_saving_and_comes_back_empty(cluster: Cluster, judge: Judge) -> None:
    redis = cluster.site.redis

    def fault(cluster: Cluster, load: Load) -> str:
        lost = 0
        for _ in range(2):
            with redis.client() as client:
                before = told(client, "server", "run_id")
                keys = wait_until(lambda: size(client) > 100 and size(client), 60, "a worker has filled it")
            with cluster.tenant_locked():
                # Some are in the feed, and nowhere but there and in their outbox.
                lost = wait_until(lambda: len(cluster.waiting_ids("a") & cluster.in_redis().keys()))
                redis.kill()
            load.more(150)
            redis.wipe()
            redis.start()
            with redis.client() as client:
                assert told(client, "server", "run_id") != before
            load.more(150)
        return f"2 other run ids, {keys} keys gone, {lost} of them not archived yet"

    judge("Redis killed, back empty", cluster, fault)


def test_redis_is_stopped_for_a_minute(cluster: Cluster, judge: Judge) -> None:
    redis = cluster.site.redis

    def fault(cluster: Cluster, load: Load) -> str:
        with redis.client() as client:
            before = told(client, "server", "run_id")
        redis.stop()
        load.during(OUTAGE_S)
        waiting = cluster.waiting()
        assert waiting
        redis.start()
        with redis.client() as client:
            assert told(client, "server", "run_id") != before
        return f"{OUTAGE_S:g} s away, another run id, {waiting} rows waited"

    judge("Redis stopped for a minute", cluster, fault, pause_s=0.1)


def test_redis_hangs(cluster: Cluster, judge: Judge) -> None:
    """Whoever asks it waits for a timeout, which is worse than a refusal."""

    def fault(cluster: Cluster, load: Load) -> str:
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

    judge("Redis hangs", cluster, fault)


def test_redis_is_full_and_refuses_writes(cluster: Cluster, judge: Judge) -> None:
    def fault(cluster: Cluster, load: Load) -> str:
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
        if not cluster.worker.is_running:
            cluster.start_worker()  # what whoever runs it does
        return f"refused with “{refused[:40]}…”, {waiting} rows waited"

    judge("Redis at maxmemory", cluster, fault)


def test_redis_fails_over_to_a_replica_that_lacks_the_last_writes(
    cluster: Cluster, judge: Judge, tmp_path: Path
) -> None:
    redis = cluster.site.redis
    replica = OwnRedis(tmp_path / "replica")

    def fault(cluster: Cluster, load: Load) -> str:
        with replica.client() as client, redis.client() as master:
            replica.follow(redis)
            wait_until(lambda: told(client, "replication", "master_link_status") == "up")
            wait_until(lambda: told(client, "replication", "master_sync_in_progress") == 0)
            before = told(master, "replication", "master_replid")
            # It hears nothing more, while the master goes on.
            os.kill(replica.pid, signal.SIGSTOP)
            load.more(200)
            ahead = cluster.in_redis().keys()
            redis.kill()
            os.kill(replica.pid, signal.SIGCONT)
            with suppress(RedisError):
                client.replicaof("NO", "ONE")
            client.replicaof("NO", "ONE")
            # The address moves to it: a new server on the old port takes all that it has, and then stands alone.
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

    try:
        judge("Redis fails over", cluster, fault)
    finally:
        replica.stop()
