"""The first read of a tenant: from the newest records, whole all the same; the rest comes later."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest
from redis import Redis

from tests.processes import wait_until
from tests.storage.away import archive_away
from tests.storage.hosts import QUICK, TENANT, WebProcess
from trajectories import persistence, test_environment
from trajectories.domain.record import Record
from trajectories.storage import hot_cache, hot_fill, hot_growth
from trajectories.storage.hot_growth import HotGrowth
from trajectories.storage.outbox import Outbox
from trajectories.storage.outbox_rows import Row
from trajectories.storage.store import get_store

pytestmark = pytest.mark.usefixtures("archive_db", "redis_tier", "few")

Host = Callable[[str], WebProcess]


@pytest.fixture
def few(redis_tier: Redis, archive_db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first fill of two records, and three changes that a cache follows; Redis is trusted."""
    monkeypatch.setattr(hot_fill, "FIRST_FILL", 2)
    monkeypatch.setattr(hot_cache, "_FOLLOW_MAX", 3)
    persistence.rebuild(get_store())


@pytest.fixture
def process(tmp_path: Path) -> Host:
    """Return a function that starts a process of a host."""
    return lambda host: WebProcess(tmp_path / host, **QUICK)


def newest_first(records: list[Record]) -> list[UUID]:
    return [record.id for record in reversed(records)]


def held(of: WebProcess) -> int:
    return len(of.hot.snapshot(TENANT).held)


def test_the_first_read_holds_the_newest_and_finds_all(process: Host) -> None:
    writer = process("own")
    records = [writer.record() for _ in range(6)]
    writer.persist()
    reader = process("other")
    assert reader.ids() == newest_first(records)
    assert reader.stats()["count"] == 6
    assert (held(reader), reader.hot.snapshot(TENANT).is_complete) == (2, True)
    reader.hot.grow(TENANT)
    assert held(reader) == 6
    assert reader.hot.snapshot(TENANT).floor is None
    more = writer.record()
    writer.persist()
    assert reader.ids() == newest_first([*records, more])


def test_a_whole_cache_does_not_grow_again(process: Host) -> None:
    writer = process("own")
    writer.record()
    writer.persist()
    reader = process("other")
    reader.list()
    before = reader.hot._caches[TENANT]
    reader.hot.grow(TENANT)
    assert reader.hot._caches[TENANT] is before


def test_records_that_the_archive_does_not_have_yet_are_above_the_floor(process: Host) -> None:
    writer = process("own")
    records = [writer.record() for _ in range(6)]
    late, *others = writer.waiting()
    writer.persist(others)
    tier = writer.store.redis_tier
    batch = tier.open_batch([(TENANT, late.record.id)])
    tier.merge([late.record], from_authority=False)
    reader = process("other")
    assert reader.ids() == newest_first(records)
    tier.close_batch(batch)


def test_without_the_archive_the_first_read_holds_all_that_redis_has(process: Host) -> None:
    writer = process("own")
    records = [writer.record() for _ in range(6)]
    writer.persist()
    reader = process("other")
    reader.store.verify()
    with archive_away():
        assert [record.id for record in reader.list().records] == newest_first(records)
        assert held(reader) == 6


def test_a_process_without_caches_reads_none_of_the_rows_of_its_neighbour(
    process: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = process("own"), process("own")
    records = [writer.record() for _ in range(8)]
    writer.persist()
    read: list[int] = []
    rows_after = reader.outbox.rows_after

    def reading(self: Outbox, n: int, limit: int) -> list[Row]:
        read.append(n)
        return rows_after(n, limit)

    monkeypatch.setattr(Outbox, "rows_after", reading)
    assert reader.ids() == newest_first(records)
    assert min(read) == reader.outbox.last_n()


@pytest.mark.parametrize("neighbour", ["own", "other"])
def test_a_cache_that_is_far_behind_is_refilled(process: Host, neighbour: str) -> None:
    reader, writer = process("own"), process(neighbour)
    records = [writer.record() for _ in range(3)]
    writer.persist()
    assert reader.ids() == newest_first(records)
    reader.hot.grow(TENANT)
    before = reader.hot._caches[TENANT]
    records += [writer.record() for _ in range(3)]
    writer.persist()
    assert reader.ids() == newest_first(records)
    after = reader.hot._caches[TENANT]
    if neighbour == "other":
        assert after is before, "three changes are followed"
    records += [writer.record() for _ in range(8)]
    writer.persist()
    assert reader.ids() == newest_first(records)
    assert reader.hot._caches[TENANT] is not after
    assert held(reader) == 2
    assert reader.hot.snapshot(TENANT).is_complete


def test_rows_that_wait_are_found_after_a_cache_was_dropped(process: Host) -> None:
    reader, writer = process("own"), process("own")
    records = [writer.record()]
    writer.persist()
    reader.list()
    records += [writer.record() for _ in range(8)]
    assert reader.ids() == newest_first(records)
    assert reader.stats()["count"] == 9


# The thread.


def test_requests_are_filled_one_after_the_other_by_a_thread_that_then_ends(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hot_growth, "DELAY_S", 0)
    monkeypatch.setattr(test_environment, "is_active", lambda: False)
    threads: dict[str, threading.Thread] = {}
    is_done = threading.Event()

    def fill(tenant: str) -> None:
        threads[tenant] = threading.current_thread()
        if tenant == "alice":
            growth.request("bob")
            raise RuntimeError("out of memory")
        is_done.set()

    growth = HotGrowth(fill)
    with caplog.at_level(logging.ERROR):
        growth.request("alice")
        wait_until(is_done.is_set)
        wait_until(lambda: not threads["alice"].is_alive())
    assert threads["alice"] is threads["bob"] is not threading.current_thread()
    assert "tenant alice keeps its newest records only" in caplog.text
    is_done.clear()
    growth.request("carol")
    wait_until(is_done.is_set, what="a request after the end of the thread starts another")


def test_tests_see_no_thread() -> None:
    filled: list[str] = []
    HotGrowth(filled.append).request("alice")
    assert not [thread for thread in threading.enumerate() if thread.name == "trajectories-hot-growth"]
    assert filled == []
