"""The site's broker transport, with a Redis that goes away."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection, Consumer, Message, Queue
from redis import Redis

from tests.processes import OwnRedis
from trajectory_site import redis_url

QUEUE = Queue("work", routing_key="work")


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[OwnRedis]:
    server = OwnRedis(tmp_path / "redis")
    yield server
    server.stop()


@pytest.fixture
def dumps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where files of this process go that have no other place."""
    path = tmp_path / "temporary"
    path.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    return path


def taken(redis: OwnRedis) -> Connection:
    """A connection whose consumer has taken one message and not acknowledged it."""
    connection = Connection(
        redis_url.broker(redis.url),
        transport="trajectory_site.broker:Transport",
        transport_options={"max_retries": 0, "socket_connect_timeout": 1},
    )
    with connection.Producer() as producer:
        producer.publish({"body": "of a record"}, routing_key="work", declare=[QUEUE])
    seen: list[object] = []

    def take(body: object, message: Message) -> None:
        seen.append(body)

    # The connection's own channel, as a worker's, which ends with it.
    with Consumer(connection.default_channel, [QUEUE], callbacks=[take]):
        connection.drain_events(timeout=60)
    assert seen == [{"body": "of a record"}]
    return connection


def test_redis_keeps_no_list_of_taken_messages(redis: OwnRedis) -> None:
    connection = taken(redis)
    with Redis.from_url(redis_url.broker(redis.url)) as client:
        assert not [key for key in client.scan_iter() if not key.startswith(b"_kombu.binding")]
    connection.close()


def test_an_orderly_stop_returns_claimed_records_to_the_queue(redis: OwnRedis) -> None:
    taken(redis).close()
    with Redis.from_url(redis_url.broker(redis.url)) as client:
        assert client.llen("work") == 1


def test_a_connection_whose_redis_is_gone_closes_and_leaves_no_file(redis: OwnRedis, dumps: Path) -> None:
    connection = taken(redis)
    redis.kill()
    channel: Any = connection.default_channel
    channel._disconnect_pools()  # as Kombu does when it finds out
    connection.release()
    assert list(dumps.iterdir()) == []
