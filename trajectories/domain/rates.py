"""Rates with their intervals, and what they are worth."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

_Z = 1.96


@lru_cache(maxsize=10_000)  # an answer has a thousand, of which a new record changes few
def wilson(successes: int, known: int) -> tuple[float, float] | None:
    """Return the Wilson score interval at z = 1.96, None if known is 0 (Wilson, JASA 22, 1927)."""
    if not known:
        return None
    rate, z2 = successes / known, _Z * _Z
    middle = rate + z2 / (2 * known)
    half = _Z * math.sqrt(rate * (1 - rate) / known + z2 / (4 * known * known))
    # Rounding must not push the rate out of its interval: 0 of n has the lower bound 0.
    return max(0.0, min(rate, (middle - half) / (1 + z2 / known))), min(
        1.0, max(rate, (middle + half) / (1 + z2 / known))
    )


def value_per_dollar(low: float | None, mean_cost_usd: float | None) -> float | None:
    """Return the lower bound of a success rate per dollar of mean cost; None if one is unknown."""
    if low is None or mean_cost_usd is None:
        return None
    # The thousandth keeps free models finite and comparable.
    return low / (mean_cost_usd + 0.001)


def rate(successes: int, known: int) -> dict[str, Any]:
    low, high = wilson(successes, known) or (None, None)
    return {"known": known, "rate": successes / known if known else None, "low": low, "high": high}
