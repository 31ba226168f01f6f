"""Values of Redis that cannot be read: reads go on as in an outage of Redis, and stay right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from tests.storage.hosts import TENANT, WebProcess
from trajectories import persistence
from trajectories.storage.store import get_store

Damage = Callable[[Redis, str], None]


def keys(redis: Redis, end: str) -> list[bytes]:
    found: Any = redis.keys("*")
    return [key for key in found if end in key.decode()]


def put(value: bytes) -> Damage:
    def damage(redis: Redis, end: str) -> None:
        for key in keys(redis, end):
            redis.set(key, value)

    return damage


def put_field(field: str, value: bytes) -> Damage:
    def damage(redis: Redis, end: str) -> None:
        for key in keys(redis, end):
            redis.hset(key, field, value)

    return damage


def put_member(member: bytes, score: float) -> Damage:
    def damage(redis: Redis, end: str) -> None:
        for key in keys(redis, end):
            redis.zadd(key, {member: score})

    return damage


def put_floor(value: bytes) -> Damage:
    def damage(redis: Redis, end: str) -> None:
        (key,) = [key for key in keys(redis, end) if key.endswith(b"positions")]
        redis.set(key + b"_floor", value)

    return damage


def replace_by_list(redis: Redis, end: str) -> None:
    for key in keys(redis, end):
        redis.delete(key)
        redis.lpush(key, b"x")


BODY = b"\x28\xb5\x2f\xfd of zstd"
DAMAGED: dict[str, tuple[str, Damage]] = {
    "a sequence that is no number": (":sequence", put(b"\xff\x00")),
    "a sequence of 400 digits": (":sequence", put(b"9" * 400)),
    "an epoch that is no text": (":epoch", put(b"\xff\x00")),
    "a floor of 400 digits": ("}:positions", put_floor(b"9" * 400)),
    "a floor that is no number": ("}:positions", put_floor(b"nan")),
    "a position of an id that is none": ("}:positions", put_member(b"\xff", 2e15)),
    "an infinite position": ("}:positions", put_member(b"00000000-0000-0000-0000-000000000001", float("inf"))),
    "a change of an id that is none": ("}:feed", put_member(b"none", 1)),
    "a stamp that is no number": (":record:", put_field("stamp", b"x")),
    "a stamp of 400 digits": (":record:", put_field("stamp", b"9" * 400)),
    "a stamp that no later one can follow": (":record:", put_field("stamp", b"%d" % (2**63 - 1))),
    "a digest that is no text": (":record:", put_field("digest", b"\xff")),
    "a body that is no frame": (":record:", put_field("body", BODY)),
    "a record of another type": (":record:", replace_by_list),
    "a feed of another type": ("}:feed", replace_by_list),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_value_that_cannot_be_read_is_an_outage_of_redis(
    name: str, archive_db: str, redis_tier: Redis, own: WebProcess, other_host: WebProcess
) -> None:
    records = [other_host.record(), other_host.record()]
    other_host.persist()
    persistence.rebuild(get_store())
    end, damage = DAMAGED[name]
    assert keys(redis_tier, end)
    damage(redis_tier, end)
    own.restart()
    newest_first = [record.id for record in reversed(records)]
    assert own.ids() == newest_first
    assert own.stats()["count"] == 2
    assert own.retrieve(records[0].id).body == records[0].body
    waiting = own.record(tenant=TENANT)
    assert own.ids() == [waiting.id, *newest_first]
