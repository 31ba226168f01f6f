"""Redis as a broker of messages that are sent again until their work is done.

Kombu notes in Redis which messages a worker has taken, so that another worker can take them over.
The worker ends if Redis refuses the note (at ``maxmemory``, on a replica), or if it cannot put
messages back because Redis is down. The relay sends again every record that is not in the archive.
This broker therefore keeps no notes, and a worker outlives its broker.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import redis, virtual


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
