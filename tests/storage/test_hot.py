"""The hot cache: it holds the newest, knows from where on it misses nothing, and follows this host
and the others."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings
from redis import Redis

from tests.routing import ArchiveRouter
from tests.storage.away import archive_away
from tests.storage.hosts import QUICK, TENANT, WebProcess, draft, made, new_id, taken
from trajectories import persistence
from trajectories.domain import answers
from trajectories.domain.compression import decompress
from trajectories.domain.record import Record
from trajectories.exceptions import ArchiveUnavailable, NotFound
from trajectories.storage.archive_writes import mirror, quarantine
from trajectories.storage.hot_fill import FIRST_FILL
from trajectories.storage.store import Store, get_store


def ids(*records: Record) -> list[UUID]:
    """Newest first, as the list has them."""
    return [record.id for record in sorted(records, key=lambda record: record.position, reverse=True)]


# Bounds and the floor.


@pytest.mark.abuse  # records by the thousand
@pytest.mark.parametrize("is_cold", [False, True])
def test_it_holds_10_000_of_10_001_records_and_answers_for_all(
    archive_db: str, redis_tier: Redis, own: WebProcess, is_cold: bool
) -> None:
    persistence.rebuild(get_store())
    own.list()
    records = [
        one.row.record for one in taken(own.outbox.append([draft(new_id(), project="p") for _ in range(10_001)]))
    ]
    own.persist(own.waiting()[:100])
    if is_cold:
        own.restart()
    page = own.list(limit=1_000)
    assert own.hot.size[0] == FIRST_FILL
    own.hot.grow(TENANT)
    assert own.hot.size[0] == 10_000
    assert own.hot.snapshot(TENANT).floor == records[1].position
    for _ in range(10):
        assert page.next_position is not None
        page = own.list(after=page.next_position, limit=1_000)
    assert page.records == [records[0]]
    assert (page.next_position, page.is_complete) == (None, True)
    stats = own.stats()
    assert stats["count"] == stats["by_project"][0]["count"] == 10_001
    assert own.retrieve(records[0].id) == records[0]


def test_the_lowest_position_is_evicted_and_not_the_oldest_revision(archive_db: str, tmp_path: Path) -> None:
    small = WebProcess(tmp_path / "own", hot_max_records=2, **QUICK)
    first, second = small.record(), small.record()
    small.list()
    small.record(id=str(first.id), tags=["revised"])
    third = small.record()
    view = small.hot.snapshot(TENANT)
    assert [held.record.id for held in view.held] == [second.id, third.id]
    assert view.floor == second.position
    assert small.ids() == ids(first, second, third)


def test_a_list_ends_only_where_the_archive_confirmed_its_end(
    archive_db: str, tmp_path: Path, other_host: WebProcess
) -> None:
    records = [made(new_id(), stamp) for stamp in (1, 2, 3)]
    mirror(records)
    sizes = {size: WebProcess(tmp_path / "own", hot_max_records=size, **QUICK) for size in (2, 3, 4)}
    floors = {}
    for size, process in sizes.items():
        floors[size] = process.store.hot_cache.snapshot(TENANT).floor
    assert floors == {2: records[1].position, 3: None, 4: None}
    with archive_away():
        assert other_host.hot.snapshot(TENANT).is_filled is False


def test_its_bytes_are_bounded_and_the_least_recently_read_tenant_is_evicted(archive_db: str, tmp_path: Path) -> None:
    process = WebProcess(tmp_path / "own", hot_max_bytes=22_000, **QUICK)
    mirror([made(new_id(), stamp, tenant=tenant, error="x" * 1_000) for tenant in "abc" for stamp in range(10)])
    for tenant in ("a", "b", "a", "c"):
        assert process.stats(tenant=tenant)["count"] == 10
    assert process.hot.size[1] <= 22_000
    assert list(process.store.hot_cache._caches) == ["a", "c"]


def test_a_tenant_over_the_bound_keeps_its_newest_and_answers_for_all(archive_db: str, tmp_path: Path) -> None:
    process = WebProcess(tmp_path / "own", hot_max_bytes=18_000, web_processes=2, **QUICK)
    records = [made(new_id(), stamp, error="x" * 1_000) for stamp in range(1, 31)]
    mirror(records)
    assert process.ids() == ids(*records)
    held, size = process.hot.size
    assert 5 < held < 15
    assert size <= 9_000
    more = [process.record(error="x" * 1_000) for _ in range(3)]
    assert process.ids() == ids(*records, *more)
    assert process.stats()["count"] == 33
    assert process.hot.size[1] <= 9_000


def test_a_record_larger_than_the_whole_cache_is_answered_for_all_the_same(archive_db: str, tmp_path: Path) -> None:
    process = WebProcess(tmp_path / "own", hot_max_bytes=1, **QUICK)
    records = [process.record() for _ in range(3)]
    assert process.ids() == ids(*records)
    assert process.stats()["count"] == 3
    assert process.hot.size == (0, 0)


def test_a_tenant_that_is_dropped_while_it_is_read_is_answered_whole(archive_db: str, tmp_path: Path) -> None:
    """Two that do not fit beside each other, read at once: either may lose its place at any moment."""
    process = WebProcess(tmp_path / "own", hot_max_bytes=7_000, **QUICK)
    mirror([made(new_id(), stamp, tenant=tenant, error="x" * 1_000) for tenant in "ab" for stamp in range(1, 7)])
    cache = HotCacheOf(process)

    def read(tenant: str) -> set[tuple[int, bool]]:
        try:
            return {cache.count(tenant) for _ in range(60)}
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        found = [future.result(60) for future in [pool.submit(read, tenant) for tenant in "abab"]]
    assert found == [{(6, True)}] * 4


class HotCacheOf:
    def __init__(self, process: WebProcess) -> None:
        store = Store(process.conf)
        store.verify()
        self._cache = store.hot_cache

    def count(self, tenant: str) -> tuple[int, bool]:
        view = self._cache.snapshot(tenant)
        return len(view.held), view.is_filled


def test_threads_that_read_a_tenant_for_the_first_time_fill_it_once(archive_db: str, tmp_path: Path) -> None:
    process = WebProcess(tmp_path / "own", **QUICK)
    mirror([made(new_id(), 1)])
    cache = HotCacheOf(process)
    start, asked = threading.Barrier(4), []

    def read(_: int) -> tuple[int, bool]:
        try:
            with CaptureQueriesContext(connections[ArchiveRouter.alias]) as queries:
                start.wait(20)
                found = cache.count(TENANT)
            asked.append(len(queries))
            return found
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(read, range(4))) == {(1, True)}
    assert sorted(asked) == [0, 0, 0, 1]


# Following this host.


def test_a_record_is_in_the_next_read_of_another_process_without_redis(archive_db: str, own: WebProcess) -> None:
    beside = WebProcess(Path(own.conf.outbox_path), **QUICK)
    assert beside.ids() == []
    for number in range(20):
        record = own.record(tags=[str(number)])
        assert beside.listed()[0] == answers.item(record)
    assert beside.stats()["count"] == 20


def test_a_process_lists_its_own_records_without_reading_them_back(archive_db: str, own: WebProcess) -> None:
    own.list()
    before = own.store.hot_cache._seen_n
    accepted = taken(own.store.outbox.append([draft(new_id())]))
    own.store.hot_cache.take(accepted)
    record = accepted[0].row.record
    known = own.store.hot_cache.known(TENANT, record.id)
    assert known is not None
    assert replace(known, body=decompress(known.body)) == record
    assert own.store.hot_cache._seen_n == before + 1


def test_rows_of_others_that_were_committed_in_between_are_not_jumped_over(archive_db: str, own: WebProcess) -> None:
    beside = WebProcess(Path(own.conf.outbox_path), **QUICK)
    own.list()
    first = beside.record()
    second = own.record()
    assert own.ids() == ids(first, second)


def test_rows_that_were_pruned_before_it_saw_them_come_from_the_other_tiers(
    archive_db: str, redis_tier: Redis, own: WebProcess
) -> None:
    beside = WebProcess(Path(own.conf.outbox_path), **QUICK)
    assert own.ids() == []
    record = beside.record()
    mirror([record])
    beside.settle(beside.waiting())
    beside.outbox.prune(2**62)
    later = beside.record()
    persistence.rebuild(get_store())
    assert own.list().is_complete
    assert own.ids() == ids(record, later)


def test_it_is_complete_after_unseen_rows_were_pruned(archive_db: str, redis_tier: Redis, own: WebProcess) -> None:
    persistence.rebuild(get_store())
    beside = WebProcess(Path(own.conf.outbox_path), **QUICK)
    assert own.list().is_complete
    record = beside.record()
    beside.persist()
    beside.outbox.prune(2**62)
    assert own.list().is_complete
    assert own.ids() == [record.id]


def test_refused_records_are_deleted_even_without_redis(archive_db: str, own: WebProcess) -> None:
    good, poison = own.record(), own.record()
    assert own.ids() == ids(good, poison)
    mirror([good])
    quarantine(poison, "too odd")
    own.outbox.settle([1], [2])
    assert own.ids() == [good.id]
    with pytest.raises(NotFound):
        own.retrieve(poison.id)


@pytest.mark.parametrize("is_redis_trusted", [True, False])
def test_a_pending_version_of_an_older_id_is_not_at_the_top_of_a_new_cache(
    archive_db: str, redis_tier: Redis, tmp_path: Path, other_host: WebProcess, is_redis_trusted: bool
) -> None:
    persistence.rebuild(get_store())
    records = [other_host.record() for _ in range(4)]
    other_host.persist()
    small = WebProcess(tmp_path / "own", hot_max_records=2, **QUICK)
    again = small.record(id=str(records[0].id), tags=["again"])
    assert again.recorded_at_us > records[-1].recorded_at_us
    if not is_redis_trusted:
        redis_tier.flushdb()
    small.restart()
    assert small.ids() == ids(*records)
    assert small.stats()["count"] == 4


def test_a_repeat_from_below_the_floor_keeps_its_position_after_a_refill(
    archive_db: str, redis_tier: Redis, tmp_path: Path, other_host: WebProcess
) -> None:
    persistence.rebuild(get_store())
    records = [other_host.record() for _ in range(4)]
    other_host.persist()
    small = WebProcess(tmp_path / "own", hot_max_records=2, **QUICK)
    assert small.ids() == ids(*records)
    again = small.record(id=str(records[0].id), tags=["again"])
    beside = WebProcess(tmp_path / "own", **QUICK)
    beside.record(id=str(records[-1].id))
    # The feed reports the older position before this process fills again, because it has not seen all rows.
    beside.persist()
    beside.outbox.prune(2**62)
    assert again.recorded_at_us > records[0].recorded_at_us
    assert small.ids() == ids(*records)
    assert small.stats()["count"] == 4


# While something is away.


def test_without_redis_and_archive_it_lists_the_outbox_as_incomplete(archive_db: str, own: WebProcess) -> None:
    own.outbox.append([draft(new_id(), tenant="bob")])
    with archive_away():
        records = [own.record() for _ in range(3)]
        page = own.list()
        assert [record.id for record in page.records] == ids(*records)
        assert (page.is_complete, page.tiers, page.next_position) == (False, ["hot"], None)
        assert own.window()["complete"] is False
        assert own.stats()["count"] == 3
        own.restart()
        assert own.ids() == ids(*records)
        assert own.retrieve(records[0].id) == records[0]
        with pytest.raises(ArchiveUnavailable):
            own.retrieve(new_id())


def test_records_missing_during_an_outage_are_listed_after_it(archive_db: str, own: WebProcess) -> None:
    record = made(new_id(), 5)
    mirror([record])
    with archive_away():
        own_record = own.record()
        assert own.ids() == [own_record.id]
    assert own.ids() == ids(record, own_record)
    assert not own.list().is_complete  # Redis is still away
    assert own.hot.snapshot(TENANT).is_filled


def test_with_the_archive_away_it_is_asked_again_only_after_a_while(archive_db: str, tmp_path: Path) -> None:
    patient = WebProcess(tmp_path / "own", **QUICK | {"archive_retry_s": 3_600.0})
    with archive_away():
        assert patient.ids() == []
    mirror([made(new_id(), 5)])
    with CaptureQueriesContext(connections[ArchiveRouter.alias]) as queries:
        assert patient.ids() == []
        assert not patient.list().is_complete
    assert len(queries) == 0


def test_with_redis_away_a_cache_that_the_archive_has_filled_is_not_filled_again(
    archive_db: str, own: WebProcess
) -> None:
    mirror([made(new_id(), 5)])
    assert len(own.ids()) == 1
    with CaptureQueriesContext(connections[ArchiveRouter.alias]) as queries:
        assert len(own.ids()) == 1
        assert own.list().tiers == ["hot"]
        assert not own.list().is_complete
    assert len(queries) == 0


def test_with_redis_back_it_catches_up_with_other_hosts(
    archive_db: str, redis_tier: Redis, settings: Settings, own: WebProcess, other_host: WebProcess
) -> None:
    persistence.rebuild(get_store())
    there = settings.CACHES
    settings.CACHES = there | {"trajectories": there["trajectories"] | {"LOCATION": "redis://127.0.0.1:1/0"}}
    assert own.ids() == []
    settings.CACHES = there
    record = other_host.record()
    other_host.persist()
    settings.CACHES = there | {"trajectories": there["trajectories"] | {"LOCATION": "redis://127.0.0.1:1/0"}}
    assert own.ids() == []
    settings.CACHES = there
    assert own.ids() == [record.id]
    assert own.list().is_complete


def test_with_the_archive_away_redis_fills_it_and_the_page_ends_where_redis_ends(
    archive_db: str, redis_tier: Redis, tmp_path: Path, other_host: WebProcess
) -> None:
    records = [other_host.record() for _ in range(4)]
    other_host.persist()
    persistence.rebuild(get_store())
    redis_tier.delete(*redis_tier.keys(f"*{records[1].id}"))
    process = WebProcess(tmp_path / "own", **QUICK)
    with archive_away():
        page = process.list()
        assert [record.id for record in page.records] == ids(*records[2:])
        assert (page.is_complete, page.next_position) == (False, records[2].position)
        with pytest.raises(ArchiveUnavailable):
            process.list(after=page.next_position)
        assert process.window()["complete"] is False
    page = process.list(after=page.next_position)
    assert [record.id for record in page.records] == ids(*records[:2])
    assert page.is_complete


def test_clearing_it_makes_the_next_read_refill(archive_db: str, own: WebProcess) -> None:
    record = own.record()
    own.list()
    own.hot.clear()
    assert own.hot.size == (0, 0)
    assert own.ids() == [record.id]
