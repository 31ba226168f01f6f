"""Runs of a data set that is worth training on."""

from __future__ import annotations

from typing import Any

from tests.examples import phase

TYPES = ("feature", "bugfix", "refactor")


def good_run(at: int, **fields: Any) -> dict[str, Any]:
    """Return a run of a data set that is ready: runs of it differ, and models are explored."""
    model = ("large", "small")[at % 2]
    spec = phase(
        model=model,
        model_selection_method="thompson-sampling",
        selection_probability=0.5,
        candidates=[{"model": "large", "probability": 0.5}, {"model": "small", "probability": 0.5}],
        tools_used=["grep"],
        cost_usd=0.01,
        outcome="success" if at % 3 else "failure",
        started_at="2026-01-05T10:00:00Z",
        ended_at="2026-01-05T10:00:01Z",
    )
    skipped = phase(phase_name="design", outcome="skipped", skip_reason="small change")
    return {
        "request_summary": f"Request number {at}",
        "request_type": TYPES[at % 3],
        "project": f"project-{at % 4}",
        "build_passed": bool(at % 5),
        "phases": [spec, skipped],
        # Outcomes do not depend on the type.
        "outcome": "success" if at % 7 else "failure",
    } | fields
