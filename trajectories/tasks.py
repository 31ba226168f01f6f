"""Celery tasks: thin wrappers around ``persistence``.

Tasks are acknowledged early and their results are ignored; the relay resends lost batches.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from celery import current_app, shared_task
from kombu.exceptions import OperationalError
from kombu.utils.url import maybe_sanitize_url

from trajectories import persistence
from trajectories.domain.record import Record
from trajectories.exceptions import StoreMismatch
from trajectories.storage.archive_errors import ArchiveError
from trajectories.storage.redis_tier import RedisError
from trajectories.storage.store import get_store

logger = logging.getLogger(__name__)

_RETAIN_BATCHES = 200
"""Limit of one run, so that it does not delay the worker's batches for long."""

Message: TypeAlias = list[list[str | int]]
"""Records as JSON: tenant, id, stamp, digest, revision, recorded_at_us, body."""


@shared_task(name="trajectories.persist", ignore_result=True, acks_late=False)
def persist(message: Message, store: str | None = None) -> None:
    _work(
        store,
        lambda: persistence.persist(get_store(), [Record.from_row(columns) for columns in message]),
        f"A batch of {len(message)} was not persisted; it will be sent again",
    )


@shared_task(name="trajectories.rebuild", ignore_result=True, acks_late=False)
def rebuild(store: str | None = None) -> None:
    _work(store, lambda: persistence.rebuild(get_store()), "Redis was not rebuilt; the next attempt follows")


@shared_task(name="trajectories.settle", ignore_result=True, acks_late=False)
def settle(store: str | None = None) -> None:
    _work(store, lambda: persistence.settle(get_store()), "Open batches were not settled; the next attempt follows")


@shared_task(name="trajectories.retain", ignore_result=True, acks_late=False)
def retain(store: str | None = None) -> None:
    _work(
        store,
        lambda: persistence.retain(get_store(), _RETAIN_BATCHES),
        "Not all records past their retention were deleted; the next run continues",
    )


def _work(store: str | None, work: Callable[[], object], failure: str) -> None:
    """Do ``work`` if it is of this store; log a failure. The relay sends the task again.

    Args:
        store: the identity that the relay put into the message; None in those of earlier releases.
    """
    try:
        get_store().expect(store)
        work()
    except StoreMismatch as error:
        logger.error("%s: %s", failure, error.message)
    except (RedisError, ArchiveError) as error:
        logger.warning("%s: %s", failure, error)


def message_of(records: Sequence[Record]) -> Message:
    """Return the argument of ``persist``. Bodies are text, so no JSON library reformats numbers."""
    return [record.to_text_row() for record in records]


def send(task: Any, *args: Any, queue: str | None) -> None:
    """Publish without waiting for an unavailable broker.

    Raises:
        kombu.exceptions.OperationalError: the broker is unavailable.
    """
    if get_store().is_eager:
        task.apply(args, throw=True)
        return
    task.apply_async(args, queue=queue, retry=False)


def queue_name(queue: str | None) -> str:
    """Return the name of the queue of a setting; None stands for the app's default queue."""
    return str(queue or current_app.conf.task_default_queue)


def broker_address() -> str:
    """Return the URL of the broker as the settings name it, without passwords."""
    return without_passwords(current_app.conf.broker_write_url or "amqp://localhost")


def without_passwords(urls: str | Sequence[str]) -> str:
    """Return one or several URLs as text for a log, passwords and queries removed."""
    each = urls.split(";") if isinstance(urls, str) else urls
    return ";".join(maybe_sanitize_url(url.strip()) for url in each)


def is_consumed(queue: str | None, timeout_s: float) -> bool:
    """Return whether a worker that answers within ``timeout_s`` consumes the queue.

    Raises:
        kombu.exceptions.OperationalError: the broker is unavailable.
    """
    with current_app.connection_for_write() as connection:
        try:
            answers = current_app.control.inspect(timeout=timeout_s, connection=connection).active_queues()
        except (*connection.connection_errors, *connection.channel_errors) as error:
            raise OperationalError(str(error)) from error
    return any(consumed["name"] == queue_name(queue) for queues in (answers or {}).values() for consumed in queues)


def waiting_messages(queue: str | None) -> int:
    """Count the messages in the queue that no worker has taken yet.

    Raises:
        kombu.exceptions.OperationalError: the broker is unavailable.
    """
    if get_store().is_eager:
        return 0
    with current_app.connection_for_write() as connection:
        try:
            channel: Any = connection.channel()
            return int(channel.queue_declare(queue=queue_name(queue), passive=True).message_count)
        except connection.channel_errors:
            return 0  # no such queue yet; some brokers drop an empty one
        except connection.connection_errors as error:
            raise OperationalError(str(error)) from error
