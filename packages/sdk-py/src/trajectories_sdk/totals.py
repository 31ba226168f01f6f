"""Measurements and totals of the recorder."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

MAX_ERROR_CHARS: Final = 2_000


@dataclass(frozen=True, slots=True)
class Clock:
    """The time of day, and monotonic nanoseconds."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    monotonic_ns: Callable[[], int] = time.monotonic_ns


SYSTEM_CLOCK: Final = Clock()


class Stopwatch:
    """Reads the time of day once, then counts from it, so that clock changes do not affect
    durations."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started_at = clock.now()
        self._started_ns = clock.monotonic_ns()

    def ns(self) -> int:
        """Return the nanoseconds since the start."""
        return self._clock.monotonic_ns() - self._started_ns

    def at(self, ns: int) -> datetime:
        """Return the time of day ``ns`` nanoseconds after the start."""
        return self._started_at + timedelta(microseconds=ns // 1_000)


def milliseconds(ns: int) -> float:
    """Convert to milliseconds, with the server's precision of one microsecond."""
    return ns // 1_000 / 1_000


def error_text(error: BaseException | str) -> str:
    """Return text such as "ValueError: text", of at most ``MAX_ERROR_CHARS`` characters."""
    if isinstance(error, str):
        return error[:MAX_ERROR_CHARS]
    try:
        text = str(error)
    except Exception:  # `__str__` of the exception itself may fail
        text = ""
    name = type(error).__name__
    return f"{name}: {text}"[:MAX_ERROR_CHARS] if text else name


def parse_count(value: Any) -> int | None:
    """Return a non-negative integer, or None if the value is not one."""
    try:
        number = operator.index(value)
    except TypeError:
        return None
    return None if number < 0 or isinstance(value, bool) else number


def parse_usd(value: Any) -> Decimal | None:
    """Return an amount of money exactly as written, or None if the value is not one."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    amount = Decimal(str(value))
    return amount if amount.is_finite() and amount >= 0 else None


def total_usd(values: Iterable[Any]) -> float | None:
    """Return the sum of the known amounts, or None if none is known."""
    known = [amount for value in values if (amount := parse_usd(value)) is not None]
    return float(sum(known, Decimal())) if known else None
