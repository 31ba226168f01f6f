"""Retry rules: which errors are retried, and after which delay."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from trajectories_sdk.errors import APIConnectionError, APIStatusError
from trajectories_sdk.models import LineResult

FIRST_DELAY_S: Final = 0.5
MAX_DELAY_S: Final = 8.0
MAX_RETRY_AFTER_S: Final = 120.0
"""A server that asks for a longer wait is not retried; the caller gets the error with
``retry_after_s``."""
RETRIED: Final = frozenset({408, 429, 500, 502, 503, 504})
QUOTA_EXCEEDED: Final = "quota_exceeded"


def is_line_kept(result: LineResult) -> bool:
    """Return whether the background queue keeps the line of a result, to send it again. A full
    tenant may get room."""
    return result.status in RETRIED or (result.error is not None and result.error.code == QUOTA_EXCEEDED)


def is_worth_retrying(error: APIConnectionError | APIStatusError) -> bool:
    """Return whether the same request may succeed later.

    A retry is always safe: the SDK sets the ids, so a repeated record is the same record.
    """
    return isinstance(error, APIConnectionError) or error.status in RETRIED


def delay_s(
    attempt: int, retry_after_s: float | None, *, uniform: Callable[[float, float], float] = random.uniform
) -> float | None:
    """Return how long to wait after a failed attempt, or None for no retry.

    The delay is exponential with full jitter (Brooker, "Exponential Backoff And Jitter", 2015). The
    jitter is added to ``Retry-After``, so that rejected clients do not all return at once.

    Args:
        attempt: number of the failed attempt, counted from 0.
    """
    if retry_after_s is not None and retry_after_s > MAX_RETRY_AFTER_S:
        return None
    jitter_s = uniform(0, min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** min(attempt, 16)))
    return (retry_after_s or 0.0) + jitter_s


def retry_after_s(text: str | None, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> float | None:
    """Parse ``Retry-After``, as seconds or as a date (RFC 9110, section 10.2.3). Return None if
    invalid."""
    if text is None:
        return None
    if text.strip().isdecimal() and text.isascii():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now()).total_seconds())
