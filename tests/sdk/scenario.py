"""The scenario for every way to the store, as data.

A way is one ``Way``. It gets the runs as bodies and has to record them with what it has; times are
part of the bodies, so that what is stored can be equal to the byte.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx2

Json = dict[str, Any]

_SMALL, _LARGE = "provider/small", "provider/large"

RUNS: Sequence[Json] = (
    {
        "request_summary": "Describe the endpoints",
        "request_type": "documentation",
        "source": "pipeline",
        "project": "shop",
        "phases": [
            {
                "phase_name": "spec",
                "agent": "writer",
                "model": _SMALL,
                "model_selection_method": "explicit",
                "input_tokens": 400,
                "output_tokens": 90,
                "cost_usd": 0.0004,
                "duration_ms": 800,
                "outcome": "success",
                "attempt": 1,
                "started_at": "2026-03-01T09:00:00Z",
            }
        ],
        "total_cost_usd": 0.0004,
        "total_duration_ms": 800,
        "total_phases": 1,
        "phases_skipped": 0,
        "started_at": "2026-03-01T09:00:00Z",
        "ended_at": "2026-03-01T09:00:00.800000Z",
    },
    {
        "request_summary": "Add user authentication to the API — größer, 認証",
        "request_type": "feature",
        "source": "pipeline",
        "project": "shop",
        "phases": [
            {
                "phase_name": "spec",
                "agent": "product-manager",
                "model": _LARGE,
                "model_selection_method": "thompson-sampling",
                "candidates": [
                    {"model": _LARGE, "score": 0.81, "probability": 0.7},
                    {"model": _SMALL, "score": 0.64, "probability": 0.3},
                ],
                "selection_probability": 0.7,
                "tools_used": ["file_read", "grep"],
                "steps_taken": 3,
                "input_tokens": 1500,
                "output_tokens": 800,
                "cached_input_tokens": 1000,
                "reasoning_tokens": 120,
                "cost_usd": 0.012,
                "duration_ms": 2500,
                "outcome": "success",
                "attempt": 1,
                "started_at": "2026-03-01T10:00:00Z",
            },
            {"phase_name": "design", "outcome": "skipped", "skip_reason": "small change"},
            {
                "phase_name": "implement",
                "agent": "developer",
                "model": _SMALL,
                "model_selection_method": "pattern-recommendation",
                "tools_used": ["edit"],
                "input_tokens": 5000,
                "output_tokens": 2100,
                "cost_usd": 0.0051,
                "duration_ms": 9000,
                "outcome": "failure",
                "attempt": 1,
                "error": "ValueError: the tests do not pass",
                "started_at": "2026-03-01T10:00:03Z",
            },
            {
                "phase_name": "implement",
                "agent": "developer",
                "model": _LARGE,
                "requested_model": _SMALL,
                "model_selection_method": "pattern-recommendation",
                "tools_used": ["edit", "run_tests"],
                "steps_taken": 2,
                "input_tokens": 5200,
                "output_tokens": 1900,
                "cost_usd": 0.0399,
                "duration_ms": 12000.5,
                "outcome": "success",
                "attempt": 2,
                "started_at": "2026-03-01T10:00:13Z",
                "metadata": {"temperature": 0.2},
            },
        ],
        "total_cost_usd": 0.057,
        "total_duration_ms": 25500,
        "total_phases": 4,
        "phases_skipped": 1,
        "build_passed": True,
        "tests_passed": True,
        "review_findings": 0,
        "planned_phases": ["spec", "design", "implement"],
        "feedback_loops": [
            {
                "from_phase": "implement",
                "to_phase": "implement",
                "reason": "the tests do not pass",
                "at": "2026-03-01T10:00:12Z",
            }
        ],
        "started_at": "2026-03-01T10:00:00Z",
        "ended_at": "2026-03-01T10:00:25.500000Z",
        "session_id": "session-7",
        "tags": ["nightly"],
        "external_refs": {"pull_request": "12"},
        "metadata": {"branch": "auth"},
    },
    {
        "request_summary": "Repair the build",
        "request_type": "bugfix",
        "source": "pipeline",
        "project": "shop",
        "policy": "router@2026-02-01",
        "phases": [
            {
                "phase_name": "implement",
                "model": _SMALL,
                "model_selection_method": "explicit",
                "duration_ms": 700,
                "outcome": "failure",
                "fit": "underpowered",
                "attempt": 1,
                "error": "TimeoutError: no answer in 30 s",
                "started_at": "2026-03-01T11:00:00Z",
            }
        ],
        "total_duration_ms": 750,
        "total_phases": 1,
        "phases_skipped": 0,
        "build_passed": False,
        "started_at": "2026-03-01T11:00:00Z",
        "ended_at": "2026-03-01T11:00:00.750000Z",
    },
    {
        "request_summary": "Choose a model by its price",
        "request_type": "feature",
        "source": "pipeline",
        "project": "shop",
        "policy": "router@2026-03-01",
        "parent_id": "7d1f0c8a-4f5e-4b6e-9a55-0a4c1d2e3f40",
        "phases": [
            {
                "phase_name": "implement",
                "phase_id": "implement-1",
                "agent": "developer",
                "model": _LARGE,
                "requested_model": _SMALL,
                "model_selection_method": "thompson-sampling",
                "selection_rule": "cheapest-eligible",
                "reasoning_effort": "high",
                "candidates": [
                    {
                        "model": _SMALL,
                        "score": 0.9,
                        "probability": 0.75,
                        "eligible": True,
                        "score_parts": {"price": 0.7, "quality": 0.2},
                    },
                    {"model": _LARGE, "score": 0.5, "probability": 0.25},
                    {"model": "provider/old", "eligible": False, "reason": "its context is too short"},
                ],
                "selection_probability": 0.75,
                "exploration": {"strategy": "thompson-sampling", "samples": 10000, "seed": 7},
                "keep_probability": 0.95,
                "attempts": [
                    {
                        "model": _SMALL,
                        "outcome": "failure",
                        "error": "429 Too Many Requests",
                        "cost_usd": 0.001,
                        "duration_ms": 300,
                        "reason": "first choice",
                    },
                    {"model": _LARGE, "outcome": "success", "cost_usd": 0.029, "reason": "rate_limited"},
                ],
                "input_tokens": 5000,
                "output_tokens": 2100,
                "cache_write_input_tokens": 900,
                "cost_usd": 0.03,
                "duration_ms": 9000,
                "outcome": "success",
                "status_reason": "the second model answered",
                "fit": "overprovisioned",
                "evidence": {"log": "logs/implement-1.txt"},
                "attempt": 1,
                "started_at": "2026-03-01T12:00:00Z",
                "ended_at": "2026-03-01T12:00:09Z",
            },
            {
                "phase_name": "review",
                "phase_id": "review-1",
                "parent_phase_id": "implement-1",
                "depends_on": ["implement-1"],
                "model": _SMALL,
                "duration_ms": 100,
                "outcome": "cancelled",
                "status_reason": "the user went on without it",
                "attempt": 1,
                "started_at": "2026-03-01T12:00:09Z",
                "ended_at": "2026-03-01T12:00:09.100000Z",
            },
        ],
        "outcome": "success",
        "total_cost_usd": 0.03,
        "total_duration_ms": 9200,
        "total_phases": 2,
        "phases_skipped": 0,
        "feedback_loops": [
            {
                "from_phase": "review",
                "to_phase": "implement",
                "from_phase_id": "review-1",
                "to_phase_id": "implement-1",
                "reason": "a name is misspelt",
                "at": "2026-03-01T12:00:09Z",
            }
        ],
        "started_at": "2026-03-01T12:00:00Z",
        "ended_at": "2026-03-01T12:00:09.200000Z",
    },
)

CHANGES: Json = {
    "outcome": "partial",
    "parent_id": None,
    "phases": [
        {"phase_id": "review-1", "outcome": "failure", "status_reason": None},
        {"phase_id": "test-1", "phase_name": "test", "outcome": "success"},
    ],
}
"""A patch of the last run: it replaces and deletes fields, changes a phase and appends one."""


def changed(run: Json) -> Json:
    """Return the last run with CHANGES."""
    first, review = run["phases"]
    phases = [
        first,
        {name: value for name, value in review.items() if name != "status_reason"} | {"outcome": "failure"},
        {"phase_name": "test", "phase_id": "test-1", "outcome": "success"},
    ]
    return {name: value for name, value in run.items() if name != "parent_id"} | {
        "outcome": "partial",
        "phases": phases,
    }


FILTERS: Json = {
    "outcome": "failure",
    "policy": "router@2026-02-01",
    "credited": "failure",
    "fit": "underpowered",
    "model": _SMALL,
    "build_passed": False,
    "started_since": "2026-03-01T10:30:00Z",
}
"""Filters of every kind of value; they find the run that failed alone."""


@dataclass(frozen=True)
class Seen:
    """The answers of one way, converted to one form.

    Args:
        listed: request summaries, newest first.
        found: those that FILTERS find.
        groups: per phase, model and selection method: count, credited success rate and its
            Wilson lower bound, success rate by the phases' outcomes, mean cost, value per dollar.
        exported: canonical bodies in the order of the export; None where the way has no export.
    """

    listed: list[str]
    found: list[str]
    groups: dict[tuple[str | None, ...], tuple[float | None, ...]]
    exported: list[str] | None


@dataclass(frozen=True)
class Access:
    """Where the store is, the key of a tenant without records, and a directory that all tests of a
    run share."""

    url: str
    key: str
    shared: Path


class Way(Protocol):
    """A way to the store. Each has a tenant of its own."""

    def record(self, runs: Sequence[Json]) -> None:
        """Record them in this order; afterwards they are durable."""

    def update(self, id_: str, revision: int, changes: Json) -> None:
        """Change a run, if it has this revision; afterwards the change is durable."""

    def see(self) -> Seen:
        """Ask for what was recorded."""


def canonical(record: Mapping[str, Any]) -> str:
    """A record without what is no part of its body: its id, and what the server has added. The
    order of fields stays."""
    added = ("id", "recorded_at", "revision", "derived", "warnings")
    return json.dumps({name: value for name, value in record.items() if name not in added}, ensure_ascii=False)


def groups(stats: Mapping[str, Any]) -> dict[tuple[str | None, ...], tuple[float | None, ...]]:
    """Return the compared part of an answer of stats."""
    return {
        (group["phase"], group["model"], group["selection_method"]): figures(
            group["count"],
            group["credited_success_rate"]["rate"],
            group["credited_success_rate"]["low"],
            group["success_rate"]["rate"],
            group["cost_usd"]["mean"],
            group["value_per_dollar"],
        )
        for group in stats["by_phase_model"]
    }


def figures(*values: float | None) -> tuple[float | None, ...]:
    """To six digits, which every way shows."""
    return tuple(None if value is None else float(f"{value:.6g}") for value in values)


class Http:
    """The bare API, which every other way is held against."""

    def __init__(self, access: Access) -> None:
        headers = {"Authorization": f"Bearer {access.key}"}
        self._http = httpx2.Client(base_url=access.url, headers=headers, timeout=30, trust_env=False)

    def record(self, runs: Sequence[Json]) -> None:
        for run in runs:
            self._http.post(_PATH, json=run).raise_for_status()

    def update(self, id_: str, revision: int, changes: Json) -> None:
        headers = {"Content-Type": "application/merge-patch+json", "If-Match": f'"{revision}"'}
        self._http.patch(f"{_PATH}/{id_}", content=json.dumps(changes), headers=headers).raise_for_status()

    def newest(self) -> tuple[str, int]:
        """Return the id and the revision of the run that was recorded last."""
        (record,) = self._get("", {"limit": 1})["data"]
        return record["id"], record["revision"]

    def see(self) -> Seen:
        found = {name: str(value).lower() if isinstance(value, bool) else value for name, value in FILTERS.items()}
        return Seen(
            listed=[record["request_summary"] for record in self._get("", {})["data"]],
            found=[record["request_summary"] for record in self._get("", found)["data"]],
            groups=groups(self._get("/stats", {})),
            exported=self.exported(),
        )

    def exported(self) -> list[str]:
        """Canonical bodies, as the archive has them."""
        answer = self._http.get(f"{_PATH}/export").raise_for_status()
        return [canonical(json.loads(line)) for line in answer.content.splitlines()]

    def close(self) -> None:
        self._http.close()

    def _get(self, path: str, query: Json) -> Json:
        answer: Json = self._http.get(_PATH + path, params=query).raise_for_status().json()
        return answer


_PATH = "/v1/agent/trajectories"
