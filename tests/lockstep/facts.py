"""Facts of a side, as comparable texts such as ``request Trajectory.project``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from trajectories.training.export import OPTIONS, PARAMETERS

OPERATION, PARAMETER, REQUEST, RESPONSE, ERROR = "operation", "parameter", "request", "response", "error"
"""``operation stats`` · ``parameter list.project`` · ``request Phase.model`` · ``response
Stats.count`` · ``error 404 NotFoundError``"""

CANONICAL_ONLY = "clients export canonical records; other formats are for trainers, which load the address or a file"
OF_TRAINING: Mapping[str, str] = {
    f"{OPERATION} export_manifest": CANONICAL_ONLY,
    f"{PARAMETER} export_manifest.*": CANONICAL_ONLY,
    **{f"{PARAMETER} export.{name}": CANONICAL_ONLY for name in (*PARAMETERS, *OPTIONS, "file", "compression")},
}
"""Parameters of exports that only trainers use."""
_BY_TARGET = "the endpoint by target takes the id too, so that one method serves both"
BY_TARGET: Mapping[str, str] = {
    f"{OPERATION} record_outcome": _BY_TARGET,
    f"{PARAMETER} record_outcome.id": _BY_TARGET,
}
"""The second endpoint of late outcomes."""
MANIFESTS = {f"{RESPONSE} {name}.*": CANONICAL_ONLY for name in ("ExportManifest", "ExportPosition")}

_AS_A_TOOL_READS = "an existing command line tool reads it; the SDKs ask POST /v1/agent/recommendations"
OF_A_TOOL: Mapping[str, str] = {
    f"{OPERATION} {name}": _AS_A_TOOL_READS for name in ("recommend_models", "forecast_cost")
} | {f"{PARAMETER} {name}.*": _AS_A_TOOL_READS for name in ("recommend_models", "forecast_cost")}
"""Operations that no client of ours calls."""
OF_A_TOOL_ANSWERS = {
    f"{RESPONSE} {name}.*": _AS_A_TOOL_READS for name in ("ModelRecommendation", "ModelScore", "CostForecast")
}
DECISIONS = {
    f"{REQUEST} {name}.*": "no field of a record"
    for name in (
        *("RecommendationRequest", "CandidateModel", "EarlierPhase", "QualityFloor"),
        *("EvaluationRequest", "RulePolicy", "Rule"),
    )
}
"""Fields of requests that record nothing."""


@dataclass(frozen=True)
class Side:
    """One client or document that must agree with the HTTP API.

    Args:
        name: Its name in messages and on the page.
        kinds: The kinds of facts that it must have completely.
        facts: The facts that it has.
        touch: What to change if it lacks a fact.
        without: Patterns of facts that it lacks on purpose, with the reason. An unused pattern is a
            problem.
        own: Patterns of facts that only this side has, with the reason. An unused pattern is a
            problem.
        calls: The operations behind each of its names, for the page.
    """

    name: str
    kinds: tuple[str, ...]
    facts: frozenset[str]
    touch: str
    without: Mapping[str, str] = field(default_factory=dict)
    own: Mapping[str, str] = field(default_factory=dict)
    calls: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def problems(self, api: frozenset[str]) -> list[str]:
        """Return the differences from ``api``, one line each."""
        expected = {fact for fact in api if fact.split()[0] in self.kinds}
        missing, extra = expected - self.facts, self.facts - expected
        return [
            *(f"{self.name} lacks: {fact}" for fact in sorted(_unexcused(missing, self.without))),
            *(f"{self.name} has, but the API does not: {fact}" for fact in sorted(_unexcused(extra, self.own))),
            *(f"{self.name} has a fact that `without` excuses: {name}" for name in _idle(missing, self.without)),
            *(f"{self.name} lacks a fact that `own` excuses: {name}" for name in _idle(extra, self.own)),
        ]


def _unexcused(facts: Iterable[str], excuses: Mapping[str, str]) -> Iterator[str]:
    return (fact for fact in facts if not any(fnmatchcase(fact, pattern) for pattern in excuses))


def _idle(facts: Iterable[str], excuses: Mapping[str, str]) -> Iterator[str]:
    found = list(facts)
    return (pattern for pattern in excuses if not any(fnmatchcase(fact, pattern) for fact in found))


def parameters(operation: str, names: Iterable[str]) -> frozenset[str]:
    return frozenset(f"{PARAMETER} {operation}.{name}" for name in names)


def fields(kind: str, schema: str, names: Iterable[str]) -> frozenset[str]:
    return frozenset(f"{kind} {schema}.{name}" for name in names)


def operations(calls: Mapping[str, Iterable[str]]) -> frozenset[str]:
    return frozenset(f"{OPERATION} {operation}" for called in calls.values() for operation in called)
