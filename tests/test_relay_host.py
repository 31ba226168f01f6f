"""The relay of a host: one at a time, ended with its process, restarted after failures; what it
settles and cleans up."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson
import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_started
from django.test.client import AsyncClientHandler, ClientHandler
from pytest_django import Settings
from redis import Redis

from tests.examples import body
from tests.processes import wait_until
from tests.storage.forks import forked
from tests.storage.hosts import TENANT, draft, new_id, taken
from trajectories import persistence, relay, test_environment
from trajectories.domain.record import Record, digest_of
from trajectories.relay import HostLockTaken, Relay, RelayThread, host_lock
from trajectories.services import ingest
from trajectories.storage.redis_tier import RETAINING
from trajectories.storage.store import get_store
from trajectory_site.celery import app as celery_app

pytestmark = pytest.mark.django_db(transaction=True)  # a relay asks the archive from its first step on

Configure = Callable[..., None]


@pytest.fixture
def configure(settings: Settings, trajectories_settings: dict[str, Any]) -> Configure:
    def configure(**values: Any) -> None:
        settings.TRAJECTORIES = trajectories_settings | values

    return configure


@pytest.fixture
def threads() -> Iterator[Callable[[], RelayThread]]:
    """Relay threads that are stopped with the test."""
    made: list[RelayThread] = []

    def start() -> RelayThread:
        made.append(RelayThread(get_store()))
        made[-1].start()
        return made[-1]

    yield start
    for thread in made:
        thread.stop()
    relay.stop()


def is_relay_here() -> bool:
    try:
        with host_lock(get_store()):
            return False
    except HostLockTaken:
        return True


def take(count: int = 1) -> list[Record]:
    return [ingest.record(get_store(), TENANT, orjson.dumps(body(error=str(number)))).record for number in range(count)]


def queued(broker_url: str) -> list[str]:
    """Return the names of the queued tasks, oldest first."""
    with Redis.from_url(broker_url) as broker:
        texts = broker.lrange(celery_app.conf.task_default_queue, 0, -1)
    return [orjson.loads(text)["headers"]["task"] for text in reversed(texts)]


# One at a time.


def test_another_thread_becomes_the_relay_when_the_first_one_stops(threads: Callable[[], RelayThread]) -> None:
    first = threads()
    wait_until(is_relay_here)
    second = threads()
    assert second.is_alive()
    first.stop()
    wait_until(is_relay_here, what="the second has taken over")
    second.stop()
    assert not is_relay_here()


def test_a_child_does_not_keep_the_lock_of_a_parent_that_is_not_the_relay_any_more() -> None:
    """The lock belongs to the open file, which a forked child inherits."""
    with ExitStack() as children:
        with host_lock(get_store()):
            children.enter_context(forked(signal.pause))
        wait_until(lambda: not is_relay_here(), what="the child has let go of it")


@pytest.mark.usefixtures("outside_tests")
def test_a_forked_child_becomes_the_relay_once_its_parent_stops_being_it(configure: Configure) -> None:
    configure(RELAY_IN_PROCESS=True)
    relay.start()
    try:
        wait_until(is_relay_here)
        with forked(signal.pause):
            relay.stop()
            wait_until(is_relay_here, what="the child has taken over")
        wait_until(lambda: not is_relay_here(), what="the child is gone")
    finally:
        relay.stop()


def running() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if isinstance(thread, RelayThread)]


@pytest.mark.usefixtures("outside_tests")
def test_a_disabled_relay_starts_no_thread_and_repeated_starts_make_only_one(configure: Configure) -> None:
    relay.start()
    assert running() == []
    configure(RELAY_IN_PROCESS=True)
    try:
        for _ in range(3):
            relay.start()
        assert len(running()) == 1
    finally:
        relay.stop()
    assert running() == []


@pytest.mark.parametrize("sender", [ClientHandler, AsyncClientHandler])
@pytest.mark.usefixtures("outside_tests")
def test_a_request_of_a_test_client_starts_no_relay_outside_of_tests_either(configure: Configure, sender: type) -> None:
    configure(RELAY_IN_PROCESS=True)
    request_started.send(sender=sender, environ={})
    assert running() == []
    try:
        request_started.send(sender=WSGIHandler, environ={})
        assert len(running()) == 1
    finally:
        relay.stop()


@pytest.mark.parametrize("how", ["pytest", "setup_test_environment"])
def test_no_relay_starts_while_tests_run(configure: Configure, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Both runners are on here; each alone is enough."""
    configure(RELAY_IN_PROCESS=True)
    if how == "pytest":
        monkeypatch.delattr("django.test.utils._TestState.saved_data")
    else:
        monkeypatch.setattr(test_environment, "is_pytest_session", False)
    relay.start()
    request_started.send(sender=WSGIHandler, environ={})
    assert running() == []


def test_a_relay_that_stumbles_over_something_unforeseen_begins_again(
    configure: Configure, threads: Callable[[], RelayThread], tmp_path: Path
) -> None:
    in_the_way = tmp_path / "directory"
    in_the_way.write_text("a file where a directory should be")
    configure(OUTBOX_PATH=str(in_the_way / "outbox.sqlite3"))
    thread = threads()
    wait_until(thread.is_alive)
    in_the_way.unlink()
    wait_until(
        lambda: (in_the_way / "outbox.sqlite3.relay.lock").exists() and is_relay_here(), what="it has begun again"
    )


# Settling and pruning.


def test_a_refused_version_is_marked_and_not_sent_again(
    redis_tier: Redis, celery_broker: str, configure: Configure
) -> None:
    configure(RESEND_AFTER_S=0.0)
    good, poison = draft(new_id()), draft(new_id())
    too_much = orjson.dumps(orjson.loads(poison.body) | {"total_cost_usd": 10**12})
    rows = [
        one.row
        for one in taken(get_store().outbox.append([good, poison._replace(body=too_much, digest=digest_of(too_much))]))
    ]
    persistence.persist(get_store(), [row.record for row in rows])
    working = Relay(get_store())
    working.step()
    working._batches[0].look_at = 0.0
    working.step()
    assert [row.state for row in get_store().outbox.rows_after(0, 10)] == ["confirmed", "quarantined"]
    assert not working.step()


def test_a_partial_batch_waits_briefly_and_a_full_one_is_sent_at_once(
    redis_tier: Redis, celery_broker: str, configure: Configure
) -> None:
    configure(BATCH_MAX_RECORDS=3)
    working = Relay(get_store())
    working._sent_at = time.monotonic() + 3_600
    take(2)
    working.step()
    assert "trajectories.persist" not in queued(celery_broker)
    take(1)
    working.step()
    assert queued(celery_broker).count("trajectories.persist") == 1
    take(2)
    working._sent_at = 0.0
    working.step()
    assert queued(celery_broker).count("trajectories.persist") == 2


@pytest.mark.parametrize(("records", "is_waiting"), [(9, False), (10, True)])
def test_batches_are_rarer_under_load(
    redis_tier: Redis, celery_broker: str, monkeypatch: pytest.MonkeyPatch, records: int, is_waiting: bool
) -> None:
    monkeypatch.setattr(relay, "_SEND_EVERY_S", 0.0)
    monkeypatch.setattr(relay, "_SEND_UNDER_LOAD_S", 3_600.0)
    working = Relay(get_store())
    take(records)
    working.step()
    take(1)
    working.step()
    assert queued(celery_broker).count("trajectories.persist") == 2 - is_waiting


def test_a_redis_that_is_not_trusted_is_rebuilt_by_one_task(redis_tier: Redis, celery_broker: str) -> None:
    assert get_store().redis_tier.claim(RETAINING, 600)  # which is another task
    for _ in range(3):
        Relay(get_store()).step()
    assert queued(celery_broker) == ["trajectories.rebuild"]
    persistence.rebuild(get_store())
    Relay(get_store()).step()
    assert queued(celery_broker) == ["trajectories.rebuild"]
    assert get_store().redis_tier.is_trusted()


def test_rows_are_deleted_a_while_after_the_archive_has_them(
    redis_tier: Redis, celery_broker: str, configure: Configure
) -> None:
    take(3)
    rows = get_store().outbox.waiting(0, 10)
    persistence.persist(get_store(), [row.record for row in rows[:2]])
    get_store().outbox.settle([row.n for row in rows[:2]])
    Relay(get_store()).step()
    assert len(get_store().outbox.rows_after(0, 10)) == 3
    configure(OUTBOX_KEEP_CONFIRMED_S=0.0)
    Relay(get_store()).step()
    assert [row.n for row in get_store().outbox.rows_after(0, 10)] == [rows[2].n]


def test_draining_ends_once_nothing_waits_and_says_so_if_it_gave_up(redis_tier: Redis, celery_broker: str) -> None:
    records = take(2)
    assert not Relay(get_store()).drain(timeout_s=0)
    persistence.persist(get_store(), records)
    assert Relay(get_store()).drain(timeout_s=30)
    assert get_store().outbox.waiting(0, 10) == []


def test_a_relay_sends_and_confirms_rows_from_before_its_start(
    redis_tier: Redis, celery_broker: str, threads: Callable[[], RelayThread]
) -> None:
    records = take(3)
    threads()
    wait_until(lambda: "trajectories.persist" in queued(celery_broker), what="it has sent them")
    persistence.persist(get_store(), records)
    wait_until(lambda: not get_store().outbox.waiting(0, 1), what="it has confirmed them")
