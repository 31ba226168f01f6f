"""What the recorder measures and adds up."""

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
    """The time of day, and nanoseconds that only go forward."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    monotonic_ns: Callable[[], int] = time.monotonic_ns


SYSTEM_CLOCK: Final = Clock()


class Stopwatch:
    """One reading of the time of day; all else is counted from it, so a clock that is set meanwhile changes no duration."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started_at = clock.now()
        self._started_ns = clock.monotonic_ns()

    def ns(self) -> int:
        """Since the start."""
        return self._clock.monotonic_ns() - self._started_ns

    def at(self, ns: int) -> datetime:
        """The time of day so long after the start."""
        return self._started_at + timedelta(microseconds=ns // 1_000)


def milliseconds(ns: int) -> float:
    """To the microsecond, which is what the server keeps."""
    return ns // 1_000 / 1_000


def error_text(error: BaseException | str) -> str:
    """Such as "ValueError: text", at most ``MAX_ERROR_CHARS`` long."""
    if isinstance(error, str):
        return error[:MAX_ERROR_CHARS]
    try:
        text = str(error)
    except Exception:  # an error that cannot even say what it is
        text = ""
    name = type(error).__name__
    return f"{name}: {text}"[:MAX_ERROR_CHARS] if text else name


def parse_count(value: Any) -> int | None:
    """A number of things; None: it is none."""
    try:
        number = operator.index(value)
    except TypeError:
        return None
    return None if number < 0 or isinstance(value, bool) else number


def parse_usd(value: Any) -> Decimal | None:
    """An amount of money, exactly as it is written; None: it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    amount = Decimal(str(value))
    return amount if amount.is_finite() and amount >= 0 else None


def total_usd(values: Iterable[Any]) -> float | None:
    """Of what is known; None: nothing is."""
    known = [amount for value in values if (amount := parse_usd(value)) is not None]
    return float(sum(known, Decimal())) if known else None
