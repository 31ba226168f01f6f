"""Measurements and totals of the recorder."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from trajectories_sdk.values import text_of

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
    text = text_of(error)
    if not issubclass(type(error), BaseException):  # `isinstance` asks the object
        return text[:MAX_ERROR_CHARS]
    name = type(error).__name__
    return f"{name}: {text}"[:MAX_ERROR_CHARS] if text not in ("", f"<{name}>") else name


# LangGraph raises the first two to wait for a person, and the last to jump to another graph. They are
# recognised by name, since this package does not import it.
_PAUSES: Final = frozenset({"GraphInterrupt", "NodeInterrupt", "GraphBubbleUp"})
_JUMPS: Final = frozenset({"ParentCommand"})
INTERRUPTED: Final = frozenset({"cancelled", "paused"})
"""Outcomes of phases after which a run may go on."""
_CANCELLATIONS: Final = frozenset({"CancelledError", "Cancelled", "KeyboardInterrupt", "GeneratorExit"})


def outcome_of(error: BaseException | None) -> str:
    """Return the outcome of a phase that ended with this exception: ``cancelled`` if it was stopped
    from outside, ``paused`` if it waits for a person.

    A group has the outcome that all of its exceptions have, or ``failure``.
    """
    if isinstance(error, BaseExceptionGroup):
        outcomes = {outcome_of(one) for one in error.exceptions}
        return outcomes.pop() if len(outcomes) == 1 else "failure"
    names = {kind.__name__ for kind in type(error).__mro__}
    if error is None or names & _JUMPS:
        return "success"
    if isinstance(error, SystemExit):
        return "failure" if error.code else "cancelled"
    return "cancelled" if names & _CANCELLATIONS else "paused" if names & _PAUSES else "failure"


def parse_count(value: Any) -> int | None:
    """Return a non-negative integer, or None if the value is not one."""
    try:
        number = operator.index(value)
    except Exception:  # an object of the caller
        return None
    return None if number < 0 or isinstance(value, bool) else number


def parse_usd(value: Any) -> Decimal | None:
    """Return an amount of money exactly as written, or None if the value is not one."""
    try:
        is_number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
        amount = Decimal(str(value)) if is_number else Decimal("NaN")
    except Exception:  # an object of the caller, or thousands of digits, which Python does not convert
        return None
    return amount if amount.is_finite() and amount >= 0 else None


def totals_of(phases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the totals of a run and, as the server derives it, the outcome of its phases."""
    last = {str(phase.get("phase_name")).strip().casefold(): phase.get("outcome") for phase in phases}
    ran = [outcome for outcome in last.values() if outcome != "skipped"]
    is_success = bool(ran) and all(outcome == "success" for outcome in ran)
    return {
        "total_phases": len(phases),
        "phases_skipped": sum(1 for phase in phases if phase.get("outcome") == "skipped"),
        "total_cost_usd": total_usd(phase.get("cost_usd") for phase in phases),
        "outcome": "failure" if "failure" in ran else "success" if is_success else "unknown",
    }


def total_usd(values: Iterable[Any]) -> float | None:
    """Return the sum of the known amounts, or None if none is known."""
    known = [amount for value in values if (amount := parse_usd(value)) is not None]
    return float(sum(known, Decimal())) if known else None
