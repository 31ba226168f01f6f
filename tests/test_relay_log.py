"""The relay's log names the server at fault and the records that wait for it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime
from types import SimpleNamespace

import pytest
from django.db import DatabaseError, connection
from django.utils import timezone
from pytest_django import Settings
from redis import Redis

from tests.conftest import publish_to
from tests.storage.away import archive_away
from tests.storage.hosts import draft, new_id, taken
from trajectories import persistence, tasks
from trajectories.domain.clock import SECOND_US
from trajectories.relay import Relay
from trajectories.relay_log import RelayLog
from trajectories.storage.store import Store, get_store

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_tier")]

BROKER_AWAY = "redis://:secret@127.0.0.1:1/1"


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return the warnings of the relay since the last call."""
    caplog.set_level(logging.WARNING, "trajectories.relay")

    def lines() -> list[str]:
        found = [record.getMessage() for record in caplog.records if record.name == "trajectories.relay"]
        caplog.clear()
        return found

    return lines


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Move the clock of the log forward by some seconds."""

    def later(seconds: float) -> None:
        clock = SimpleNamespace(monotonic=lambda: time.monotonic() + seconds)
        monkeypatch.setattr("trajectories.relay_log.time", clock)

    return later


def append(count: int, *, waiting_s: float = 0.0) -> Store:
    """Return a store whose outbox holds records that were accepted some seconds ago."""
    store = get_store()
    now_us = store.now_us() - round(waiting_s * SECOND_US)
    earlier = Store(store.conf, now_us=lambda: now_us)
    taken(earlier.outbox.append([draft(new_id()) for _ in range(count)]))
    return store


def since(store: Store) -> str:
    at_us = store.outbox.counts().oldest_waiting_us
    assert at_us is not None
    return f"{datetime.fromtimestamp(at_us / SECOND_US, timezone.get_default_timezone()):%H:%M:%S}"


@pytest.mark.django_db
def test_a_failing_statement_is_logged_with_traceback_and_not_as_an_outage(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(DatabaseError) as refused, connection.cursor() as cursor:
        cursor.execute("SELECT nonsense(")
    RelayLog(append(1)).failed(refused.value)
    (record,) = caplog.records
    assert "The archive (database 'default', sqlite) refuses a statement: 1 record has been waiting" in record.message
    assert record.exc_info
    assert record.exc_info[1] is refused.value


def test_a_broker_that_is_away_is_named_without_its_password_and_redis_is_not_blamed(
    celery_broker: str, lines: Callable[[], list[str]]
) -> None:
    store = append(12)
    publish_to(BROKER_AWAY)
    working = Relay(store)
    working.step()
    (line,) = lines()
    assert line.startswith(
        f"Celery's broker redis://:**@127.0.0.1:1/1 is unavailable: 12 records have been waiting since {since(store)}; "
        "they are kept in the outbox. The error: "
    )
    working.step()
    assert lines() == []


def test_a_redis_tier_that_is_away_is_named_without_its_password(
    celery_broker: str, settings: Settings, lines: Callable[[], list[str]]
) -> None:
    away = settings.CACHES["trajectories"] | {"LOCATION": "redis://:secret@127.0.0.1:1/2"}
    settings.CACHES = settings.CACHES | {"trajectories": away}
    Relay(append(1)).step()
    (line,) = lines()
    assert line.startswith("The Redis tier redis://:**@127.0.0.1:1/2 is unavailable: 1 record has been waiting since ")
    assert "it is kept in the outbox." in line


def test_an_archive_that_is_away_is_named_by_its_alias(celery_broker: str, lines: Callable[[], list[str]]) -> None:
    with archive_away():
        Relay(get_store()).step()
    (line,) = lines()
    assert line.startswith(
        "The archive (database 'default', sqlite) is unavailable: no record waits for it. The error: "
    )


def test_each_server_has_a_line_of_its_own_once_a_minute(
    celery_broker: str, lines: Callable[[], list[str]], later: Callable[[float], None]
) -> None:
    working = Relay(append(1))
    publish_to(BROKER_AWAY)
    with archive_away():
        working.step()
    assert sorted(line.split()[1] for line in lines()) == ["archive", "broker"]
    working.step()
    assert lines() == []
    later(60)
    working.step()
    assert [line.split()[1] for line in lines()] == ["broker"]


def test_without_a_worker_a_log_line_a_minute_names_backlog_and_queue(
    celery_broker: str, settings: Settings, lines: Callable[[], list[str]], later: Callable[[float], None]
) -> None:
    settings.TRAJECTORIES = settings.TRAJECTORIES | {"QUEUE": "runs"}
    store = append(2, waiting_s=31)
    working = Relay(store)
    working.step()
    (line,) = lines()
    assert line.startswith(f"2 records have been waiting since {since(store)}; they are kept in the outbox. ")
    assert "of the queue 'runs': start a worker that consumes it (celery worker -Q runs)" in line
    later(59)
    working.step()
    assert lines() == []
    later(65)
    working.step()
    assert len(lines()) == 1


def test_a_worker_that_takes_messages_and_archives_nothing_is_not_called_missing(
    celery_broker: str, lines: Callable[[], list[str]]
) -> None:
    working = Relay(append(1, waiting_s=31))
    working._send()
    with Redis.from_url(celery_broker) as broker:
        broker.delete(tasks.queue_name(None))
    working._log.look_for_stuck_records()
    (line,) = lines()
    assert line.endswith(
        "A worker took their messages from the queue 'trajectories' without archiving the records: see its log."
    )


def test_records_that_wait_for_a_server_that_failed_are_not_blamed_on_a_worker(
    celery_broker: str, lines: Callable[[], list[str]], later: Callable[[float], None]
) -> None:
    working = Relay(append(1, waiting_s=31))
    with archive_away():
        working.step()
    later(10)
    working.step()
    assert [line.split()[1] for line in lines()] == ["archive"]
    later(60)
    working.step()
    assert "start a worker" in lines()[0]


def test_records_that_wait_briefly_or_are_archived_are_not_reported(
    celery_broker: str, lines: Callable[[], list[str]]
) -> None:
    store = append(1, waiting_s=40)
    rows = store.outbox.waiting(0, 10)
    persistence.persist(store, [row.record for row in rows])
    store.outbox.settle([row.n for row in rows])
    append(1, waiting_s=25)
    Relay(store).step()
    assert lines() == []
