"""Faults of the archive, a Postgres of the test's own, and of the outbox's disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.faults.cluster import OUTAGE_S, Cluster, is_alive, kill
from tests.faults.load import PATH, Load
from tests.processes import wait_until

pytestmark = pytest.mark.faults

Judge = Callable[..., None]
MEBIBYTE = 1024**2


def test_the_archive_is_stopped_for_a_minute(cluster: Cluster, judge: Judge) -> None:
    def fault(cluster: Cluster, load: Load) -> str:
        pid = cluster.postgres_pid
        cluster.stop_postgres()
        assert not is_alive(pid)
        load.during(OUTAGE_S)
        waiting = cluster.waiting()
        assert waiting
        cluster.start_postgres()
        return f"{OUTAGE_S:g} s away, pid {'gone'}, {waiting} rows waited"

    judge("archive stopped for a minute", cluster, fault, pause_s=0.1)


def test_the_archive_is_killed_and_restarted(cluster: Cluster, judge: Judge) -> None:
    def fault(cluster: Cluster, load: Load) -> str:
        waiting = 0
        for _ in range(3):
            with suppress(psycopg.OperationalError), cluster.tenant_locked():
                waiting = wait_until(cluster.waiting, what="rows are under way")
                kill(cluster.postgres_pid)
            cluster.stop_postgres()
            cluster.start_postgres()
            load.more(150)
        return f"3 servers gone, {waiting} rows under way"

    judge("archive killed and restarted", cluster, fault)


def test_the_archive_is_read_only(cluster: Cluster, judge: Judge) -> None:
    def fault(cluster: Cluster, load: Load) -> str:
        others = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'site' AND pid <> pg_backend_pid()"
        )
        cluster.execute("ALTER DATABASE site SET default_transaction_read_only = on")
        cluster.query(others)
        refused = ""
        try:
            cluster.execute("UPDATE trajectories_tenant SET name = name")
        except psycopg.errors.ReadOnlySqlTransaction as error:
            refused = str(error)
        assert refused
        load.more(300)
        waiting = wait_until(cluster.waiting, what="rows wait for it")
        wait_until(lambda: "read-only transaction" in cluster.worker.output, what="the worker was refused")
        with psycopg.connect(cluster.database_url, autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute("ALTER DATABASE site RESET default_transaction_read_only")
        cluster.query(others)
        return f"“{refused}”, {waiting} rows waited"

    judge("archive read-only", cluster, fault)


def test_statements_take_longer_than_they_may(make_cluster: Callable[..., Cluster], judge: Judge) -> None:
    cluster = make_cluster().start(worker=False)
    cluster.start_worker(DATABASE_STATEMENT_TIMEOUT_MS="500")
    text = "canceling statement due to statement timeout"

    def fault(cluster: Cluster, load: Load) -> str:
        with cluster.tenant_locked():
            wait_until(lambda: cluster.worker.output.count(text) >= 3, 60, "statements are cancelled")
            waiting = cluster.waiting()
        assert waiting
        return f"{cluster.worker.output.count(text)} statements cancelled, {waiting} rows waited"

    judge("archive: statement timeout", cluster, fault)


def test_a_deadlock(cluster: Cluster, judge: Judge) -> None:
    def fault(cluster: Cluster, load: Load) -> str:
        deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = 'site'"
        before = cluster.value(deadlocks)
        blocked = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'UPDATE%trajectory%'"
        )

        def try_once() -> bool:
            with psycopg.connect(cluster.database_url) as holder:
                # We are not to be the one who is given up: a worker finds it first, after its second of waiting.
                holder.execute("SET deadlock_timeout = '30s'")
                holder.execute("SELECT 1 FROM trajectories_trajectory FOR UPDATE")
                wait_until(lambda: cluster.value(blocked), what="a worker has the tenant and waits for a trajectory")
                holder.execute("UPDATE trajectories_tenant SET name = name")
                holder.rollback()
            return "deadlock detected" in cluster.worker.output

        wait_until(try_once, 60, "a worker was the victim of a deadlock")
        wait_until(lambda: cluster.value(deadlocks) > before, what="the server has counted it")
        return f"{cluster.value(deadlocks) - before} deadlocks counted, a worker's transaction given up"

    judge("archive: deadlock", cluster, fault)


def test_the_disk_of_the_outbox_is_full(make_cluster: Callable[..., Cluster], judge: Judge, small_disk: Path) -> None:
    cluster = make_cluster(TRAJECTORIES_OUTBOX_DISK_RESERVE_BYTES=str(6 * MEBIBYTE))
    cluster.outboxes["a"] = small_disk / "outbox.sqlite3"
    cluster.start()

    def fault(cluster: Cluster, load: Load) -> str:
        cluster.worker.stop()
        wait_until(lambda: refusals(load) > 20, 120, "its own rows have filled it")
        assert cluster.webs["a1"].http.get(PATH, params={"limit": 1}).is_success
        free = shutil.disk_usage(small_disk).free
        cluster.start_worker()
        before, done = refusals(load), load.ledger.acknowledged
        load.urls[:] = cluster.urls("a1", "a2")  # so that only the full one can take more
        load.until(done + 300)

        ballast = small_disk / "ballast"
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4_096))
        wait_until(lambda: refusals(load) > before + 20, 60, "others have filled it")
        assert cluster.webs["a1"].http.get(PATH, params={"limit": 1}).is_success
        ballast.unlink()
        load.urls[:] = cluster.urls()
        return f"{refusals(load)} answers 503 with Retry-After, {free >> 10} KiB left by its own rows, 0 by others"

    judge("outbox: disk full", cluster, fault, pause_s=0.005, extra=bulky)


def test_the_outbox_is_at_its_size_limit(make_cluster: Callable[..., Cluster], judge: Judge) -> None:
    cluster = make_cluster(TRAJECTORIES_OUTBOX_MAX_BYTES=str(4 * MEBIBYTE)).start()

    def fault(cluster: Cluster, load: Load) -> str:
        cluster.worker.stop()
        wait_until(lambda: refusals(load) > 20, 120, "it is full")
        assert cluster.webs["b1"].http.get(PATH, params={"limit": 1}).is_success
        waiting = cluster.waiting()
        cluster.start_worker()
        load.more(300)
        return f"{refusals(load)} answers 503 with Retry-After, {waiting} rows waited"

    judge("outbox: size limit", cluster, fault, pause_s=0.005, extra=bulky)


def bulky(chance: Any) -> dict[str, Any]:
    return {"error": "x" * 4_000}


def refusals(load: Load) -> int:
    assert all(status == 503 and int(after or 0) > 0 for status, after in load.refused), load.refused[-3:]
    return len(load.refused)


def test_a_record_that_the_archive_refuses(cluster: Cluster, judge: Judge) -> None:
    """A constraint of the database, past all our validation, that a project of these records hurts."""
    table = "ALTER TABLE trajectories_trajectory"
    poison, share = 20, [0.0]

    def odd(chance: Any) -> dict[str, Any]:
        return {"project": "odd"} if chance.random() < share[-1] else {}

    def fault(cluster: Cluster, load: Load) -> str:
        cluster.execute(f"{table} ADD CONSTRAINT refusal CHECK (project <> 'odd')")
        share.append(0.1)
        wait_until(lambda: cluster.value("SELECT count(*) FROM trajectories_quarantined") >= poison, 60, "quarantine")
        load.pause()
        wait_until(lambda: not cluster.waiting(), 60, "everything is decided")
        refused = {row[0] for row in cluster.query("SELECT trajectory_id FROM trajectories_quarantined")}
        assert not refused & cluster.in_redis().keys()
        for web in cluster.webs.values():
            listed = web.http.get(PATH, params={"limit": 1000}).json()["data"]
            assert not refused & {record["id"] for record in listed}
        cluster.execute(f"{table} DROP CONSTRAINT refusal")
        said = cluster.site.manage("replay_quarantine")
        assert said.endswith(" replayed, 0 still refused.\n")
        assert cluster.value("SELECT count(*) FROM trajectories_quarantined") == 0
        load.resume()
        return f"{len(refused)} refused and quarantined, {said.strip()}"

    # What is refused leaves the list; that is what quarantine is for.
    judge("archive refuses a record", cluster, fault, extra=odd, may_go=lambda record: record.get("project") == "odd")
