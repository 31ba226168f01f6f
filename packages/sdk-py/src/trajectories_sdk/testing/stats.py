"""Stats of trajectories, in the form of the store's ``/stats``."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from functools import partial
from typing import Any, Final, NamedTuple

from trajectories_sdk.testing.facets import NANO_USD, OUTCOMES, PHASE_OUTCOMES, Facets
from trajectories_sdk.testing.late_outcomes import CountedOutcome

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
_COST: Final = {"cost_usd": _TRAJECTORY_MEASURES["cost_usd"]}
_FITS: Final = ("good_fit", "underpowered", "overprovisioned", "failed")
_SKIP_GROUP: Final = ("phase", "request_type")
_DAY_US: Final = 86_400_000_000
_Z: Final = 1.96
_MICRO: Final = 1_000_000


def stats_of(
    found: Sequence[Facets],
    credit_rule: str = "checks",
    bucket: str | None = None,
    late: Sequence[tuple[Sequence[CountedOutcome], Sequence[CountedOutcome]]] = (),
) -> dict[str, Any]:
    """Return all stats but ``window``. Percentiles are exact here, and within 1 % of that in the
    store.

    Args:
        late: the late outcomes of each run, and those of its phases.
    """
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
        shown[name] = _groups(phases, columns, partial(_phase_summary, credit_rule=credit_rule))
    shown["credit_rule"] = credit_rule
    shown["skips"] = _groups([one for facets in found for one in _presences(facets)], _SKIP_GROUP, _skip_summary)
    of_runs, of_phases = ([one for pair in late for one in pair[at]] for at in (0, 1))
    shown["late_outcomes"] = _groups(of_runs, ("name",), _late_summary)
    shown["late_outcomes_by_phase_model"] = _groups(of_phases, ("name", "phase", "model"), _late_summary)
    if bucket is not None:
        shown["series"] = sorted(
            _groups([_Dated(_start(facets, bucket), facets) for facets in found], ("start",), _dated_summary),
            key=lambda one: str(one["start"]),
        )
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
        "cost_per_success_usd": _cost_per_success(items),
    } | _measure_sums(items, _TRAJECTORY_SUMS)


def _cost_per_success(items: Sequence[Any]) -> float | None:
    successes = sum(1 for item in items if item.outcome == "success" and item.cost_nano_usd is not None)
    return sum(_known(items, "cost_nano_usd")) / (successes * NANO_USD) if successes else None


class _Presence(NamedTuple):
    """A phase of a run. ``presence``: whether its group ran or was skipped; None but for the first
    of the group."""

    phase: str
    request_type: str | None
    presence: str | None
    outcome: str
    cost_nano_usd: int | None


def _presences(facets: Facets) -> Iterable[_Presence]:
    ran = {phase.phase for phase in facets.phases if phase.outcome != "skipped"}
    for phase in facets.phases:
        presence = "ran" if phase.phase in ran else "skipped"
        shown = presence if phase.is_first else None
        yield _Presence(phase.phase, facets.request_type, shown, facets.outcome, facets.cost_nano_usd)


def _skip_summary(items: Sequence[_Presence]) -> dict[str, Any]:
    by_presence = {name: [item for item in items if item.presence == name] for name in ("ran", "skipped")}
    return {
        name: {"runs": len(runs), "success_rate": _success_rate(_tallies(runs, OUTCOMES))} | _measure_sums(runs, _COST)
        for name, runs in by_presence.items()
    }


class _Dated(NamedTuple):
    start: str
    facets: Facets


def _dated_summary(items: Sequence[_Dated]) -> dict[str, Any]:
    runs = [item.facets for item in items]
    shown = _trajectory_summary(runs)
    column, divisor = _TRAJECTORY_MEASURES["duration_ms"]
    shown["duration_ms"] |= _percentiles(_known(runs, column), divisor)
    return shown


def _start(facets: Facets, bucket: str) -> str:
    """Return the first day of the bucket of a run; weeks begin on Monday."""
    at_us = facets.recorded_at_us if facets.started_at_us is None else facets.started_at_us
    day = date(1970, 1, 1) + timedelta(days=at_us // _DAY_US)
    return (day - timedelta(days=day.weekday() if bucket == "week" else 0)).isoformat()


def _phase_summary(items: Sequence[Any], *, credit_rule: str) -> dict[str, Any]:
    outcomes = _tallies(items, PHASE_OUTCOMES)
    credited = Counter(item.credits[credit_rule].outcome for item in items)
    rate = _rate(credited["success"], credited["success"] + credited["failure"] + credited["partial"])
    measured = _measure_sums(items, _MEASURES)
    low, mean = rate["low"], measured["cost_usd"]["mean"]
    return {
        "count": len(items),
        "outcomes": outcomes,
        "fits": {word: sum(1 for item in items if item.fit == word) for word in _FITS},
        "success_rate": _success_rate(outcomes),
        "credited_success_rate": rate,
        "skip_rate": _share(outcomes["skipped"], len(items)),
        "value_per_dollar": None if low is None or mean is None else low / (mean + 0.001),
    } | measured


def _late_summary(items: Sequence[CountedOutcome]) -> dict[str, Any]:
    values = [item.value for item in items]
    true, false = sum(value is True for value in values), sum(value is False for value in values)
    micro = [round(value * _MICRO) for value in values if not isinstance(value, (bool, str))]
    return {
        "count": len(items),
        "rate": _rate(true, true + false),
        "mean": sum(micro) / (len(micro) * _MICRO) if micro else None,
        "numbers": len(micro),
        "fits": {word: values.count(word) for word in _FITS},
    }


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
