"""How the background queue reaches the server, and when it tries again after it did not."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

import httpx2

from trajectory_sdk.config import Config
from trajectory_sdk.connections import Connections
from trajectory_sdk.errors import APIStatusError
from trajectory_sdk.models import LineResult
from trajectory_sdk.recording import record_lines
from trajectory_sdk.retries import FIRST_DELAY_S, is_worth_retrying
from trajectory_sdk.transport import Driver

MAX_DELAY_S: Final = 30.0
MAX_RETRY_AFTER_S: Final = 3600.0
FLUSH_DELAY_S: Final = 0.5
"""Somebody waits for a flush: a server that was away is asked again this soon."""
UNUSABLE_DELAY_S: Final = 600.0
"""When key or address are wrong. No record is to blame for that, so none is given up; and none of it is hammered on."""


class Sender:
    """Sends in one request, on connections of its own: those of the client are closed at times when the queue still sends."""

    def __init__(self, config: Config, transport: httpx2.BaseTransport | None) -> None:
        self._config = replace(config, max_retries=0)  # the queue waits itself, where a flush can wake it
        self._transport = transport
        self._connections: Connections[httpx2.Client] | None = None

    def send(self, bodies: Sequence[bytes]) -> Sequence[LineResult]:
        """What became of each.

        Raises:
            APIConnectionError, APIStatusError: of the request as a whole.
        """
        if self._connections is None:
            self._connections = Connections(lambda: httpx2.Client(transport=self._transport))
        return Driver(self._connections).run(record_lines(self._config, bodies))

    def close(self) -> None:
        """Close the connections; the next request opens others."""
        connections, self._connections = self._connections, None
        if connections is not None and self._transport is None:  # a transport that was given is the client's
            with suppress(httpx2.HTTPError):
                connections().close()


@dataclass(slots=True)
class Outage:
    """Requests that failed, one after the other, and when the next may be made; times in seconds of one clock."""

    failures: int = 0
    not_before: float = 0.0
    """As the server has asked; nothing hurries that."""
    _failed_at: float = 0.0
    _retry_at: float = 0.0

    def failed(
        self, error: Exception, now: float, *, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        """One more."""
        limit_s = min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** min(self.failures, 16))
        self.failures += 1
        self._failed_at = now
        self._retry_at = now + uniform(limit_s / 2, limit_s)
        self.not_before = now + _requested_delay_s(error)

    def ended(self) -> None:
        """A request went well."""
        self.failures = 0

    def next_attempt_at(self, *, is_flushing: bool) -> float:
        """When the next attempt is due."""
        retry_at = min(self._retry_at, self._failed_at + FLUSH_DELAY_S) if is_flushing else self._retry_at
        return max(self.not_before, retry_at)


def _requested_delay_s(error: Exception) -> float:
    if not isinstance(error, APIStatusError):
        return 0.0
    if not is_worth_retrying(error):
        return UNUSABLE_DELAY_S
    return min(error.retry_after_s or 0.0, MAX_RETRY_AFTER_S)
