"""Stats of trajectories, in the form of the store's ``/stats``."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from trajectories_sdk.testing.facets import NANO_USD, OUTCOMES, PHASE_OUTCOMES, Facets

_MEASURES: Final = {
    "cost_usd": ("cost_nano_usd", NANO_USD),
    "duration_ms": ("duration_us", 1000),
    "input_tokens": ("input_tokens", 1),
    "output_tokens": ("output_tokens", 1),
}
_TRAJECTORY_MEASURES: Final = {**_MEASURES, "tokens": ("tokens", 1)}
_TRAJECTORY_SUMS: Final = {**_TRAJECTORY_MEASURES, "unattributed_cost_usd": ("unattributed_nano_usd", NANO_USD)}
_TRAJECTORY_GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "by_request_type": ("request_type",),
    "by_source": ("source",),
    "by_project": ("project",),
    "by_policy": ("policy",),
}
_PHASE_GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "by_phase": ("phase",),
    "by_model": ("model",),
    "by_selection_method": ("selection_method",),
    "by_phase_model": ("phase", "model", "selection_method"),
}
_Z: Final = 1.96


def stats_of(found: Sequence[Facets]) -> dict[str, Any]:
    """Return all stats but ``window``. Percentiles are exact here, and within 1 % of that in the
    store."""
    phases = [phase for facets in found for phase in facets.phases]
    shown = _trajectory_summary(found)
    for name, (column, divisor) in _TRAJECTORY_MEASURES.items():
        shown[name] |= _percentiles(_known(found, column), divisor)
    outcomes = _tallies(phases, PHASE_OUTCOMES)
    shown["phases"] = {
        "count": len(phases),
        "outcomes": outcomes,
        "skip_rate": _share(outcomes["skipped"], len(phases)),
    }
    for name, columns in _TRAJECTORY_GROUPS.items():
        shown[name] = _groups(found, columns, _trajectory_summary)
    for name, columns in _PHASE_GROUPS.items():
        shown[name] = _groups(phases, columns, _phase_summary)
    return shown | {"other": {}}


def _groups(
    items: Iterable[Any], columns: tuple[str, ...], summarize: Callable[[Sequence[Any]], dict[str, Any]]
) -> list[dict[str, Any]]:
    grouped: dict[tuple[Any, ...], list[Any]] = defaultdict(list)
    for item in items:
        grouped[tuple(getattr(item, column) for column in columns)].append(item)
    ordered = sorted(
        grouped.items(), key=lambda one: (-len(one[1]), [(value is None, value or "") for value in one[0]])
    )
    return [dict(zip(columns, key, strict=True)) | summarize(group) for key, group in ordered]


def _trajectory_summary(items: Sequence[Any]) -> dict[str, Any]:
    outcomes = _tallies(items, OUTCOMES)
    return {
        "count": len(items),
        "outcomes": outcomes,
        "success_rate": _success_rate(outcomes),
        "build_pass_rate": _pass_rate(items, "build_passed"),
        "test_pass_rate": _pass_rate(items, "tests_passed"),
    } | _measure_sums(items, _TRAJECTORY_SUMS)


def _phase_summary(items: Sequence[Any]) -> dict[str, Any]:
    outcomes = _tallies(items, PHASE_OUTCOMES)
    rate, measured = _success_rate(outcomes), _measure_sums(items, _MEASURES)
    low, mean = rate["low"], measured["cost_usd"]["mean"]
    return {
        "count": len(items),
        "outcomes": outcomes,
        "success_rate": rate,
        "skip_rate": _share(outcomes["skipped"], len(items)),
        "value_per_dollar": None if low is None or mean is None else low / (mean + 0.001),
    } | measured


def _tallies(items: Sequence[Any], outcomes: tuple[str, ...]) -> dict[str, int]:
    return {outcome: sum(1 for item in items if item.outcome == outcome) for outcome in outcomes}


def _success_rate(outcomes: Mapping[str, int]) -> dict[str, Any]:
    return _rate(outcomes["success"], outcomes["success"] + outcomes["failure"] + outcomes["partial"])


def _pass_rate(items: Sequence[Any], column: str) -> dict[str, Any]:
    known = _known(items, column)
    return _rate(sum(known), len(known))


def _rate(successes: int, known: int) -> dict[str, Any]:
    """Return a proportion with its Wilson score interval (Wilson, JASA 22, 1927)."""
    if not known:
        return {"known": 0, "rate": None, "low": None, "high": None}
    rate, z2 = successes / known, _Z * _Z
    middle = rate + z2 / (2 * known)
    half = _Z * math.sqrt(rate * (1 - rate) / known + z2 / (4 * known * known))
    low, high = (middle - half) / (1 + z2 / known), (middle + half) / (1 + z2 / known)
    return {"known": known, "rate": rate, "low": max(0.0, min(rate, low)), "high": min(1.0, max(rate, high))}


def _measure_sums(items: Sequence[Any], measures: Mapping[str, tuple[str, int]]) -> dict[str, Any]:
    shown = {}
    for name, (column, divisor) in measures.items():
        known = _known(items, column)
        total = sum(known)
        shown[name] = {
            "known": len(known),
            "sum": total / divisor if known else None,
            "mean": total / (len(known) * divisor) if known else None,
        }
    return shown


def _percentiles(known: list[Any], divisor: int) -> dict[str, float | None]:
    ordered = sorted(known)
    return {f"p{p}": ordered[-(-p * len(ordered) // 100) - 1] / divisor if ordered else None for p in (50, 90, 95, 99)}


def _known(items: Sequence[Any], column: str) -> list[Any]:
    return [value for item in items if (value := getattr(item, column)) is not None]


def _share(count: int, of: int) -> float | None:
    return count / of if of else None
