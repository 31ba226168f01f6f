"""Figures of stats as people read them, and what two of them differ by. Unknown is a dash."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from trajectories.domain.text import visible

UNKNOWN, UNCHANGED = "-", "unchanged"
_MAX_LABEL = 60

Rate = Mapping[str, Any]
"""A rate of stats: known, rate, low, high; the last three are None where known is 0."""


def at(answer: Mapping[str, Any] | None, *path: str) -> Any:
    """Return the value at ``path`` of an answer of stats; None if a part of it is missing."""
    found: Any = answer
    for name in path:
        found = found.get(name) if found else None
    return found


def money(usd: float | None) -> str:
    """Return dollars: two decimals from one dollar on, three significant digits below."""
    if usd is None:
        return UNKNOWN
    sign, amount = "-" if usd < 0 else "", abs(usd)
    if amount == 0 or amount >= 1:
        return f"{sign}${amount:,.2f}"
    decimals = min(9, 2 - math.floor(math.log10(amount)))
    return f"{sign}${amount:.{decimals}f}"


def span(ms: float | None) -> str:
    """Return a duration in its two largest units, such as ``2 m 14 s``; whole minutes and hours in
    one."""
    if ms is None:
        return UNKNOWN
    if ms < 1000:
        return f"{ms:.0f} ms"
    if ms < 59_950:
        return f"{ms / 1000:.1f} s"
    minutes, s = divmod(round(ms / 1000), 60)
    hours, minutes = divmod(minutes, 60)
    larger, smaller = (f"{hours:,} h", minutes and f"{minutes} m") if hours else (f"{minutes} m", s and f"{s} s")
    return f"{larger} {smaller}" if smaller else larger


def count(value: float | None) -> str:
    """Return a number: in full below 10,000, else with three significant digits and k, M or G."""
    if value is None:
        return UNKNOWN
    if abs(value) < 10 and value != int(value):
        return f"{value:.1f}"
    if abs(value) < 10_000:
        return f"{value:,.0f}"
    for divisor, unit in ((1e9, "G"), (1e6, "M")):
        if abs(value) >= divisor:
            return f"{value / divisor:.3g} {unit}"
    return f"{value / 1000:,.3g} k" if abs(value) < 999_500 else "1 M"


def percent(rate: float | None) -> str:
    return UNKNOWN if rate is None else f"{100 * rate:.0f} %"


def interval(rate: Rate) -> str:
    """Return a rate with its 95 % interval, such as ``71 % (62 to 79)``."""
    if rate["rate"] is None:
        return UNKNOWN
    return f"{percent(rate['rate'])} ({100 * rate['low']:.0f} to {100 * rate['high']:.0f})"


def label(text: str | None) -> str:
    """Return text from a client, cut and safe to read; a dash where it is unknown or empty."""
    if not text:
        return UNKNOWN
    shown = visible(text[: _MAX_LABEL + 1])
    return shown if len(text) <= _MAX_LABEL else f"{visible(text[:_MAX_LABEL])}…"


def change(old: float | None, new: float | None) -> str:
    """Return by how much ``new`` is more or less than ``old``, in percent; empty if unknown."""
    if old is None or new is None or old == 0:
        return ""
    share = (new - old) / abs(old)
    if abs(share) < 0.005:
        return UNCHANGED
    if abs(share) >= 10:
        return f"x{new / old:,.0f}" if share > 0 else f"{100 * share:+,.0f} %"
    return f"{100 * share:+.0f} %"


def difference(old: Rate, new: Rate) -> tuple[float, float] | None:
    """Return the 95 % interval of ``new`` minus ``old``, two independent proportions.

    None if one of them is unknown. Source: Newcombe, Statistics in Medicine 17, 1998, method 10,
    which joins the Wilson intervals of the two.
    """
    if old["rate"] is None or new["rate"] is None:
        return None
    middle = new["rate"] - old["rate"]
    below = math.hypot(new["rate"] - new["low"], old["high"] - old["rate"])
    above = math.hypot(new["high"] - new["rate"], old["rate"] - old["low"])
    return middle - below, middle + above


def compared(old: Rate, new: Rate) -> str:
    """Return ``higher`` or ``lower``, ``not distinguishable`` where the interval of the difference
    holds 0, or ``unknown``."""
    found = difference(old, new)
    if found is None:
        return "unknown"
    return "higher" if found[0] > 0 else "lower" if found[1] < 0 else "not distinguishable"


def points(old: Rate, new: Rate) -> str:
    """Return the interval of the difference in percentage points; empty if unknown."""
    found = difference(old, new)
    return f"({100 * found[0]:+.0f} to {100 * found[1]:+.0f} points)" if found else ""


def verdict(old: Rate, new: Rate) -> str:
    """Say in words whether two success rates differ, with the interval of the difference."""
    return f"{compared(old, new)} {points(old, new)}".rstrip()
