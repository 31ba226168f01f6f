"""Bodies as an orchestrator reports them."""

from __future__ import annotations

import json
from typing import Any


def run(phases: int) -> dict[str, Any]:
    """Return a run with typical fields and no id; about 2.4 kB of JSON with 5 phases."""
    phase = {
        "phase_name": "implement",
        "agent": "coder",
        "model": "anthropic/claude-sonnet-4",
        "model_selection_method": "thompson-sampling",
        "candidates": [
            {"model": "anthropic/claude-sonnet-4", "probability": 0.7},
            {"model": "small", "probability": 0.3},
        ],
        "selection_probability": 0.7,
        "tools_used": ["file_read", "grep", "edit"],
        "steps_taken": 12,
        "input_tokens": 15_000,
        "output_tokens": 2_400,
        "cost_usd": 0.0812,
        "duration_ms": 41_250.5,
        "outcome": "success",
    }
    return {
        "request_summary": "Add user authentication to the API",
        "request_type": "feature",
        "source": "phase-build",
        "project": "my-project",
        "phases": [phase] * phases,
        "build_passed": True,
        "tests_passed": True,
        "started_at": "2026-01-05T23:58:46Z",
        "tags": ["nightly"],
        "metadata": {"branch": "auth", "ticket": 4711},
    }


def encoded(phases: int) -> bytes:
    return json.dumps(run(phases)).encode()


SMALL, LARGE = 5, 140
"""Phases of bodies of 2 kB and of 64 kB."""
