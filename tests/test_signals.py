"""Signals report archived and deleted records to a host project."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.dispatch import Signal
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings
from redis import Redis
from redis.exceptions import RedisError

from tests.storage.hosts import TENANT
from tests.test_persistence import poisoned, record
from trajectories import persistence
from trajectories.domain.record import tombstone
from trajectories.models import Quarantined, Trajectory
from trajectories.services import deletion
from trajectories.signals import trajectory_archived, trajectory_deleted
from trajectories.storage.redis_tier import RedisTier
from trajectories.storage.store import get_store

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_tier")]

BESIDE = "zebra"


class Heard:
    """The signals that a receiver got, as (tenant, ids) pairs."""

    def __init__(self, signal: Signal) -> None:
        self.calls: list[tuple[str, set[UUID]]] = []
        self.was_in_transaction = False
        signal.connect(self.hear)

    def hear(self, *, sender: type[Trajectory], tenant: str, ids: list[UUID], **_: Any) -> None:
        assert sender is Trajectory
        self.was_in_transaction |= connection.in_atomic_block
        self.calls.append((tenant, set(ids)))


@pytest.fixture
def archived() -> Iterator[Heard]:
    heard = Heard(trajectory_archived)
    yield heard
    trajectory_archived.disconnect(heard.hear)


@pytest.fixture
def deleted() -> Iterator[Heard]:
    heard = Heard(trajectory_deleted)
    yield heard
    trajectory_deleted.disconnect(heard.hear)


def test_each_tenant_of_a_batch_is_one_signal_after_the_commit(archived: Heard, deleted: Heard) -> None:
    ours, others = [record(), record(1)], [record(tenant=BESIDE)]
    persistence.persist(get_store(), [ours[0], *others, ours[1]])
    assert archived.calls == [(TENANT, {one.id for one in ours}), (BESIDE, {others[0].id})]
    assert not archived.was_in_transaction
    assert deleted.calls == []


def test_a_record_that_the_archive_refuses_is_not_announced_until_it_is_replayed(archived: Heard) -> None:
    good, poison = record(), poisoned(record(1))
    persistence.persist(get_store(), [good, poison])
    assert archived.calls == [(TENANT, {good.id})]
    quarantined = Quarantined.objects.get()
    Quarantined.objects.update(body=record(1, id_=poison.id).body)
    assert persistence.replay(get_store(), quarantined.pk)
    assert archived.calls[1:] == [(TENANT, {poison.id})]


def test_deleted_ids_are_announced_by_the_request_the_worker_and_retention(archived: Heard, deleted: Heard) -> None:
    first, second = record(), record(1)
    store = get_store()
    persistence.persist(store, [first, second])
    deletion.delete_ids(store, TENANT, [first.id])
    assert deleted.calls == [(TENANT, {first.id})]
    persistence.persist(store, [tombstone(TENANT, first.id, store.now_us())])
    assert persistence.prune(store, TENANT, store.now_us() + 10**9, 10) == 1
    assert deleted.calls[1:] == [(TENANT, {first.id}), (TENANT, {second.id})]
    assert len(archived.calls) == 1


def test_a_receiver_that_fails_is_logged_and_the_batch_is_archived(
    archived: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(**_: Any) -> None:
        raise LookupError("a fault of the host")

    trajectory_archived.connect(fail)
    try:
        one = record()
        persistence.persist(get_store(), [one])
    finally:
        trajectory_archived.disconnect(fail)
    assert archived.calls == [(TENANT, {one.id})]
    assert Trajectory.objects.filter(trajectory_id=one.id).exists()
    assert "a fault of the host" in caplog.text


def test_signals_of_a_killed_worker_are_sent_when_another_completes_its_batch(
    archived: Heard, deleted: Heard, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.TRAJECTORIES = settings.TRAJECTORIES | {"SETTLE_AFTER_S": 0.0}
    store, kept, gone = get_store(), record(), record(1)
    persistence.persist(store, [gone])
    with monkeypatch.context() as ended:
        # The worker ends after its commit: neither the signals nor what follows them happens.
        def end(*_: Any) -> None:
            raise KeyboardInterrupt

        ended.setattr(persistence, "_send_signals", end)
        with pytest.raises(KeyboardInterrupt):
            persistence.persist(store, [kept, tombstone(TENANT, gone.id, store.now_us())])
    archived.calls.clear()
    assert persistence.settle(store) == 1
    assert (archived.calls, deleted.calls) == ([(TENANT, {kept.id})], [(TENANT, {gone.id})])


def test_a_redis_failure_after_the_commit_does_not_lose_the_signal(
    archived: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RedisError("away")

    monkeypatch.setattr(RedisTier, "close_batch", fail)
    one = record()
    with pytest.raises(RedisError):
        persistence.persist(get_store(), [one])
    assert archived.calls == [(TENANT, {one.id})]


def test_completing_a_batch_makes_no_query_without_signal_receivers(redis_tier: Redis, settings: Settings) -> None:
    settings.TRAJECTORIES = settings.TRAJECTORIES | {"SETTLE_AFTER_S": 0.0}
    store, one = get_store(), record()
    counts = []
    for is_heard in (False, True):
        heard = Heard(trajectory_deleted) if is_heard else None
        store.redis_tier.open_batch([(TENANT, one.id)])
        with CaptureQueriesContext(connection) as asked:
            persistence.settle(store)
        counts.append(len(asked))
        if heard:
            trajectory_deleted.disconnect(heard.hear)
    assert counts[1] == counts[0] + 1
