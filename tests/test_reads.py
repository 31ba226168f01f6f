"""List, retrieve and stats: one answer, whichever tiers it comes out of."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

import trajectories.tiers.outbox
from tests.tiers import reference
from tests.tiers.hosts import SECOND_US, Clock, WebProcess, new_id
from tests.tiers.reference import Reference
from trajectories.query import parse_query
from trajectories.tiers.mirror import mirror

SIZES = (3, 10, 10_000)

properties = settings(
    max_examples=int(__import__("os").environ.get("EX", "40")),
    deadline=None,
    database=None,
    # Fixtures of one test serve all its examples: each takes a tenant of its own.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Of the outbox: goes on by a second a look, from a day ago, so that nothing expires and no two records are alike."""
    clock = Clock((int(time.time()) - 86_400) * SECOND_US)
    monkeypatch.setattr(trajectories.tiers.outbox, "now_us", clock)
    return clock


class World:
    """A host with processes whose hot caches are of several sizes, another host, and what all of them should say."""

    def __init__(self, path: Path, tenant: str, *, has_redis: bool) -> None:
        self.tenant = tenant
        self.has_redis = has_redis
        quick: dict[str, Any] = {"feed_poll_s": 0.0, "archive_retry_s": 0.0}
        self.processes = {size: WebProcess(path / "outbox", hot_max_records=size, **quick) for size in SIZES}
        self.largest = self.processes[max(SIZES)]
        self.other = WebProcess(path / "other", **quick)
        self.reference = Reference()

    def post(self, id_: UUID, fields: dict[str, Any]) -> None:
        if not self.has_redis:
            self.restart()  # nobody tells it of other hosts, so what they did is known after a fill alone
        self.largest.list(tenant=self.tenant, limit=1)
        self.reference.accept(self.largest.record(self.tenant, **fields | {"id": str(id_)}))

    def repeat(self, id_: UUID) -> None:
        if known := self.reference.standing().get(id_):
            self.post(id_, orjson.loads(known.body))

    def post_elsewhere(self, id_: UUID, fields: dict[str, Any]) -> None:
        """The other host has never heard of this one's records, and its worker is quick."""
        self.other.record(self.tenant, **fields | {"id": str(id_)})
        self.persist(self.other, list(range(len(self.other.waiting()))))

    def persist(self, process: WebProcess, places: list[int]) -> None:
        """Of the rows that wait those at ``places``, in that order."""
        waiting = [row for row in process.waiting() if row.record.tenant == self.tenant]
        rows = [waiting[place % len(waiting)] for place in places if waiting]
        if not rows:
            return
        if self.has_redis:
            process.persist(rows)
        else:
            mirror([row.record for row in rows])
            process.settle(rows)
        self.reference.archive([row.record for row in rows])

    def restart(self) -> None:
        for process in self.processes.values():
            process.restart()

    def check(self, given: dict[str, str], limit: int) -> None:
        """Every process says what the reference says, byte for byte."""
        query = parse_query(given)
        expected = self.reference.listed(given), orjson.dumps(self.reference.stats(given))
        totals = self.reference.totals(given)
        if not self.has_redis:
            self.restart()
        for size, process in self.processes.items():
            assert process.listed(query, tenant=self.tenant, limit=limit) == expected[0], size
            stats = process.stats(query, tenant=self.tenant)
            assert orjson.dumps(stats) == expected[1], size
            assert stats["count"] == totals["count"]
            for name in ("cost_usd", "duration_ms", "input_tokens"):
                total = stats[name]["sum"]
                assert (None if total is None else float(total)) == totals[name]

    def recorded(self) -> list[int]:
        return sorted({version.recorded_at_us for version in self.reference.standing().values()})


STEPS = ("post", "post", "post", "repeat", "elsewhere", "persist", "persist", "persist", "check", "restart")
IDS = [UUID(int=number) for number in range(1, 9)]


def live(world: World, data: st.DataObject) -> None:
    """A life of the world, as Hypothesis draws it, checked on the way and at the end."""
    for step in data.draw(st.lists(st.sampled_from(STEPS), min_size=6, max_size=30), label="steps"):
        if step in ("post", "elsewhere"):
            id_ = data.draw(st.sampled_from(IDS) | st.uuids(version=4))
            fields = data.draw(reference.bodies)
            (world.post if step == "post" else world.post_elsewhere)(id_, fields)
        elif step == "repeat":
            world.repeat(data.draw(st.sampled_from(IDS)))
        elif step == "persist":
            world.persist(world.largest, data.draw(st.lists(st.integers(0, 20), max_size=8), label="places"))
        elif step == "restart":
            world.restart()
        else:
            world.check(data.draw(reference.queries(world.recorded()), label="query"), data.draw(st.integers(1, 5)))
    for persisted in (False, True):
        if persisted:
            world.persist(world.largest, list(range(len(world.largest.waiting()))))
        world.check({}, data.draw(st.integers(1, 5)))
        for _ in range(3):
            world.check(data.draw(reference.queries(world.recorded()), label="query"), data.draw(st.integers(1, 5)))


@pytest.fixture
def tenants() -> Iterator[str]:
    """A new one for each example: what earlier ones left in the archive is not theirs."""
    return (f"tenant-{new_id().hex}" for _ in iter(int, 1))


@properties
@given(data=st.data())
def test_list_and_stats_are_the_same_bytes_from_hot_caches_of_every_size_and_the_archive(
    data: st.DataObject, archive_db: str, clock: Clock, tmp_path: Path, tenants: Iterator[str]
) -> None:
    tenant = next(tenants)
    live(World(tmp_path / tenant, tenant, has_redis=False), data)


@properties
@given(data=st.data())
def test_list_and_stats_are_the_same_bytes_in_processes_that_follow_outbox_and_feed(
    data: st.DataObject, archive_db: str, clock: Clock, tmp_path: Path, tenants: Iterator[str], redis_tier: Redis
) -> None:
    tenant = next(tenants)
    live(World(tmp_path / tenant, tenant, has_redis=True), data)
