"""Celery tasks: thin wrappers around ``persistence``.

Tasks are acknowledged early and their results are ignored; the relay resends lost batches. Each
message is signed, so that a client of the broker cannot write records.
"""

from __future__ import annotations

import hmac
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import orjson
from celery import current_app, shared_task
from django.conf import settings
from django.utils.crypto import salted_hmac
from kombu.exceptions import OperationalError
from kombu.utils.url import maybe_sanitize_url

from trajectories import persistence
from trajectories.domain.compression import body_of, text_of
from trajectories.domain.record import Record
from trajectories.exceptions import StoreMismatch
from trajectories.storage import redis_tier
from trajectories.storage.archive_errors import ArchiveError
from trajectories.storage.redis_tier import RedisError
from trajectories.storage.store import get_store

logger = logging.getLogger(__name__)

_RETAIN_BATCHES = 200
"""Limit of one run, so that it does not delay the worker's batches for long."""

_ROLL_UP_RECORDS = 100_000

Message: TypeAlias = list[list[str | int]]
"""Records as JSON: tenant, id, stamp, digest, revision, recorded_at_us, body as ``text_of`` has it."""


_SALT = "trajectories.tasks"
_SIGNATURE = "trajectories_signature"
_PROBE_EXPIRES_S = 60.0
_PROBE_LOOK_EVERY_S = 0.02


# A host project's defaults for its own tasks do not apply to these. A rate limit of 0 is none.
OPTIONS: dict[str, Any] = {"ignore_result": True, "acks_late": False, "rate_limit": 0, "bind": True}
# A limit of a minute would end work that grows with the archive each time, and a rebuild begins anew.
# Celery takes a soft limit only if it is at most the other one.
LONG: dict[str, Any] = {"soft_time_limit": 86_400, "time_limit": 86_400}


@shared_task(name="trajectories.persist", **OPTIONS)
def persist(self: Any, message: Message, store: str | None = None) -> None:
    if is_signed(self, message, store):
        _work(
            store,
            lambda: persistence.persist(get_store(), records_of(message)),
            f"A batch of {len(message)} was not persisted; it will be sent again",
        )


@shared_task(name="trajectories.rebuild", **OPTIONS, **LONG)
def rebuild(self: Any, store: str | None = None) -> None:
    if is_signed(self, store):
        _work(store, lambda: persistence.rebuild(get_store()), "Redis was not rebuilt; the next attempt follows")


@shared_task(name="trajectories.settle", **OPTIONS)
def settle(self: Any, store: str | None = None) -> None:
    if is_signed(self, store):
        _work(store, lambda: persistence.settle(get_store()), "Open batches were not settled; the next attempt follows")


@shared_task(name="trajectories.retain", **OPTIONS, **LONG)
def retain(self: Any, store: str | None = None) -> None:
    if is_signed(self, store):
        _work(
            store,
            lambda: persistence.retain(get_store(), _RETAIN_BATCHES),
            "Not all records past their retention were deleted; the next run continues",
        )
        _work(
            store, lambda: persistence.roll_up(_ROLL_UP_RECORDS), "Roll-ups were not completed; the next run continues"
        )


@shared_task(name="trajectories.probe", **OPTIONS)
def probe(self: Any, name: str) -> None:
    """Answer ``is_consumed`` of this store."""
    if not is_signed(self, name):
        return
    try:
        store = get_store()
        if name.startswith(store.identity):
            redis_tier.answer_probe(store.conf, name)
    except RedisError as error:
        logger.warning("A check of the queue was not answered: %s", error)


def _work(store: str | None, work: Callable[[], object], failure: str) -> None:
    """Do ``work`` if it is of this store; log a failure. The relay sends the task again.

    Args:
        store: the identity that the relay put into the message.
    """
    try:
        get_store().expect(store)
        work()
    except StoreMismatch as error:
        logger.error("%s: %s", failure, error.message)
    except (RedisError, ArchiveError) as error:
        logger.warning("%s: %s", failure, error)


def signed(task: Any, *args: Any) -> dict[str, str]:
    """Return the headers of a message, which prove that a process with this SECRET_KEY sent it.

    A header, because a worker of an earlier release ignores it.
    """
    return {_SIGNATURE: _signature(settings.SECRET_KEY, task.name, args)}


def is_signed(task: Any, *args: Any) -> bool:
    """Return whether the task's message has its signature; log a message without.

    Messages of releases without signatures have none. Their relays send the records again, until
    they are replaced.
    """
    given = str((task.request.headers or {}).get(_SIGNATURE, ""))
    try:
        expected = [_signature(key, task.name, args) for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)]
    except (TypeError, ValueError):  # arguments that no process of this store sends
        expected = []
    if any(hmac.compare_digest(one.encode(), given.encode()) for one in expected):
        return True
    logger.error(
        "A message of %s was refused: it %s. Give web processes and workers the same SECRET_KEY; if they have it, "
        "something else writes to the broker.",
        task.name,
        "is signed with another SECRET_KEY" if given else "has no signature",
    )
    return False


def _signature(secret: str | bytes, name: str, args: Sequence[Any]) -> str:
    return salted_hmac(_SALT, orjson.dumps([name, *args]), secret=secret, algorithm="sha256").hexdigest()


def message_of(records: Sequence[Record], *, is_compressing: bool) -> Message:
    """Return the argument of ``persist``.

    Args:
        is_compressing: the setting ``compress_bodies``. JSON libraries take twenty times as long to
            escape a body as zstd takes to compress it.
    """
    text = text_of if is_compressing else bytes.decode
    return [[r.tenant, str(r.id), r.stamp, r.digest, r.revision, r.recorded_at_us, text(r.body)] for r in records]


def records_of(message: Message) -> list[Record]:
    """Return the records of ``message_of``, of whichever form.

    Raises:
        UnreadableBody: a release with another dictionary compressed a body.
    """
    return [Record.from_row((*stamps, body_of(str(text)))) for *stamps, text in message]


def send(task: Any, *args: Any, queue: str | None, expires_s: float | None = None) -> None:
    """Publish a signed message without waiting for an unavailable broker.

    Raises:
        kombu.exceptions.OperationalError: the broker is unavailable.
    """
    headers = signed(task, *args)
    if get_store().is_eager:
        task.apply(args, headers=headers, throw=True)
        return
    task.apply_async(args, queue=queue, retry=False, headers=headers, expires=expires_s)


def queue_name(queue: str | None) -> str:
    """Return the name of the queue of a setting; None stands for the one that the project's routes
    choose.

    Celery's routes do not apply where ``queue`` is given.
    """
    if queue:
        return queue
    routed = current_app.amqp.router.route({}, persist.name).get("queue")
    return str(getattr(routed, "name", routed) or current_app.conf.task_default_queue)


def broker_address() -> str:
    """Return the URL of the broker as the settings name it, without passwords."""
    return without_passwords(current_app.conf.broker_write_url or "amqp://localhost")


def without_passwords(urls: str | Sequence[str]) -> str:
    """Return one or several URLs as text for a log, passwords and queries removed."""
    each = urls.split(";") if isinstance(urls, str) else urls
    return ";".join(maybe_sanitize_url(url.strip()) for url in each)


def is_consumed(queue: str | None, timeout_s: float) -> bool:
    """Return whether a worker answers a message in the queue within ``timeout_s``.

    The worker needs the same broker, SECRET_KEY, Redis tier and store as this process. On a queue
    that several stores use, another store's worker may take the message.

    Raises:
        kombu.exceptions.OperationalError: the broker is unavailable.
        RedisError: the Redis tier is unavailable, so no answer can arrive; or the identity of the
            store is not known.
    """
    name, until = f"{get_store().identity}-{secrets.token_hex(16)}", time.monotonic() + timeout_s
    send(probe, name, queue=queue_name(queue), expires_s=_PROBE_EXPIRES_S)
    while not (is_answered := redis_tier.take_answer(get_store().conf, name)) and time.monotonic() < until:
        time.sleep(_PROBE_LOOK_EVERY_S)
    return is_answered


def waiting_messages(queue: str | None) -> int:
    """Count the messages in the queue that no worker has taken yet.

    Raises:
        kombu.exceptions.OperationalError: the broker is unavailable.
    """
    if get_store().is_eager or current_app.conf.task_always_eager:
        return 0
    with current_app.connection_for_write() as connection:
        try:
            channel: Any = connection.channel()
            return int(channel.queue_declare(queue=queue_name(queue), passive=True).message_count)
        except connection.channel_errors:
            return 0  # no such queue yet; some brokers drop an empty one
        except connection.connection_errors as error:
            raise OperationalError(str(error)) from error
