"""Late outcomes on the page of a trajectory."""

from __future__ import annotations

from typing import Any

from trajectories.admin import formatting
from trajectories.domain import answers
from trajectories.domain.record import Record


def context(record: Record) -> dict[str, Any]:
    """Return what ``_outcomes.html`` shows: a list, empty without outcomes."""
    return {"outcomes": [_line(one) for one in answers.outcomes_of(record)]}


def _line(one: dict[str, Any]) -> dict[str, Any]:
    value = one["value"]
    return {
        "name": formatting.text(one["name"]),
        "value": str(value).lower() if isinstance(value, bool) else value,
        "phase_id": formatting.text(one.get("phase_id")),
        "source": formatting.text(one.get("source")),
        "at": one["at"],
        "reference": _pairs(one.get("reference")),
        "evidence": _pairs(one.get("evidence")),
    }


def _pairs(values: dict[str, str] | None) -> list[tuple[str | None, str | None]]:
    return [(formatting.text(name), formatting.text(text)) for name, text in (values or {}).items()]
