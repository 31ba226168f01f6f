"""Delivery of the background queue: how it reaches the server, and when it retries."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

import httpx2

from trajectories_sdk import outcome_recording
from trajectories_sdk.adjustments import Adjustments
from trajectories_sdk.config import Config
from trajectories_sdk.connections import Connections, blocking_http
from trajectories_sdk.errors import APIStatusError
from trajectories_sdk.models import LineResult
from trajectories_sdk.recording import record_kept_lines
from trajectories_sdk.retries import FIRST_DELAY_S, is_worth_retrying
from trajectories_sdk.transport import Driver
from trajectories_sdk.warning_log import WarningLog

MAX_DELAY_S: Final = 30.0
MAX_RETRY_AFTER_S: Final = 3600.0
FLUSH_DELAY_S: Final = 0.5
"""Retry delay while a caller waits for a flush."""
UNUSABLE_DELAY_S: Final = 600.0
"""Retry delay after a wrong key or address. The records are valid, so the queue keeps them."""


class Sender:
    """Sends batches over its own connections, since the queue may outlive those of the client."""

    def __init__(
        self,
        config: Config,
        transport: httpx2.BaseTransport | None,
        adjustments: Adjustments | None = None,
        warning_log: WarningLog | None = None,
    ) -> None:
        self.adjustments = Adjustments() if adjustments is None else adjustments
        self._warning_log = WarningLog() if warning_log is None else warning_log
        self._config = replace(config, max_retries=0)  # the queue retries by itself, so that a flush can wake it
        self._transport = transport
        self._connections: Connections[httpx2.Client] | None = None

    def send(self, bodies: Sequence[bytes]) -> Sequence[LineResult]:
        """Send records in one request and late outcomes in another, and return a result for each.

        Records that the server refuses are sent again without the fields at fault.

        Raises:
            APIConnectionError, APIStatusError: the whole request failed.
        """
        if self._connections is None:
            self._connections = Connections(lambda: blocking_http(self._config.base_url, self._transport))
        driver = Driver(self._connections)
        outcomes = [body for body in bodies if outcome_recording.is_kept(body)]
        runs = [body for body in bodies if not outcome_recording.is_kept(body)]
        of_runs: Iterator[LineResult] = iter(())
        if runs:
            flow = record_kept_lines(self._config, runs, self._warning_log, self.adjustments.count_left_out)
            of_runs = iter(driver.run(flow))
        of_outcomes: Iterator[LineResult] = iter(())
        if outcomes:
            of_outcomes = iter(driver.run(outcome_recording.record_kept_lines(self._config, outcomes)))
        return [next(of_outcomes if outcome_recording.is_kept(body) else of_runs) for body in bodies]

    def close(self) -> None:
        """Close the connections. The next request opens new ones."""
        connections, self._connections = self._connections, None
        if connections is not None and self._transport is None:  # a given transport belongs to the client
            with suppress(httpx2.HTTPError):
                connections().close()


@dataclass(slots=True)
class Outage:
    """Consecutive failed requests, and when the next may be sent. Times are seconds of one clock."""

    failures: int = 0
    not_before: float = 0.0
    """Earliest time that the server allows. A flush does not shorten it."""
    _failed_at: float = 0.0
    _retry_at: float = 0.0

    def failed(
        self, error: Exception, now: float, *, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        """Count a failed request."""
        limit_s = min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** min(self.failures, 16))
        self.failures += 1
        self._failed_at = now
        self._retry_at = now + uniform(limit_s / 2, limit_s)
        self.not_before = now + _requested_delay_s(error)

    def ended(self) -> None:
        """Reset after a successful request."""
        self.failures = 0

    def next_attempt_at(self, *, is_flushing: bool) -> float:
        """Return when the next attempt is due."""
        retry_at = min(self._retry_at, self._failed_at + FLUSH_DELAY_S) if is_flushing else self._retry_at
        return max(self.not_before, retry_at)


def _requested_delay_s(error: Exception) -> float:
    if not isinstance(error, APIStatusError):
        return 0.0
    if not is_worth_retrying(error):
        return UNUSABLE_DELAY_S
    return min(error.retry_after_s or 0.0, MAX_RETRY_AFTER_S)
