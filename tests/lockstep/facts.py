"""What a side has, as facts that can be compared: texts such as ``request Trajectory.project``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

OPERATION, PARAMETER, REQUEST, RESPONSE, ERROR = "operation", "parameter", "request", "response", "error"
"""``operation stats`` · ``parameter list.project`` · ``request Phase.model`` · ``response Stats.count`` · ``error 404 NotFoundError``"""


@dataclass(frozen=True)
class Side:
    """One place that has to agree with the HTTP API.

    Args:
        name: as the message and the page call it.
        kinds: of which facts it must have all.
        facts: those that it has.
        touch: what to do where it lacks one.
        without: patterns of facts that it does not have, and why. One that excuses nothing is an error too.
        own: patterns of facts that it has alone, and why.
        calls: for the page: which of its names comes to which operations.
    """

    name: str
    kinds: tuple[str, ...]
    facts: frozenset[str]
    touch: str
    without: Mapping[str, str] = field(default_factory=dict)
    own: Mapping[str, str] = field(default_factory=dict)
    calls: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def problems(self, api: frozenset[str]) -> list[str]:
        """What does not agree with ``api``, a line each, with what to touch."""
        expected = {fact for fact in api if fact.split()[0] in self.kinds}
        missing, extra = expected - self.facts, self.facts - expected
        return [
            *(f"{self.name} lacks: {fact}" for fact in sorted(_unexcused(missing, self.without))),
            *(f"{self.name} alone has: {fact}" for fact in sorted(_unexcused(extra, self.own))),
            *(f"{self.name} has, against what is written: {name}" for name in _idle(missing, self.without)),
            *(f"{self.name} has not, against what is written: {name}" for name in _idle(extra, self.own)),
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
