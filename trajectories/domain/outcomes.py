"""Names of phases, and the outcome of a run whose outcome was not given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from trajectories.conf import read_settings

PHASE_ALIASES: Mapping[str, str] = {
    "architecture": "design",
    "implementation": "implement",
    "code": "implement",
    "verify": "test",
    "verification": "test",
}


NOT_RUN = ("skipped", "cancelled", "paused")
"""Outcomes of phases that did not run to their end, and so earned nothing."""


def phase_group(name: str) -> str:
    """Return the name under which stats and filters group a phase."""
    key, group = _known_group(name)
    return read_settings().phase_aliases.get(key) or group


@lru_cache(4_096)
def _known_group(name: str) -> tuple[str, str]:
    """Return the name in the form of aliases, and its group by the built-in ones."""
    key = name.strip().casefold()
    return key, PHASE_ALIASES.get(key, key)


def run_outcome(fields: Mapping[str, Any], phases: Iterable[tuple[str, str]]) -> str:
    """Return the outcome of a run: the given one, else one derived from the last run of each phase.

    A review that failed and then passed has passed.

    Args:
        fields: a canonical body, parsed.
        phases: group and outcome of each phase, in order.
    """
    if given := fields.get("outcome"):
        return str(given)
    ran = [outcome for outcome in dict(phases).values() if outcome != "skipped"]
    if fields.get("build_passed") is False or fields.get("tests_passed") is False or "failure" in ran:
        return "failure"
    return "success" if ran and all(outcome == "success" for outcome in ran) else "unknown"
