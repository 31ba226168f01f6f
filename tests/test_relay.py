from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import pytest
from pytest_django import Settings
from redis import Redis

from tests.conftest import publish_to
from tests.examples import REFERENCE
from tests.storage.hosts import deliver
from trajectories import persistence, tasks
from trajectories.domain.record import Record
from trajectories.models import Trajectory
from trajectories.relay import HostLockTaken, Relay, host_lock
from trajectories.services import ingest
from trajectories.storage.store import get_store
from trajectory_site.celery import app as celery_app

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_tier")]


class Broker:
    """Messages that the relay has sent and no worker has taken."""

    def __init__(self, url: str) -> None:
        self._client = Redis.from_url(url)
        self._queue = celery_app.conf.task_default_queue

    def batches(self) -> list[tasks.Message]:
        """Arguments of the waiting ``persist`` tasks, in the order in which they were sent."""
        messages = [json.loads(text) for text in reversed(self._client.lrange(self._queue, 0, -1))]
        wanted = [m for m in messages if m["headers"]["task"] == "trajectories.persist"]
        return [json.loads(b64decode(message["body"]))[0][0] for message in wanted]

    def lose(self) -> None:
        self._client.delete(self._queue)

    def close(self) -> None:
        self._client.close()


@pytest.fixture
def broker(celery_broker: str) -> Any:
    broker = Broker(celery_broker)
    yield broker
    broker.close()


def configure(settings: Settings, **values: Any) -> None:
    settings.TRAJECTORIES = settings.TRAJECTORIES | values


def take(count: int, **more: Any) -> None:
    lines = [json.dumps(REFERENCE | {"request_summary": f"run {number}"} | more).encode() for number in range(count)]
    ingest.record_many(get_store(), "alice", lines)


def work(batch: tasks.Message) -> None:
    deliver(batch, get_store().identity)


def test_batches_end_at_their_count_and_eight_of_them_are_under_way(broker: Broker, settings: Settings) -> None:
    configure(settings, BATCH_MAX_RECORDS=10)
    take(95)
    relay = Relay(get_store())
    relay.step()
    relay.step()
    assert [len(batch) for batch in broker.batches()] == [10] * 8


def test_a_batch_ends_at_its_bytes_and_a_larger_record_goes_alone(broker: Broker, settings: Settings) -> None:
    configure(settings, BATCH_MAX_RECORDS=3, BATCH_MAX_BYTES=2_500)
    take(2)
    take(1, error="x" * 10_000)
    take(2)
    relay = Relay(get_store())
    relay.step()
    sizes = [[len(str(columns[-1])) > 10_000 for columns in batch] for batch in broker.batches()]
    assert sizes[:2] == [[False, False], [True]]


def test_archived_rows_are_confirmed_and_make_room_for_the_next_batch(broker: Broker, settings: Settings) -> None:
    configure(settings, BATCH_MAX_RECORDS=10, BATCHES_IN_FLIGHT=1)
    take(20)
    relay = Relay(get_store())
    relay.step()
    work(broker.batches()[0])
    broker.lose()
    relay._batches[0].look_at = 0.0
    relay.step()
    assert [row.n for row in get_store().outbox.waiting(0, 100)] == list(range(11, 21))
    assert [len(batch) for batch in broker.batches()] == [10]
    assert Trajectory.objects.count() == 10


def test_a_lost_batch_is_sent_again_without_its_archived_records(broker: Broker, settings: Settings) -> None:
    configure(settings, RESEND_AFTER_S=0.0)
    take(4)
    relay = Relay(get_store())
    relay.step()
    (batch,) = broker.batches()
    broker.lose()
    work(batch[:1])
    relay._batches[0].look_at = 0.0
    relay.step()
    assert broker.batches()[0] == batch[1:]


def test_a_new_relay_sends_confirmed_records_that_the_archive_lacks(broker: Broker) -> None:
    take(3)
    relay = Relay(get_store())
    relay.step()
    (batch,) = broker.batches()
    work(batch)
    relay._batches[0].look_at = 0.0
    relay.step()
    kept, lost, later = get_store().outbox.confirmed(0, 10)
    # The archive was restored from a backup. An earlier release confirmed by the stamp alone.
    Trajectory.objects.filter(trajectory_id=lost.record.id).delete()
    Trajectory.objects.filter(trajectory_id=later.record.id).update(recorded_at_us=later.record.recorded_at_us + 1)
    broker.lose()
    Relay(get_store()).step()
    assert broker.batches() == [[batch[1], batch[2]]]
    assert [row.n for row in get_store().outbox.waiting(0, 10)] == [lost.n, later.n]
    assert [row.n for row in get_store().outbox.confirmed(0, 10)] == [kept.n]
    assert get_store().outbox.counts()[:5] == (3, 5, 0, 1, 0)


def test_nothing_is_sent_again_while_the_queue_is_long(broker: Broker, settings: Settings) -> None:
    configure(settings, RESEND_AFTER_S=0.0, QUEUE_MAX_MESSAGES=3)
    take(1)
    relay = Relay(get_store())
    for _ in range(10):
        relay.step()
    assert len(broker.batches()) <= 3


def test_a_repeated_task_changes_nothing(broker: Broker) -> None:
    take(3)
    Relay(get_store()).step()
    (batch,) = broker.batches()
    work(batch)
    before = list(Trajectory.objects.order_by("seq").values())
    work(batch)
    assert list(Trajectory.objects.order_by("seq").values()) == before


def test_while_the_broker_is_away_rows_wait_and_then_go(broker: Broker, celery_broker: str, settings: Settings) -> None:
    take(2)
    relay = Relay(get_store())
    publish_to("redis://127.0.0.1:1/0")
    relay.step()
    assert relay.is_failing
    assert len(get_store().outbox.waiting(0, 10)) == 2
    publish_to(celery_broker)
    relay.step()
    assert [len(batch) for batch in broker.batches()] == [2]


def test_one_relay_a_host(settings: Settings) -> None:
    with host_lock(get_store()), pytest.raises(HostLockTaken), host_lock(get_store()):
        pass
    with host_lock(get_store()):
        pass


def test_a_message_carries_the_outbox_rows_unchanged(broker: Broker) -> None:
    take(2)
    rows = get_store().outbox.waiting(0, 10)
    Relay(get_store()).step()
    (batch,) = broker.batches()
    assert [Record.from_row(columns) for columns in batch] == [row.record for row in rows]


def test_a_wiped_redis_is_rebuilt_from_the_archive(broker: Broker, redis_tier: Redis) -> None:
    take(3)
    relay = Relay(get_store())
    relay.step()
    work(broker.batches()[0])
    ends = {key: redis_tier.ttl(key) for key in redis_tier.scan_iter("*:record:*")}
    redis_tier.flushdb()
    assert persistence.rebuild(get_store()) == 3
    assert {key: pytest.approx(redis_tier.ttl(key), abs=2) for key in redis_tier.scan_iter("*:record:*")} == ends


def test_with_eager_tasks_the_relay_archives_without_a_worker(broker: Broker) -> None:
    take(3)
    celery_app.conf.update(task_always_eager=True)
    try:
        assert Relay(get_store()).drain(timeout_s=60)
    finally:
        celery_app.conf.update(task_always_eager=False)
    assert (Trajectory.objects.count(), broker.batches()) == (3, [])
