"""Log lines of the relay: which server is unavailable, and how many records wait for it."""

from __future__ import annotations

import logging
import time
from datetime import datetime

from django.conf import settings as django_settings
from django.db import Error as DatabaseError
from django.db import connections
from django.utils import timezone
from kombu.exceptions import OperationalError as BrokerError

from trajectories import tasks
from trajectories.domain.clock import SECOND_US
from trajectories.exceptions import Unavailable
from trajectories.storage import archive_writes
from trajectories.storage.archive_errors import ArchiveError
from trajectories.storage.redis_tier import RedisError
from trajectories.storage.store import IdentityUnknown, Store

logger = logging.getLogger("trajectories.relay")

_EVERY_S = 60.0
"""Minimum time between two lines about the same server."""
_LOOK_EVERY_S = 5.0


class RelayLog:
    """Log each unavailable server, and a queue without a worker, at most once a minute."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._warned_at: dict[str, float] = {}
        self._looked_at = self._failed_at = float("-inf")

    def failed(self, error: Exception) -> None:
        """Log which server ``error`` comes from, and how many records wait."""
        self._failed_at = time.monotonic()
        if isinstance(error, Unavailable):
            self._warn("The outbox", error.message)
            return
        server = self._server(error)
        if isinstance(error, DatabaseError) and not isinstance(error, ArchiveError):
            # A fault of this program: the traceback says where.
            self._warn(server, f"{server} refuses a statement: {self._waiting()}", error)
        else:
            self._warn(server, f"{server} is unavailable: {self._waiting()} The error: {error}")

    def look_for_stuck_records(self) -> None:
        """Log a warning if the oldest record waits for longer than a worker may need.

        After a failure of a server, wait a minute: that failure is the cause, and has a line.

        Raises:
            kombu.exceptions.OperationalError: the broker is unavailable.
        """
        now = time.monotonic()
        if now - self._looked_at < _LOOK_EVERY_S or now - self._failed_at < _EVERY_S:
            return
        self._looked_at = now
        oldest = self._store.outbox.waiting(0, 1)
        patience_us = self._store.conf.resend_after_s * SECOND_US
        if oldest and self._store.now_us() - oldest[0].record.stamp >= patience_us:
            self._warn("the worker", f"{self._waiting()} {self._advice()}")

    def _advice(self) -> str:
        queue = tasks.queue_name(self._store.queue)
        if count := tasks.waiting_messages(queue):
            messages = "1 message" if count == 1 else f"{count} messages"
            return (
                f"No worker has taken {messages} of the queue {queue!r}: start a worker that consumes it "
                f"(celery worker -Q {queue}), or more of them."
            )
        return f"A worker took their messages from the queue {queue!r} without archiving the records: see its log."

    def _waiting(self) -> str:
        try:
            counts = self._store.outbox.counts()
        except Unavailable as error:
            return error.message
        if counts.oldest_waiting_us is None:
            return "no record waits for it."
        records = "1 record has" if counts.waiting == 1 else f"{counts.waiting} records have"
        kept = "it is" if counts.waiting == 1 else "they are"
        return f"{records} been waiting since {_clock_time(counts.oldest_waiting_us)}; {kept} kept in the outbox."

    def _server(self, error: Exception) -> str:
        """Return the name of the server that ``error`` comes from, with its address."""
        if isinstance(error, BrokerError):
            return f"Celery's broker {tasks.broker_address()}"
        if isinstance(error, RedisError) and not isinstance(error, IdentityUnknown):
            location = django_settings.CACHES[self._store.conf.cache_alias]["LOCATION"]
            return f"The Redis tier {tasks.without_passwords(location)}"
        connection = connections[archive_writes.alias()]
        return f"The archive (database {connection.alias!r}, {connection.vendor})"

    def _warn(self, subject: str, text: str, fault: Exception | None = None) -> None:
        if time.monotonic() - self._warned_at.get(subject, float("-inf")) >= _EVERY_S:
            self._warned_at[subject] = time.monotonic()
            logger.warning("%s", text, exc_info=fault)


def _clock_time(at_us: int) -> str:
    """Return a time in TIME_ZONE, with the date unless it is today."""
    zone = timezone.get_default_timezone()
    at = datetime.fromtimestamp(at_us // SECOND_US, zone)
    return f"{at:%H:%M:%S}" if at.date() == datetime.now(zone).date() else f"{at:%Y-%m-%d %H:%M:%S}"
