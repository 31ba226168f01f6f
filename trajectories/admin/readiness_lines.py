"""What the page of readiness says of each check: its name, value and threshold in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from django.utils.safestring import SafeString

from trajectories.admin import charts, figures, formatting
from trajectories.domain.text import counted, visible
from trajectories.services.health import BAD, GOOD

_SHARES: Final = {
    "cost": "Runs with a cost",
    "outcome": "Runs with a known outcome",
    "build": "Runs with a build result",
    "tools": "Phases that say which tools they used",
    "model": "Phases that name their model",
    "method": "Phases that say how their model was chosen",
    "propensity": "Phases with the probability of their choice",
    "duplicates": "Runs that repeat an earlier run",
    "model_share": "Phases of the most used model",
    "late_phases": "Phases listed before one that ended earlier",
    "requests_with_errors": "Requests that contain the run's own error",
    "shared_requests": "Runs whose request another session or project has",
}
_COUNTS: Final = {
    "runs": "Runs with a cost and tools",
    "projects": "Projects",
    "request_types": "Types of request",
    "skipped_phases": "Skipped phases",
    "overlap": "Contexts in which several actions were possible",
    "one_outcome_types": "Types of request with one outcome only",
}
TITLES: Final = _SHARES | _COUNTS
"""The name of each check by its code."""
_AT_MOST: Final = {
    "duplicates",
    "model_share",
    "late_phases",
    "requests_with_errors",
    "shared_requests",
    "one_outcome_types",
}


class Line(NamedTuple):
    """A check. ``state`` is good or bad; ``drawn`` is a bar where the value is a share."""

    name: str
    code: str
    state: str
    value: str
    limit: str
    drawn: SafeString | str
    remedy: str


def lines(checks: Iterable[Mapping[str, Any]]) -> list[Line]:
    """Return a line for each check of ``readiness.report``, those that failed first."""
    return sorted(map(_line, checks), key=lambda line: line.state == GOOD)


def sentence(found: Mapping[str, Any]) -> str:
    """Say whether the data is ready, and how much was read."""
    runs = f"{counted(found['runs'], 'run')} {'was' if found['runs'] == 1 else 'were'}"
    failed = sum(not check["passed"] for check in found["checks"])
    count = len(found["checks"])
    if found["ready"]:
        return f"Yes: all {count} checks passed. {runs} measured."
    return f"Not yet: {failed} of {count} checks failed. Do what they say. {runs} measured."


def _line(check: Mapping[str, Any]) -> Line:
    code, value = check["code"], check["value"]
    is_share = code in _SHARES
    text = formatting.percent if is_share else figures.count
    side = "at most" if code in _AT_MOST else "at least"
    return Line(
        TITLES[code],
        code,
        GOOD if check["passed"] else BAD,
        "unknown" if value is None else text(value),
        f"{side} {text(check['threshold'])}",
        charts.bar(value) if is_share and value is not None else "",
        visible(check["message"] or ""),
    )


def warnings(found: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Yield the code of each contradiction in the runs, and how many runs have it; the most
    frequent first."""
    for code, count in sorted(found.items(), key=lambda one: (-one[1], one[0])):
        yield code, counted(count, "run")
