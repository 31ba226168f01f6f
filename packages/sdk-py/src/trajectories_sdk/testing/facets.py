"""Facets of a trajectory, and the filters on them, by the store's rules."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from trajectories_sdk.testing.credit import CREDITED, RULES, UNCREDITED, Credit, credit_of
from trajectories_sdk.testing.outcomes import phase_group, run_outcome

NANO_USD: Final = 1_000_000_000
_SPAN: Final = re.compile(r"[0-9]{1,5}[mhdw]")
_SPAN_US: Final = {"m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000, "w": 604_800_000_000}
_MAX_SEARCH_CHARS: Final = 500
_MAX_SEARCH_WORDS: Final = 32
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
OUTCOMES: Final = ("success", "failure", "partial", "unknown")
PHASE_OUTCOMES: Final = ("success", "failure", "partial", "skipped", "cancelled", "paused", "unknown")
FITS: Final = ("good_fit", "underpowered", "overprovisioned", "failed")
SELECTION_METHODS: Final = {
    "thompson": "thompson-sampling",
    "thompson-sampling": "thompson-sampling",
    "pattern": "pattern-recommendation",
    "pattern-recommendation": "pattern-recommendation",
    "explicit": "explicit",
}


@dataclass(frozen=True, slots=True)
class PhaseFacets:
    phase: str
    model: str | None
    selection_method: str | None
    agent: str | None
    tools: tuple[str, ...]
    outcome: str
    credits: Mapping[str, Credit]
    """By rule."""
    is_first: bool
    """Whether it is the first phase of its group in the run."""
    fit: str | None
    cost_nano_usd: int | None
    duration_us: int | None
    input_tokens: int | None
    output_tokens: int | None

    @property
    def credited(self) -> str:
        """The outcome by the first rule."""
        return self.credits[RULES[0]].outcome or UNCREDITED


@dataclass(frozen=True, slots=True)
class Facets:
    """Facets of one trajectory. Given values win over those derived from the phases; unknown is
    None."""

    recorded_at_us: int
    summary: str
    request_type: str | None
    source: str | None
    project: str | None
    policy: str | None
    outcome: str
    build_passed: bool | None
    tests_passed: bool | None
    tags: tuple[str, ...]
    started_at_us: int | None
    cost_nano_usd: int | None
    phases_nano_usd: int | None
    duration_us: int | None
    input_tokens: int | None
    output_tokens: int | None
    tokens: int | None
    phases: tuple[PhaseFacets, ...]

    @property
    def unattributed_nano_usd(self) -> int | None:
        """Return the cost that no phase accounts for; negative where the phases add up to more."""
        if self.cost_nano_usd is None or self.phases_nano_usd is None:
            return None
        return self.cost_nano_usd - self.phases_nano_usd


def derived_of(facets: Facets) -> dict[str, Any]:
    """Return ``derived`` of an answer. Unknown is None."""
    return {
        "outcome": facets.outcome,
        "total_cost_usd": _in(facets.cost_nano_usd, NANO_USD),
        "phases_cost_usd": _in(facets.phases_nano_usd, NANO_USD),
        "unattributed_cost_usd": _in(facets.unattributed_nano_usd, NANO_USD),
        "total_duration_ms": _in(facets.duration_us, 1000),
        "input_tokens": facets.input_tokens,
        "output_tokens": facets.output_tokens,
        "total_tokens": facets.tokens,
        "credit": {"rule": "checks", "phases": [phase.credits["checks"]._asdict() for phase in facets.phases]},
    }


def _in(value: int | None, divisor: int) -> float | int | None:
    if value is None:
        return None
    return value // divisor if value % divisor == 0 else value / divisor


def facets_of(fields: Mapping[str, Any], recorded_at_us: int) -> Facets:
    """Return the facets of a canonical body."""
    groups = [phase_group(phase["phase_name"]) for phase in fields["phases"]]
    earned = {rule: credit_of(fields, rule) for rule in RULES}
    phases = tuple(
        _phase(phase, groups[at], {rule: earned[rule][at] for rule in RULES}, is_first=groups.index(groups[at]) == at)
        for at, phase in enumerate(fields["phases"])
    )
    cost, duration = _scaled(fields.get("total_cost_usd"), NANO_USD), _scaled(fields.get("total_duration_ms"), 1000)
    input_tokens = _sum(phase.input_tokens for phase in phases)
    output_tokens = _sum(phase.output_tokens for phase in phases)
    phases_cost = _sum(phase.cost_nano_usd for phase in phases)
    started_at = fields.get("started_at")
    return Facets(
        recorded_at_us=recorded_at_us,
        summary=_folded(fields["request_summary"]),
        request_type=fields.get("request_type"),
        source=fields.get("source"),
        project=fields.get("project"),
        policy=fields.get("policy"),
        outcome=run_outcome(fields, ((phase.phase, phase.outcome) for phase in phases)),
        build_passed=fields.get("build_passed"),
        tests_passed=fields.get("tests_passed"),
        tags=tuple(fields.get("tags", ())),
        started_at_us=None if started_at is None else epoch_us(datetime.fromisoformat(started_at)),
        cost_nano_usd=phases_cost if cost is None else cost,
        phases_nano_usd=phases_cost,
        duration_us=_sum(phase.duration_us for phase in phases) if duration is None else duration,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        tokens=_sum((input_tokens, output_tokens)),
        phases=phases,
    )


def selection_method(value: str) -> str:
    """Return the normalized name of a selection method; other words stay unchanged."""
    return SELECTION_METHODS.get(value.casefold().replace("_", "-"), value)


def epoch_us(at: datetime) -> int:
    """Return the exact microseconds since 1970."""
    delta = at - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def _phase(fields: Mapping[str, Any], group: str, earned: Mapping[str, Credit], *, is_first: bool) -> PhaseFacets:
    return PhaseFacets(
        phase=group,
        model=fields.get("model"),
        selection_method=fields.get("model_selection_method"),
        agent=fields.get("agent"),
        tools=tuple(fields.get("tools_used", ())),
        outcome=fields.get("outcome", "unknown"),
        credits=earned,
        is_first=is_first,
        fit=fields.get("fit"),
        cost_nano_usd=_scaled(fields.get("cost_usd"), NANO_USD),
        duration_us=_scaled(fields.get("duration_ms"), 1000),
        input_tokens=fields.get("input_tokens"),
        output_tokens=fields.get("output_tokens"),
    )


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def _scaled(value: float | None, by: int) -> int | None:
    return None if value is None else round(value * by)


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


# Filters: each parses its text and returns a predicate on facets.

Predicate = Callable[[Any], bool]


def _equal(column: str, read: Callable[[str], Any] = str) -> Callable[[str], Predicate]:
    return lambda text: _compared(column, read(text), lambda actual, value: bool(actual == value))


def _has(column: str) -> Callable[[str], Predicate]:
    return lambda text: lambda facets: text in getattr(facets, column)


def _at_least(column: str, read: Callable[[str], int]) -> Callable[[str], Predicate]:
    return lambda text: _compared(column, read(text), lambda actual, value: bool(actual >= value))


def _at_most(column: str, read: Callable[[str], int]) -> Callable[[str], Predicate]:
    return lambda text: _compared(column, read(text), lambda actual, value: bool(actual <= value))


def _below(column: str, read: Callable[[str], int]) -> Callable[[str], Predicate]:
    return lambda text: _compared(column, read(text), lambda actual, value: bool(actual < value))


def _compared(column: str, value: Any, compare: Callable[[Any, Any], bool]) -> Predicate:
    def matches(facets: Any) -> bool:
        actual = getattr(facets, column)
        return actual is not None and compare(actual, value)

    return matches


def _words(text: str) -> Predicate:
    for length in (len(text), len(folded := _folded(text[: _MAX_SEARCH_CHARS + 1]))):
        if length > _MAX_SEARCH_CHARS:
            raise ValueError(f"must not exceed {_MAX_SEARCH_CHARS} characters, got {length}; use fewer words")
    words = set(folded.split())
    if len(words) > _MAX_SEARCH_WORDS:
        raise ValueError(f"must not exceed {_MAX_SEARCH_WORDS} words, got {len(words)}; use fewer words")
    return lambda facets: all(word in facets.summary for word in words)


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(f"must be true or false, got {text[:40]!r}")
    return text == "true"


def _one_of(words: tuple[str, ...]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be one of {', '.join(words)}, got {text[:40]!r}")
        return text

    return read


def time_us(text: str, now_us: int) -> int:
    """Return the microseconds since 1970 of the text of a time filter.

    Raises:
        ValueError: the text is no time, date or span.
    """
    if _SPAN.fullmatch(text):
        return now_us - int(text[:-1]) * _SPAN_US[text[-1]]
    try:
        full = f"{text}T00:00:00Z" if _DATE.fullmatch(text) else text.replace(" ", "+") if "T" in text.upper() else text
        at = datetime.fromisoformat(full)
    except ValueError:
        at = datetime.min  # noqa: DTZ901  it has no timezone, so it is refused as well
    if at.tzinfo is None:
        raise ValueError(
            "must be a time with an offset (2026-01-05T23:58:46Z), a date in UTC (2026-01-05), or a span before now"
            f" (30m, 12h, 7d, 2w), got {text[:40]!r}"
        )
    return epoch_us(at)


def _amount(by: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            number = Decimal(text)
        except InvalidOperation:
            number = Decimal(-1)
        if not number.is_finite() or number < 0:
            raise ValueError(f"must be a number of at least 0, got {text[:40]!r}")
        return round(number * by)

    return read


ON_TRAJECTORY: Final[Mapping[str, Callable[[str], Predicate]]] = {
    "project": _equal("project"),
    "source": _equal("source"),
    "request_type": _equal("request_type"),
    "policy": _equal("policy"),
    "outcome": _equal("outcome", _one_of(OUTCOMES)),
    "build_passed": _equal("build_passed", _boolean),
    "tests_passed": _equal("tests_passed", _boolean),
    "tag": _has("tags"),
    "since": _at_least("recorded_at_us", int),
    "until": _below("recorded_at_us", int),
    "started_since": _at_least("started_at_us", int),
    "started_until": _below("started_at_us", int),
    "min_cost_usd": _at_least("cost_nano_usd", _amount(NANO_USD)),
    "max_cost_usd": _at_most("cost_nano_usd", _amount(NANO_USD)),
    "min_duration_ms": _at_least("duration_us", _amount(1000)),
    "max_duration_ms": _at_most("duration_us", _amount(1000)),
    "q": _words,
}
ON_PHASE: Final[Mapping[str, Callable[[str], Predicate]]] = {
    "phase": _equal("phase", phase_group),
    "model": _equal("model"),
    "selection_method": _equal("selection_method", selection_method),
    "agent": _equal("agent"),
    "tool": _has("tools"),
    "credited": _equal("credited", _one_of((*CREDITED, UNCREDITED))),
    "fit": _equal("fit", _one_of(FITS)),
}
FILTERS: Final = (*ON_TRAJECTORY, *ON_PHASE)
TIMES: Final = ("since", "until", "started_since", "started_until")


def query_of(given: Mapping[str, str], now_us: int) -> Callable[[Facets], bool]:
    """Return a predicate on trajectories. All phase filters must match the same phase.

    Args:
        now_us: the end of spans such as ``7d``.

    Raises:
        ValueError: an invalid value; its two arguments are the parameter and the problem.
    """
    given = {name: _in_us(name, text, now_us) if name in TIMES else text for name, text in given.items()}
    on_trajectory, on_phase = _conditions(ON_TRAJECTORY, given), _conditions(ON_PHASE, given)
    return lambda facets: (
        all(matches(facets) for matches in on_trajectory)
        and (not on_phase or any(all(matches(phase) for matches in on_phase) for phase in facets.phases))
    )


def _in_us(name: str, text: str, now_us: int) -> str:
    try:
        return str(time_us(text, now_us))
    except ValueError as error:
        raise ValueError(name, str(error)) from None


def _conditions(filters: Mapping[str, Callable[[str], Predicate]], given: Mapping[str, str]) -> list[Predicate]:
    found = []
    for name in filters.keys() & given.keys():
        try:
            found.append(filters[name](given[name]))
        except ValueError as error:
            raise ValueError(name, str(error)) from None
    return found
