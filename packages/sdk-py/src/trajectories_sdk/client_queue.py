"""The background queue of a client, made on first use."""

from __future__ import annotations

import httpx2

from trajectories_sdk.adjustments import Adjustments
from trajectories_sdk.background import BackgroundQueue
from trajectories_sdk.config import Config
from trajectories_sdk.delivery import Sender
from trajectories_sdk.spool import Spool
from trajectories_sdk.warning_log import WarningLog


class Background:
    """Creates the queue of a client on first use."""

    def __init__(
        self,
        config: Config,
        transport: httpx2.BaseTransport | httpx2.AsyncBaseTransport | None,
        spool: Spool,
        adjustments: Adjustments,
        warning_log: WarningLog,
    ) -> None:
        self._adjustments = adjustments
        self._warning_log = warning_log
        self._config = config
        self._transport = transport
        self._spool = spool
        self._queues: list[BackgroundQueue] = []

    @property
    def queue(self) -> BackgroundQueue:
        # No lock, since a thread could hold it during a fork. Two first callers may both create a queue; all use the first.
        if not self._queues:
            self._queues.append(self._make())
        return self._queues[0]

    def close(self) -> None:
        if self._queues:
            self._queues[0].close()

    def _make(self) -> BackgroundQueue:
        if self._transport is not None and not isinstance(self._transport, httpx2.BaseTransport):
            raise TypeError(
                "The background queue needs a blocking transport, and this one is async only. Use background=False."
            )
        sender = Sender(self._config, self._transport, self._adjustments, self._warning_log)
        return BackgroundQueue(sender, self._spool)
