"""The use of a key's limits within the last minute, and the rate-limit headers of a response.

This module has no clock and no Redis: the caller passes both in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from trajectories.conf import RATE_LIMITS
from trajectories.exceptions import RateLimited

WINDOW_S = 60
COUNTED_S = WINDOW_S + 1
"""Seconds that count, including the current one. One less would let a window exceed its limit."""
_UNITS = ("requests", "bytes of bodies", "ms of CPU for reads")


class Use(NamedTuple):
    """An amount per limit, in the order of ``RATE_LIMITS``."""

    requests: int = 0
    bytes: int = 0
    read_cpu_ms: int = 0

    def plus(self, other: Use) -> Use:
        return Use(*(one + more for one, more in zip(self, other, strict=True)))


class Limits(NamedTuple):
    """A limit is None if it is not set."""

    requests: int | None = None
    bytes: int | None = None
    read_cpu_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Allowance:
    """The limit that would refuse first, or that has refused.

    ``reset_s``: seconds until ``remaining`` grows, when the oldest counted second leaves the
    window.
    ``retry_after_s``: seconds until this request would be accepted; None if it was accepted.
    """

    name: str
    limit: int
    remaining: int
    reset_s: int
    retry_after_s: int | None

    def headers(self) -> dict[str, str]:
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(self.reset_s),
            "X-RateLimit-Resource": self.name,
        }

    def expect_taken(self) -> None:
        """Check that the request was accepted.

        Raises:
            RateLimited: 429; the request is over the limit.
        """
        if self.retry_after_s is not None:
            raise RateLimited(
                f"This API key may use {self.limit} {_UNITS[RATE_LIMITS.index(self.name)]} a minute; retry in"
                f" {self.retry_after_s} s.",
                retry_after_s=self.retry_after_s,
            )


class Standing(NamedTuple):
    """The state of one limit.

    It holds the use, the oldest second with use, and the second from which a refused request fits.
    """

    used: int
    oldest_s: int | None
    fits_s: int | None = None


def allowance(now_s: int, limits: Limits, standings: Iterable[Standing]) -> Allowance:
    """Return the allowance to report; ``standings`` has the order of ``limits``.

    At least one limit is set.
    """
    told = [
        Allowance(
            name,
            limit,
            max(0, limit - standing.used),
            0 if standing.oldest_s is None else standing.oldest_s + COUNTED_S - now_s,
            None if standing.fits_s is None else standing.fits_s - now_s,
        )
        for name, limit, standing in zip(RATE_LIMITS, limits, standings, strict=True)
        if limit is not None
    ]
    return max(told, key=lambda one: (one.retry_after_s or 0, -one.remaining / one.limit))


class Window:
    """The use of one key, by second.

    Use never exceeds the limit in any ``WINDOW_S`` seconds. Use may count up to one second too
    long. Not thread-safe.
    """

    def __init__(self, seconds: Iterable[tuple[int, Use]] = ()) -> None:
        self._seconds = dict(seconds)

    @property
    def newest_s(self) -> int | None:
        """Return the last second with a use."""
        return max(self._seconds, default=None)

    def forget(self, now_s: int) -> None:
        """Drop seconds that no longer count.

        Also drop seconds in the future, which remain after the clock was set back.
        """
        self._seconds = {at: use for at, use in self._seconds.items() if now_s - COUNTED_S < at <= now_s}

    def add(self, now_s: int, use: Use) -> None:
        self._seconds[now_s] = self._seconds.get(now_s, Use()).plus(use)

    def take(self, now_s: int, use: Use, limits: Limits) -> Allowance:
        """Add ``use`` if it fits. A limit of which ``use`` needs nothing does not refuse it."""
        refusing = self._standings(now_s, use, limits)
        if any(standing.fits_s is not None for standing in refusing):
            return allowance(now_s, limits, refusing)
        self.add(now_s, use)
        return allowance(now_s, limits, self._standings(now_s, Use(), limits))

    def _standings(self, now_s: int, use: Use, limits: Limits) -> list[Standing]:
        return [self._standing(now_s, at, use[at], limit) for at, limit in enumerate(limits)]

    def _standing(self, now_s: int, at: int, amount: int, limit: int | None) -> Standing:
        amounts = sorted((second, use[at]) for second, use in self._seconds.items() if use[at])
        used, oldest_s = sum(before for _, before in amounts), amounts[0][0] if amounts else None
        if limit is None or amount == 0 or used + amount <= limit:
            return Standing(used, oldest_s)
        over = used + amount - limit
        for second, before in amounts:
            over -= before
            if over <= 0:
                return Standing(used, oldest_s, second + COUNTED_S)
        return Standing(used, oldest_s, now_s + COUNTED_S)  # larger than the limit by itself
