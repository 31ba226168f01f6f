"""Clocks that are wrong."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest

from tests.examples import REFERENCE
from tests.faults.cluster import HOSTS, Cluster
from tests.faults.load import PATH, Load, canonical
from tests.processes import PROJECT, wait_until

pytestmark = pytest.mark.faults

Judge = Callable[..., None]
HOUR_S = 3_600


class Clock:
    """A wrong clock for the Python processes of a host; the machine's own clock stays right."""

    def __init__(self, cluster: Cluster, host: str) -> None:
        self._file = cluster.site.data_dir / f"clock-{host}"
        self.set(0)
        wrong_clock = Path(__file__).with_name("wrong_clock")
        for name in [name for name, its in HOSTS.items() if its == host]:
            cluster.web_environment[name] |= {
                "PYTHONPATH": os.pathsep.join(map(str, (wrong_clock, PROJECT))),
                "CLOCK_FILE": str(self._file),
            }

    def set(self, wrong_by_s: int) -> None:
        self.wrong_by_s = wrong_by_s
        fresh = self._file.with_suffix(".new")
        fresh.write_text(str(wrong_by_s))
        fresh.replace(self._file)

    def now_us(self) -> int:
        return time.time_ns() // 1_000 + self.wrong_by_s * 1_000_000


@pytest.mark.smoke
def test_the_clock_of_a_host_is_set_back_and_on_by_an_hour(make_cluster: Callable[..., Cluster], judge: Judge) -> None:
    """The version that the host accepted later wins, whatever its clock said."""
    cluster = make_cluster()
    clock = Clock(cluster, "a")
    cluster.start()

    def fault(cluster: Cluster, load: Load) -> str:
        clock.set(-HOUR_S)
        load.more(300)
        ahead_s = (last_stamp(cluster, "a") - clock.now_us()) / 1_000_000
        assert ahead_s > HOUR_S - 600, "its clock has not been behind its stamps"
        clock.set(HOUR_S)
        load.more(300)
        assert last_stamp(cluster, "a") > time.time_ns() // 1_000 + (HOUR_S - 600) * 1_000_000
        clock.set(0)
        load.more(100)
        return f"last stamp {ahead_s:.0f} s ahead of a clock that was set back, then an hour fast, then right"

    judge("clock set back by an hour", cluster, fault, on=("a1", "a2"))


def test_the_clocks_of_two_hosts_are_an_hour_apart(make_cluster: Callable[..., Cluster], judge: Judge) -> None:
    """The higher stamp wins; a host that has seen the other's version stamps above it."""
    cluster = make_cluster()
    fast, slow = Clock(cluster, "a"), Clock(cluster, "b")
    fast.set(HOUR_S // 2)
    slow.set(-HOUR_S // 2)
    cluster.start()

    def fault(cluster: Cluster, load: Load) -> str:
        with cluster.load("b1", seed=1) as other:
            other.more(200)
        apart_s = (last_stamp(cluster, "a") - last_stamp(cluster, "b")) / 1_000_000
        assert apart_s > HOUR_S - 600
        revise(cluster, "a1", "b1", sees=True, stands=1)
        revise(cluster, "a1", "b1", sees=False, stands=0)
        revise(cluster, "b1", "a1", sees=False, stands=1)
        return f"stamps {apart_s:.0f} s apart; the slow host's version stands where it had seen the other, else the fast one's"

    # No one reads from the slow host, or it would have seen every version.
    judge("clocks an hour apart", cluster, fault, on=("a1", "a2"), observed="a1")


def revise(cluster: Cluster, first: str, then: str, *, sees: bool, stands: int) -> None:
    """Record an id in one process and revise it in another; put the version that must win into the
    ledger."""
    id_ = str(uuid4())
    bodies = [orjson.dumps(REFERENCE | {"id": id_, "request_summary": text}) for text in ("first", "then")]
    answers = [post(cluster, first, bodies[0])]
    if sees:
        wait_until(lambda: id_ in shown(cluster, then), what="the other host has seen it")
    answers.append(post(cluster, then, bodies[1]))
    newest = max(answers, key=lambda answer: str(answer["revision"]))
    assert newest["request_summary"] == orjson.loads(bodies[stands])["request_summary"]
    cluster.ledger.acknowledge([canonical(bodies[stands])])


def post(cluster: Cluster, name: str, body: bytes) -> dict[str, Any]:
    answer = cluster.webs[name].http.post(PATH, content=body, headers={"Content-Type": "application/json"})
    assert answer.is_success, answer.text
    stored: dict[str, Any] = answer.json()
    return stored


def shown(cluster: Cluster, name: str) -> set[str]:
    page = cluster.webs[name].http.get(PATH, params={"limit": 1000}).json()
    return {record["id"] for record in page["data"]}


def last_stamp(cluster: Cluster, host: str) -> int:
    return cluster.in_outbox(host, "SELECT value FROM numbers WHERE name = 'last_stamp'")
