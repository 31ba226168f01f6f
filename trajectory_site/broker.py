"""Redis as a broker of messages that are sent again until their work is done.

Kombu notes in Redis what a worker has taken, so that another may have it should that one die, and the worker itself dies where the
note is refused (at ``maxmemory``, by a replica) or where it cannot put messages back because Redis is gone. The relay sends again
whatever has not reached the archive, so here nobody notes anything, and a worker outlives its broker.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import redis, virtual


class _Taken(virtual.QoS):
    """What a worker has taken and not begun."""

    def restore_unacked(self) -> None:
        """Put it back for other workers, as at an orderly end. With Redis away it is left to the relay; Kombu would dump it into a file."""
        super().restore_unacked()


class Channel(redis.Channel):
    ack_emulation = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.QoS: Any = _Taken  # Kombu has set its own, after which the class's is not asked


class Transport(redis.Transport):
    Channel = Channel
