"""Faults of the archive, a Postgres of the test's own, and of the outbox's disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.faults import faults
from tests.faults.cluster import OUTAGE_S, Cluster
from tests.faults.faults import Poison
from tests.faults.load import PATH, Load
from tests.processes import wait_until

pytestmark = pytest.mark.faults

Judge = Callable[..., None]
MEBIBYTE = 1024**2


def test_the_archive_is_stopped_for_a_minute(cluster: Cluster, judge: Judge) -> None:
    fault = partial(faults.stop_archive, outage_s=OUTAGE_S)
    judge("archive stopped for a minute", cluster, fault, pause_s=0.1, has_outcomes=True)


@pytest.mark.smoke
def test_the_archive_is_killed_and_restarted(cluster: Cluster, judge: Judge) -> None:
    judge("archive killed and restarted", cluster, faults.kill_archive, has_outcomes=True)


def test_the_archive_is_read_only(cluster: Cluster, judge: Judge) -> None:
    judge("archive read-only", cluster, faults.make_archive_read_only, has_outcomes=True)


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
    judge("archive: deadlock", cluster, faults.make_deadlocks, has_outcomes=True)


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
    poison = Poison()
    judge("archive refuses a record", cluster, poison.make, extra=poison.extra, may_go=poison.may_go)
