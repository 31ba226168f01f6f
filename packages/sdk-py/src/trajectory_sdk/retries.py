"""When a call is tried again, and how long is waited before."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from trajectory_sdk.errors import APIConnectionError, APIStatusError

FIRST_DELAY_S: Final = 0.5
MAX_DELAY_S: Final = 8.0
MAX_RETRY_AFTER_S: Final = 120.0
"""A server that wants to be left alone for longer is not waited for: the caller is told, with ``retry_after_s``."""
RETRIED: Final = frozenset({408, 429, 500, 502, 503, 504})


def is_worth_retrying(error: APIConnectionError | APIStatusError) -> bool:
    """Whether the same request may go better. It is always safe: SDK-made ids make a repeat the same record."""
    return isinstance(error, APIConnectionError) or error.status in RETRIED


def delay_s(
    attempt: int, retry_after_s: float | None, *, uniform: Callable[[float, float], float] = random.uniform
) -> float | None:
    """How long to wait after a failed attempt; None: do not.

    Exponential with full jitter (Brooker, "Exponential Backoff And Jitter", 2015); behind ``Retry-After`` the jitter comes on
    top, so that not all who were sent away come back at once.

    Args:
        attempt: counted from 0.
    """
    if retry_after_s is not None and retry_after_s > MAX_RETRY_AFTER_S:
        return None
    jitter_s = uniform(0, min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** min(attempt, 16)))
    return (retry_after_s or 0.0) + jitter_s


def retry_after_s(text: str | None, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> float | None:
    """What ``Retry-After`` says, as seconds or as a date (RFC 9110, section 10.2.3); None if it says nothing."""
    if text is None:
        return None
    if text.strip().isdecimal() and text.isascii():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now()).total_seconds())
