"""The Redis tier: the same merge as everywhere, a life of its own for each key, and a feed that
says when it cannot be followed."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.core.cache import caches
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pytest_django import Settings
from redis import Redis

from tests.processes import OwnRedis
from tests.storage.hosts import TENANT, expires_at_s, made, made_body, new_id
from tests.strategies import examples
from trajectories.conf import read_settings
from trajectories.domain.clock import SECOND_US
from trajectories.domain.record import Position, Record, digest_of, merge, tombstone
from trajectories.storage.redis_tier import REBUILDING, Change, FeedMark, RedisTier, connect

TTL_S = 90 * 24 * 3600
NOW_US = int(time.time()) * SECOND_US

properties = hypothesis_settings(
    max_examples=examples(100),
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


STORE = "0123456789ab"


@pytest.fixture
def tier(redis_tier: Redis) -> RedisTier:
    return connect(read_settings(), STORE)


def keeping(few: int) -> RedisTier:
    """A tier that keeps so many ids in its sorted sets."""
    tier = connect(read_settings(), STORE)
    tier._keep = few
    return tier


def record(stamp: int = 0, *, id_: UUID | None = None, tenant: str = TENANT, **fields: Any) -> Record:
    return made(id_ or new_id(), NOW_US + stamp, tenant=tenant, **fields)


# The merge.

BODIES = [made_body(UUID(int=7), tags=[tag]) for tag in ("a", "b", "c")]
tenants = (f"tenant{number}" for number in count())


def version(tenant: str, stamp: int, body: bytes, recorded_at_us: int, revision: int) -> Record:
    at = [NOW_US + us for us in (stamp, revision, recorded_at_us)]
    return Record(tenant, UUID(int=7), at[0], digest_of(body), at[1], at[2], body)


versions = st.lists(
    st.tuples(st.integers(1, 5), st.sampled_from(BODIES), st.integers(1, 5), st.integers(1, 5), st.booleans()),
    min_size=1,
    max_size=8,
)


@properties
@given(given=versions)
def test_the_merge_in_redis_equals_the_merge_of_records(given: list[Any], tier: RedisTier) -> None:
    tenant, known = next(tenants), None
    for stamp, body, recorded_at_us, revision, from_authority in given:
        one = version(tenant, stamp, body, recorded_at_us, revision)
        known = merge(known, one, from_authority=from_authority)
        (said,) = tier.merge([one], from_authority=from_authority)
        assert tier.find(tenant, one.id) == known
        assert said == (known.stamp, known.digest, known.revision, known.recorded_at_us)


@properties
@given(given=versions)
def test_the_feed_tells_of_every_visible_change_and_of_nothing_else(given: list[Any], tier: RedisTier) -> None:
    tenant = next(tenants)
    for stamp, body, recorded_at_us, revision, from_authority in given:
        one = version(tenant, stamp, body, recorded_at_us, revision)
        before, mark = tier.find(tenant, one.id), tier.mark(tenant)
        tier.merge([one], from_authority=from_authority)
        after = tier.find(tenant, one.id)
        told = tier.changes(tenant, mark)
        assert told is not None
        assert told[1] == ([] if before == after else [Change(one.id, after, None)])


def test_a_batch_is_merged_in_its_order_and_tenants_do_not_meet(tier: RedisTier) -> None:
    id_ = new_id()
    first, second = record(1, id_=id_, tags=["first"]), record(2, id_=id_, tags=["second"])
    others = record(3, id_=id_, tenant="bob")
    said = tier.merge([second, first, others], from_authority=False)
    assert [stamps[0] for stamps in said] == [second.stamp, second.stamp, others.stamp]
    assert tier.find(TENANT, id_) == replace(second, recorded_at_us=first.recorded_at_us)
    assert tier.find("bob", id_) == others
    assert tier.find(TENANT, new_id()) is None


# Lives.


def test_a_record_lives_for_its_time_from_its_revision_on(tier: RedisTier, redis_tier: Redis) -> None:
    old, new = record(-5 * SECOND_US), record(0)
    tier.merge([old, new], from_authority=False)
    assert expires_at_s(redis_tier, old) == NOW_US // SECOND_US - 5 + TTL_S
    assert expires_at_s(redis_tier, new) == NOW_US // SECOND_US + TTL_S


def test_a_repeat_does_not_prolong_the_life_of_a_record_and_another_body_does(
    tier: RedisTier, redis_tier: Redis
) -> None:
    first = record(-1_000 * SECOND_US)
    tier.merge([first], from_authority=False)
    before = expires_at_s(redis_tier, first)
    repeat = record(-500 * SECOND_US, id_=first.id)
    assert repeat.body == first.body
    tier.merge([repeat, first, repeat], from_authority=False)
    assert expires_at_s(redis_tier, first) == before
    tier.merge([record(-100 * SECOND_US, id_=first.id, tags=["other"])], from_authority=False)
    assert expires_at_s(redis_tier, first) == before + 900


def test_only_records_expire(tier: RedisTier, redis_tier: Redis) -> None:
    tier.merge([record()], from_authority=False)
    sets = [*redis_tier.scan_iter("*:feed"), *redis_tier.scan_iter("*:positions")]
    lives = {bytes(key).decode().rpartition(":")[2]: redis_tier.ttl(key) for key in sets}
    assert lives == {"feed": -1, "positions": -1}


def test_a_record_past_its_time_is_not_kept_and_no_change(tier: RedisTier) -> None:
    mark, late = tier.mark(TENANT), record(-(TTL_S + 1) * SECOND_US)
    tier.merge([late], from_authority=False)
    assert tier.find(TENANT, late.id) is None
    changes = tier.changes(TENANT, mark)
    assert changes is not None
    assert changes[1] == []


# Withdrawal.


def test_a_withdrawn_version_is_hidden_and_published_to_followers(tier: RedisTier) -> None:
    poison = record()
    tier.merge([poison], from_authority=False)
    mark = tier.mark(TENANT)
    tier.withdraw(poison, has_older=False)
    assert tier.find(TENANT, poison.id) is None
    assert tier.newest(TENANT, 10).records == []
    changes = tier.changes(TENANT, mark)
    assert changes is not None
    assert changes[1] == [Change(poison.id, None, poison.stamp)]


@pytest.mark.parametrize("from_authority", [True, False])
def test_a_withdrawn_version_stays_withdrawn_and_a_newer_one_is_accepted(tier: RedisTier, from_authority: bool) -> None:
    poison = record(5)
    tier.merge([poison], from_authority=False)
    tier.withdraw(poison, has_older=False)
    older = record(1, id_=poison.id, tags=["older"])
    tier.merge([poison], from_authority=False)
    tier.merge([older], from_authority=from_authority)
    assert tier.find(TENANT, poison.id) is None
    newer = record(6, id_=poison.id, tags=["newer"])
    tier.merge([newer], from_authority=from_authority)
    assert tier.find(TENANT, poison.id) == newer
    assert tier.newest(TENANT, 10).records == [newer]


def test_a_withdrawn_version_returns_once_the_archive_has_it(tier: RedisTier) -> None:
    poison = record(5)
    tier.merge([poison], from_authority=False)
    tier.withdraw(poison, has_older=False)
    mark = tier.mark(TENANT)
    tier.merge([poison], from_authority=True)
    assert tier.newest(TENANT, 10).records == [poison]
    found = tier.changes(TENANT, mark)
    assert found
    assert found[1] == [Change(poison.id, poison, None)]


def test_a_version_that_is_newer_than_the_withdrawn_one_stays(tier: RedisTier) -> None:
    poison = record(5)
    newer = record(6, id_=poison.id, tags=["newer"])
    tier.merge([newer], from_authority=False)
    tier.withdraw(poison, has_older=False)
    assert tier.find(TENANT, poison.id) == newer


def test_a_fill_reports_a_withdrawn_version_with_an_archived_older_one(
    tier: RedisTier,
) -> None:
    low, poison, high = record(1), record(2), record(3)
    tier.merge([low, poison, high], from_authority=False)
    tier.withdraw(poison, has_older=True)
    fill = tier.newest(TENANT, 10)
    assert (fill.records, fill.missing) == ([high, low], {poison.id: poison.recorded_at_us})


# The feed and fills.


def above(forgotten: Record) -> Position:
    """The lowest position above the time of ``forgotten``."""
    return Position(forgotten.recorded_at_us + 1, UUID(int=0))


def test_a_follower_sees_each_changed_record_once_as_it_is_now(tier: RedisTier) -> None:
    mark = tier.mark(TENANT)
    first, other = record(1), record(2)
    tier.merge([first, other, record(3, id_=first.id, tags=["new"])], from_authority=False)
    tier.merge([record(9, tenant="bob")], from_authority=False)
    told = tier.changes(TENANT, mark)
    assert told is not None
    assert {change.id: change.record for change in told[1]} == {
        first.id: tier.find(TENANT, first.id),
        other.id: other,
    }
    assert tier.changes(TENANT, told[0]) == (told[0], [])


def test_a_follower_behind_the_trimmed_feed_refills(redis_tier: Redis) -> None:
    tier = keeping(4)
    marks = []
    for number in range(10):
        marks.append(tier.mark(TENANT))
        tier.merge([record(number)], from_authority=False)
    can_follow = [tier.changes(TENANT, mark) is not None for mark in marks]
    assert can_follow == [False] * 6 + [True] * 4
    told = tier.changes(TENANT, marks[6])
    assert told is not None
    assert len(told[1]) == 4


def test_a_follower_of_another_server_or_another_epoch_has_to_fill(tier: RedisTier, redis_tier: Redis) -> None:
    tier.merge([record()], from_authority=False)
    mark = tier.mark(TENANT)
    assert tier.changes(TENANT, mark._replace(replication_id="other")) is None
    tier.begin_epoch(tier.replication_id())
    assert tier.changes(TENANT, mark) is None
    mark = tier.mark(TENANT)
    redis_tier.delete(*redis_tier.keys("*:sequence"))
    assert tier.changes(TENANT, mark) is None


def test_the_highest_records_are_complete_above_forgotten_positions(
    redis_tier: Redis,
) -> None:
    tier = keeping(4)
    records = [record(number) for number in range(6)]
    tier.merge(records, from_authority=False)
    assert tier.newest(TENANT, 2) == ([records[5], records[4]], {}, records[4].position, True)
    # Records at the position up to which the tier has forgotten may be incomplete.
    assert tier.newest(TENANT, 10) == (list(reversed(records[2:])), {}, above(records[1]), False)


def test_forgotten_positions_stay_forgotten_when_an_old_record_changes(redis_tier: Redis) -> None:
    tier = keeping(2)
    records = [record(number) for number in range(4)]
    tier.merge(records, from_authority=False)
    tier.merge([record(9, id_=records[0].id, recorded_at_us=NOW_US, tags=["new"])], from_authority=False)
    assert tier.newest(TENANT, 10) == ([records[3], records[2]], {}, above(records[1]), False)


def test_a_fill_says_whose_keys_are_gone(tier: RedisTier, redis_tier: Redis) -> None:
    low, gone, high = record(1), record(2), record(3)
    tier.merge([low, gone, high], from_authority=False)
    redis_tier.delete(*redis_tier.keys(f"*{gone.id}"))
    fill = tier.newest(TENANT, 10)
    assert (fill.records, fill.missing) == ([high, low], {gone.id: gone.recorded_at_us})


def test_below_the_age_at_which_keys_expire_a_fill_does_not_take_redis_for_complete(tier: RedisTier) -> None:
    too_old_us = (int(time.time()) - TTL_S - 10) * SECOND_US
    revised = record(1, recorded_at_us=too_old_us)
    tier.merge([revised, record(2)], from_authority=False)
    fill = tier.newest(TENANT, 10)
    assert [one.id for one in fill.records] != []
    assert revised.id not in {one.id for one in fill.records}
    assert fill.floor
    assert fill.floor > revised.position


# Trust.


def test_a_server_is_trusted_once_an_epoch_names_it_and_not_after_it_was_wiped(
    tier: RedisTier, redis_tier: Redis
) -> None:
    assert not tier.is_trusted()
    tier.begin_epoch(tier.replication_id())
    assert tier.is_trusted()
    assert tier.mark(TENANT).is_trusted
    before = tier.server()
    redis_tier.flushdb()
    assert not tier.is_trusted()
    assert not tier.mark(TENANT).is_trusted
    assert tier.server() != before


def test_a_server_that_was_restarted_is_not_the_one_that_the_epoch_names(tmp_path: Path, settings: Settings) -> None:
    server = OwnRedis(tmp_path / "redis")
    try:
        settings.CACHES = settings.CACHES | {"trajectories": settings.CACHES["trajectories"] | {"LOCATION": server.url}}
        tier, one = connect(read_settings(), STORE), record()
        tier.merge([one], from_authority=False)
        tier.begin_epoch(tier.replication_id())
        before = tier.mark(TENANT)
        server.stop()
        server.start()
        after = connect(read_settings(), STORE).mark(TENANT)
        assert before.is_trusted
        assert not after.is_trusted
        assert after == FeedMark(before.epoch, after.replication_id, before.sequence)
        assert connect(read_settings(), STORE).find(TENANT, one.id) == one
        assert connect(read_settings(), STORE).changes(TENANT, before) is None
    finally:
        caches["trajectories"].close()
        server.stop()


def test_one_rebuild_at_a_time_is_claimed_and_one_that_was_wiped_away_is_noticed(
    tier: RedisTier, redis_tier: Redis
) -> None:
    assert tier.claim(REBUILDING, 60)
    assert not tier.claim(REBUILDING, 60)
    assert tier.hold_rebuild(60, is_begun=True)
    redis_tier.flushdb()
    assert not tier.hold_rebuild(60, is_begun=True)
    assert tier.hold_rebuild(60, is_begun=False)
    assert not tier.claim(REBUILDING, 60)


# Commands sent to the server.

COMMANDS_OF_REDIS_6_2 = {
    "auth", "client|setinfo", "client", "del", "eval", "evalsha", "expireat", "flushdb", "get", "hdel", "hexists", "hget", "hmget",
    "hset", "hstrlen", "info", "incr", "keys", "ping", "script", "script|exists", "script|load", "select", "set", "zadd", "zcard",
    "zcount", "zmscore",
    "zrange", "zrangebyscore", "zrem", "zremrangebyrank", "zrevrange", "zscore", "command", "hello", "config|resetstat",
    "config",
}  # fmt: skip


def use_everything(client: Redis) -> None:
    tier = keeping(2)
    mark = tier.mark(TENANT)
    records = [record(number) for number in range(5)]
    tier.merge(records, from_authority=False)
    tier.merge(records, from_authority=True)
    tier.withdraw(records[0], has_older=False)
    tier.delete([tombstone(TENANT, records[1].id, NOW_US)])
    tier.changes(TENANT, mark)
    tier.changes(TENANT, tier.mark(TENANT)._replace(sequence=4))
    client.delete(*client.keys(f"*{records[4].id}"))
    tier.newest(TENANT, 10)
    tier.find(TENANT, records[3].id)
    tier.open_batch([(TENANT, records[3].id)])
    tier.depth_under_way(TENANT)
    tier.claim(REBUILDING, 1)
    tier.hold_rebuild(1, is_begun=True)
    tier.begin_epoch(tier.replication_id())
    assert tier.is_trusted()


def test_every_command_is_one_of_redis_6_2(redis_tier: Redis) -> None:
    redis_tier.config_resetstat()
    use_everything(redis_tier)
    used = {name.removeprefix("cmdstat_") for name in redis_tier.info("commandstats")}
    assert {"evalsha", "hset", "zadd", "expireat"} <= used
    assert used <= COMMANDS_OF_REDIS_6_2


def test_the_life_of_records_and_the_length_of_the_feed_come_from_the_settings(
    redis_tier: Redis, settings: Settings, trajectories_settings: dict[str, Any]
) -> None:
    settings.TRAJECTORIES = trajectories_settings | {"REDIS_TTL_S": 100_000, "HOT_MAX_RECORDS": 2}
    assert read_settings().redis_ttl_s == 100_000
    records = [record(number) for number in range(6)]
    connect(read_settings(), STORE).merge(records, from_authority=False)
    assert expires_at_s(redis_tier, records[0]) == NOW_US // SECOND_US + 100_000
    assert connect(read_settings(), STORE).newest(TENANT, 10).records == list(reversed(records[2:]))
