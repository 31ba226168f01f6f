"""Faults of our own processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import faults
from tests.faults.cluster import HOSTS, Cluster, is_alive
from tests.faults.load import Load
from tests.processes import wait_until

pytestmark = pytest.mark.faults

Judge = Callable[..., None]


def test_a_web_process_is_killed(cluster: Cluster, judge: Judge) -> None:
    judge("kill -9 of a web process", cluster, faults.kill_web_processes, has_outcomes=True)


def test_all_web_processes_are_killed(cluster: Cluster, judge: Judge) -> None:
    judge("kill -9 of all web processes", cluster, faults.kill_all_web_processes, has_outcomes=True)


@pytest.mark.smoke
def test_the_worker_is_killed_in_the_middle_of_a_batch(cluster: Cluster, judge: Judge) -> None:
    judge("kill -9 of the worker in a batch", cluster, faults.kill_worker_in_a_batch, has_outcomes=True)


def test_sigterm_of_web_and_worker_cuts_no_request_and_loses_no_task(cluster: Cluster, judge: Judge) -> None:
    judge("SIGTERM of web and worker", cluster, faults.stop_web_and_worker, has_outcomes=True)


def test_the_relay_is_killed_between_sent_and_confirmed(make_cluster: Callable[..., Cluster], judge: Judge) -> None:
    cluster = make_cluster()
    cluster.web_environment = {name: {"TRAJECTORIES_RELAY_IN_PROCESS": "false"} for name in HOSTS}
    cluster.start()
    relays = {host: cluster.relay(host) for host in "ab"}

    def fault(cluster: Cluster, load: Load) -> str:
        sent = 0
        for _ in range(3):
            with cluster.tenant_locked():
                # Redis has them, so they were sent; the archive does not, so they are not
                # confirmed.
                sent = wait_until(lambda: len(cluster.waiting_ids("a") & cluster.in_redis().keys()))
                relays["a"].kill()
                assert not is_alive(relays["a"].pid)
                load.more(50)
            relays["a"] = cluster.relay("a")
            load.more(100)
        return f"3 relays gone, {sent} rows sent and not confirmed"

    judge("kill -9 of the relay", cluster, fault)


def test_after_a_long_worker_outage_the_queue_is_short_and_the_outbox_shrinks(
    make_cluster: Callable[..., Cluster], judge: Judge
) -> None:
    cluster = make_cluster(TRAJECTORIES_OUTBOX_KEEP_CONFIRMED_S="1", TRAJECTORIES_RELAY_IN_PROCESS="false").start()
    relay, _ = cluster.relay("a"), cluster.relay("b")

    def fault(cluster: Cluster, load: Load) -> str:
        cluster.worker.stop()
        load.more(1_000)
        before = resident_mib(relay.pid)
        load.more(5_000)
        queued, grown = cluster.queued(), resident_mib(relay.pid) - before
        waiting, size = cluster.waiting(), cluster.outbox("a").stat().st_size
        assert waiting > 4_000
        assert 0 < queued <= 2 * 24, "of two hosts sixteen messages, and eight batches that are under way"
        assert grown < 16, "MiB; the backlog is on the disk"
        load.pause()
        cluster.start_worker()
        wait_until(lambda: not cluster.waiting(), 120, "everything is archived")
        wait_until(lambda: cluster.outbox("a").stat().st_size < size / 4, 120, "the file is small again")
        small = cluster.outbox("a").stat().st_size
        load.resume()
        return (
            f"{waiting} rows waited, {queued} messages; outbox {size >> 10} → {small >> 10} KiB, relay +{grown:.0f} MiB"
        )

    judge("worker stopped for long", cluster, fault, pause_s=0.01)


def resident_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))
