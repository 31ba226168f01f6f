"""Time in the store: integers in microseconds since 1970 (UTC), exact in every tier."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND_US = 1_000_000
DAY_S = 24 * 3600
DAY_US = DAY_S * SECOND_US


def now_us() -> int:
    """Return the time of this host's clock."""
    return time.time_ns() // 1_000


def epoch_us(at: datetime) -> int:
    """Return the microseconds of an aware ``at``; exact, unlike ``at.timestamp()``."""
    delta = at - EPOCH
    return (delta.days * DAY_S + delta.seconds) * SECOND_US + delta.microseconds


def utc(us: int) -> datetime:
    """Return ``us`` as an aware datetime."""
    return EPOCH + timedelta(microseconds=us)


def rfc3339(us: int) -> bytes:
    """Return ``us`` as text, always with six decimals, so that texts sort as times do."""
    return utc(us).isoformat(timespec="microseconds").replace("+00:00", "Z").encode()
