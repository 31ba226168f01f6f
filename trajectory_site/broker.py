"""Redis as a broker of messages that are sent again until their work is done.

Kombu notes in Redis which messages a worker has taken, so that another worker can take them over.
The worker ends if Redis refuses the note (at ``maxmemory``, on a replica), or if it cannot put
messages back because Redis is down. The relay sends again every record that is not in the archive.
This broker therefore keeps no notes, and a worker outlives its broker.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

from kombu.transport import redis, virtual
from redis import ResponseError

logger = logging.getLogger(__name__)


class _Taken(virtual.QoS):
    """Messages that a worker has taken and not started."""

    def restore_unacked(self) -> None:
        """Put the messages back for other workers, as at an orderly shutdown.

        If Redis is unavailable, the relay sends them again. Kombu would write them to a file.
        """
        super().restore_unacked()


class Channel(redis.Channel):
    ack_emulation = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.QoS: Any = _Taken  # Kombu sets its own, which hides the class attribute


class Transport(redis.Transport):
    Channel = Channel


class NextDatabaseChannel(Channel):
    """A channel to the database after the Redis tier's, or to the tier's if the server has no more."""

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        params: dict[str, Any] = super()._connparams(asynchronous)  # type: ignore[misc]
        params["connection_class"] = _falling_back(params["connection_class"])
        return params


class NextDatabaseTransport(redis.Transport):
    Channel = NextDatabaseChannel


class SentinelChannel(Channel, redis.SentinelChannel):
    pass


class SentinelTransport(redis.SentinelTransport):
    Channel = SentinelChannel


def _falling_back(connection_class: Any) -> Any:
    class Connection(connection_class):  # type: ignore[misc]
        def on_connect_check_health(self, check_health: bool = True) -> None:
            try:
                super().on_connect_check_health(check_health)
            except ResponseError as error:
                # "DB index is out of range", "SELECT is not allowed in cluster mode"
                if not self.db or not any(words in str(error) for words in ("DB index", "SELECT is not allowed")):
                    raise
                _say_once(self.db)
                self.db -= 1
                super().on_connect_check_health(check_health)

    return Connection


@cache  # once per process and number
def _say_once(number: int) -> None:
    logger.warning(
        "This Redis has no database %d, so the broker uses %d, beside the records. CELERY_BROKER_URL can name another.",
        number,
        number - 1,
    )
