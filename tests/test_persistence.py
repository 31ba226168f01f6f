"""The persist side: Redis and archive hold the same records once, in any order and after any
repeat."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import count, permutations
from typing import Any
from uuid import UUID

import orjson
import pytest
from django.db import OperationalError, connections, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from redis.exceptions import RedisError

from tests.processes import wait_until
from tests.storage.away import archive_away
from tests.storage.hosts import TENANT, expires_at_s, made, new_id
from tests.strategies import examples
from trajectories import persistence
from trajectories.domain.clock import SECOND_US
from trajectories.domain.query import Query
from trajectories.domain.record import Record, digest_of, facets_of
from trajectories.models import Phase, Quarantined, Tenant, Trajectory
from trajectories.storage import archive_reads, rollup_reads, rollups
from trajectories.storage.archive_delivery import Version, delivery_status
from trajectories.storage.archive_writes import mirror, record_of
from trajectories.storage.redis_tier import REBUILDING
from trajectories.storage.store import get_store

NOW_US = int(time.time()) * SECOND_US


def record(stamp: int = 0, *, id_: UUID | None = None, tenant: str = TENANT, **fields: Any) -> Record:
    return made(id_ or new_id(), NOW_US + stamp, tenant=tenant, **fields)


def poisoned(good: Record) -> Record:
    """Return a version that no database accepts: its cost exceeds 64 bits.

    Ingest would have refused it.
    """
    body = orjson.dumps(orjson.loads(good.body) | {"total_cost_usd": 10**12})
    return replace(good, body=body, digest=digest_of(body))


def rows(tenant: str = TENANT) -> dict[UUID, Trajectory]:
    return {row.trajectory_id: row for row in Trajectory.objects.filter(tenant=tenant)}


def archived(tenant: str = TENANT) -> list[Record]:
    return [record_of(row) for row in Trajectory.objects.filter(tenant=tenant).order_by("seq")]


def everywhere(tenant: str = TENANT) -> list[Record]:
    """Return the records of the archive, after checking that Redis holds the same."""
    found = archived(tenant)
    assert [get_store().redis_tier.find(tenant, one.id) for one in found] == found
    return found


@contextmanager
def tenant_locked(alias: str) -> Iterator[None]:
    """Lock the tenant's row, so that writers of the tenant wait."""
    Tenant.objects.get_or_create(pk=TENANT)
    with transaction.atomic(using=alias):
        Tenant.objects.filter(pk=TENANT).update(last_seq=0)
        yield


@contextmanager
def persisting(records: list[Record], alias: str) -> Iterator[Future[None]]:
    """Run a worker that has written ``records`` to Redis and waits for the archive until the
    context ends."""

    def work() -> None:
        try:
            persistence.persist(get_store(), records)
        finally:
            connections.close_all()

    get_store().verify()
    with ThreadPoolExecutor(1) as pool, tenant_locked(alias):
        future = pool.submit(work)
        wait_until(
            lambda: all(get_store().redis_tier.find(TENANT, one.id) for one in records), what="they are in Redis"
        )
        yield future


# Any order.

tenants = (f"tenant{number}" for number in count())
IDS = [UUID(int=number) for number in (1, 2, 3)]
SOME_PHASES = [[], [{"phase_name": "spec"}], [{"phase_name": "code", "tools_used": ["a"]}, {"phase_name": "test"}]]

batches = st.lists(
    st.lists(
        st.builds(
            lambda id_, stamp, phases, first: (id_, stamp, phases, min(first, stamp)),
            st.sampled_from(IDS),
            st.integers(1, 6),
            st.sampled_from(SOME_PHASES),
            st.integers(1, 6),
        ),
        min_size=1,
        max_size=5,
    ),
    min_size=1,
    max_size=6,
)


def visible(row: Trajectory) -> tuple[str, int, int]:
    return row.digest, row.revision, row.recorded_at_us


@settings(
    max_examples=examples(30), deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(given=batches, order=st.randoms(use_true_random=False))
def test_batches_in_any_order_leave_the_same_records_and_number_new_and_changed_ones(
    given: list[Any], order: Any, archive_db: str
) -> None:
    tenant = next(tenants)
    messages = [
        [made(id_, stamp, tenant=tenant, recorded_at_us=first, phases=phases) for id_, stamp, phases, first in batch]
        for batch in given
    ]
    sent = messages + order.choices(messages, k=2)
    order.shuffle(sent)
    before: dict[UUID, Trajectory] = {}
    last_changed = 0
    for message in sent:
        stored = mirror(message).stored
        after = rows(tenant)
        assert {one.id: one for one in stored} == {one.id: record_of(after[one.id]) for one in message}
        changed = {id_ for id_, row in after.items() if id_ not in before or visible(before[id_]) != visible(row)}
        assert {id_ for id_, row in after.items() if row.changed > last_changed} == changed
        assert all(after[id_].seq == row.seq for id_, row in before.items())
        last_changed = max(row.changed for row in after.values())
        before = after
    everything = [one for message in messages for one in message]
    for id_, row in before.items():
        mine = [one for one in everything if one.id == id_]
        newest = max(mine, key=lambda one: one.rank)
        assert (row.stamp, row.digest, row.body.encode()) == (newest.stamp, newest.digest, newest.body)
        assert row.recorded_at_us == min(one.recorded_at_us for one in mine)
        assert [phase.phase for phase in row.phases.order_by("place")] == [
            phase.phase for phase in facets_of(newest.body).phases
        ]
    assert sorted(row.seq for row in before.values()) == list(range(1, len(before) + 1))
    assert Tenant.objects.get(pk=tenant).last_changed == last_changed


def test_a_batch_is_numbered_by_position_so_that_an_export_reads_as_it_was_taken(archive_db: str) -> None:
    records = [record(stamp) for stamp in (3, 1, 2)]
    mirror(records)
    assert [one.stamp - NOW_US for one in archived()] == [1, 2, 3]


def test_a_repeat_changes_nothing_that_a_follower_or_an_export_would_see(archive_db: str) -> None:
    first = record(1)
    mirror([first])
    mirror([record(1, id_=first.id, tenant="bob")])
    before = rows()[first.id]
    mirror([replace(first, stamp=first.stamp + 9)])
    after = rows()[first.id]
    assert after.stamp == first.stamp + 9
    assert (after.changed, after.seq, visible(after), after.body) == (
        before.changed,
        before.seq,
        visible(before),
        before.body,
    )
    assert Tenant.objects.get(pk=TENANT).last_changed == before.changed


def test_another_body_replaces_the_columns_and_the_phases_that_filters_look_at(archive_db: str) -> None:
    first = record(1, project="old", phases=[{"phase_name": "spec"}, {"phase_name": "code"}])
    mirror([first])
    second = record(2, id_=first.id, project="new", total_cost_usd=2, phases=[{"phase_name": "test", "model": "m"}])
    mirror([second])
    row = rows()[first.id]
    assert (row.project, row.cost_nano_usd, row.phase_count) == ("new", 2 * 10**9, 1)
    assert [(phase.phase, phase.model) for phase in Phase.objects.filter(trajectory=row)] == [("test", "m")]


# Several writers at once.


def in_threads(works: list[Callable[[], Any]]) -> None:
    """Run all at once; raise what one of them raises."""
    start = threading.Barrier(len(works))

    def run(work: Callable[[], Any]) -> None:
        try:
            start.wait(20)
            work()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(works)) as pool:
        for future in [pool.submit(run, work) for work in works]:
            future.result(60)


def test_concurrent_writers_of_the_same_ids_leave_a_sequential_result(archive_db: str) -> None:
    ids = [new_id() for _ in range(8)]
    messages = [
        [record(10 * turn + place, id_=id_, tags=[str(turn)]) for place, id_ in enumerate(ids)] for turn in range(6)
    ]
    in_threads([lambda message=message: mirror(message) for message in messages])  # type: ignore[misc]
    found = rows()
    assert {id_: row.stamp for id_, row in found.items()} == {one.id: one.stamp for one in messages[-1]}
    assert {id_: row.recorded_at_us for id_, row in found.items()} == {one.id: one.stamp for one in messages[0]}
    assert sorted(row.seq for row in found.values()) == list(range(1, 9))
    assert len({row.changed for row in found.values()}) == 8
    assert Tenant.objects.get(pk=TENANT).last_changed == max(row.changed for row in found.values())


def test_writers_of_the_same_tenants_in_other_orders_do_not_stop_each_other(archive_db: str) -> None:
    names = ["alice", "bob", "charlie"]
    works = [
        lambda order=order: [mirror([record(tenant=tenant) for tenant in order for _ in range(3)]) for _ in range(5)]
        for order in (names, list(reversed(names)), names[1:] + names[:1])
    ]
    in_threads(works)  # type: ignore[arg-type]
    assert {tenant: len(rows(tenant)) for tenant in names} == dict.fromkeys(names, 45)


# Redis and archive together.


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_body_that_changes_back_is_the_same_in_both_tiers_in_any_order_of_arrival(
    archive_db: str, redis_tier: Redis, order: tuple[int, ...]
) -> None:
    id_ = new_id()
    versions = [record(stamp, id_=id_, recorded_at_us=NOW_US, tags=[tag]) for stamp, tag in enumerate("ABA")]
    for place in order:
        persistence.persist(get_store(), [versions[place]])
    (stands,) = everywhere()
    assert (stands.stamp, stands.body) == (versions[2].stamp, versions[2].body)


def test_a_host_that_has_never_heard_of_an_id_changes_nothing_by_posting_it_again(
    archive_db: str, redis_tier: Redis
) -> None:
    first = record(1)
    persistence.persist(get_store(), [first])
    before = rows()[first.id]
    persistence.persist(get_store(), [record(9, id_=first.id)])
    (stands,) = everywhere()
    assert (stands.recorded_at_us, stands.revision, stands.stamp) == (first.stamp, first.stamp, first.stamp + 8)
    assert rows()[first.id].changed == before.changed


def test_redis_learns_from_the_archive_how_old_an_id_is_that_it_does_not_know(
    archive_db: str, redis_tier: Redis
) -> None:
    first = record(1)
    persistence.persist(get_store(), [first])
    redis_tier.flushdb()
    persistence.persist(get_store(), [record(9, id_=first.id)])
    (stands,) = everywhere()
    assert (stands.recorded_at_us, stands.revision) == (first.stamp, first.stamp)


def test_while_redis_refuses_writes_the_archive_gets_nothing_and_later_everything(
    archive_db: str, redis_tier: Redis
) -> None:
    one = record()
    redis_tier.config_set("maxmemory", "1")
    try:
        with pytest.raises(RedisError):
            persistence.persist(get_store(), [one])
        assert archived() == []
    finally:
        redis_tier.config_set("maxmemory", "0")
    persistence.persist(get_store(), [one])
    assert everywhere() == [one]


def test_during_an_archive_outage_redis_gets_records_and_none_is_quarantined(
    archive_db: str, redis_tier: Redis
) -> None:
    one = record()
    with archive_away(), pytest.raises(OperationalError):
        persistence.persist(get_store(), [one])
    assert get_store().redis_tier.find(TENANT, one.id) == one
    assert not Quarantined.objects.exists()
    persistence.persist(get_store(), [one])
    assert everywhere() == [one]


# Wiped and rebuilt.


def test_a_wiped_redis_is_rebuilt_with_the_remaining_ttl_and_trusted_again(archive_db: str, redis_tier: Redis) -> None:
    records = [record(-100 * SECOND_US), record(-50 * SECOND_US), record(tenant="bob")]
    persistence.persist(get_store(), records)
    persistence.rebuild(get_store())
    before = {one.id: expires_at_s(redis_tier, one) for one in records}
    redis_tier.flushdb()
    assert not get_store().redis_tier.is_trusted()
    assert persistence.rebuild(get_store()) == 3
    assert get_store().redis_tier.is_trusted()
    assert {one.id: expires_at_s(redis_tier, one) for one in records} == before
    assert everywhere() == records[:2]
    assert get_store().redis_tier.newest(TENANT, 10).records == [records[1], records[0]]


def test_a_rebuild_skips_expired_records_and_never_overwrites_newer_versions(
    archive_db: str, redis_tier: Redis
) -> None:
    expired, revised = record(-91 * 86_400 * SECOND_US), record(-5)
    persistence.persist(get_store(), [expired, revised])
    redis_tier.flushdb()
    newer = record(1, id_=revised.id, recorded_at_us=revised.recorded_at_us, tags=["newer"])
    get_store().redis_tier.merge([newer], from_authority=False)
    assert persistence.rebuild(get_store()) == 1
    assert get_store().redis_tier.find(TENANT, revised.id) == newer
    assert get_store().redis_tier.find(TENANT, expired.id) is None


def test_a_batch_in_flight_while_redis_is_wiped_and_rebuilt_is_in_redis_afterwards(
    archive_db: str, redis_tier: Redis
) -> None:
    persistence.rebuild(get_store())
    one = record()
    with persisting([one], archive_db) as worker:
        redis_tier.flushdb()
        persistence.rebuild(get_store())
    worker.result(20)
    assert get_store().redis_tier.is_trusted()
    assert everywhere() == [one]
    assert get_store().redis_tier.newest(TENANT, 10).records == [one]


def test_a_rebuild_in_which_redis_was_wiped_again_does_not_call_it_complete(
    archive_db: str, redis_tier: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    persistence.persist(get_store(), [record(stamp) for stamp in range(3)])
    redis_tier.flushdb()
    monkeypatch.setattr(persistence, "_REBUILD_PAGE", 1)
    asked = archive_reads.revised_since

    def asked_while_wiped(revision: int, after_pk: int, limit: int) -> Any:
        if after_pk:
            redis_tier.flushdb()
        return asked(revision, after_pk, limit)

    monkeypatch.setattr(archive_reads, "revised_since", asked_while_wiped)
    persistence.rebuild(get_store())
    assert not get_store().redis_tier.is_trusted()


def test_a_rebuild_that_failed_does_not_keep_the_next_one_away(archive_db: str, redis_tier: Redis) -> None:
    assert get_store().redis_tier.claim(REBUILDING, 60)
    with archive_away(), pytest.raises(OperationalError):
        persistence.rebuild(get_store())
    assert get_store().redis_tier.claim(REBUILDING, 60)


# Reads of the archive must agree with the hot cache.


def test_the_archive_finds_many_ids_of_one_tenant_only(archive_db: str) -> None:
    mine, others = record(), record(tenant="bob")
    mirror([mine, others])
    assert archive_reads.find_many(TENANT, [mine.id, others.id, new_id()]) == {mine.id: mine}
    assert archive_reads.find_many(TENANT, []) == {}
    assert archive_reads.newest(TENANT, Query(), None, 10) == [mine]


def test_a_lost_version_is_not_confirmed_by_a_later_one_of_another_host(archive_db: str, redis_tier: Redis) -> None:
    """The batch of the first version was lost, and the second host did not know the id."""
    lost = record(1)
    later = record(5, id_=lost.id, tags=["later"])
    persistence.persist(get_store(), [later])
    assert delivery_status([Version.of(lost)]).confirmed == set()
    persistence.persist(get_store(), [lost])
    versions = {Version.of(lost), Version.of(later)}
    assert delivery_status(list(versions)).confirmed == versions
    assert everywhere() == [replace(later, recorded_at_us=lost.recorded_at_us)]


def test_a_worker_counts_selections_after_a_batch_once_it_is_due(
    archive_db: str, redis_tier: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollups, "COUNT_PAGE", 3)
    for stamp in range(4):
        persistence.persist(get_store(), [record(stamp, phases=[{"phase_name": "spec"}])])
        assert bool(rollup_reads.selections(TENANT)) is (stamp >= 2)
    assert Tenant.objects.using(archive_db).get(pk=TENANT).selected_seq == 3
