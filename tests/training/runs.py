"""Runs that the tests export: built as the contract takes them, without a store."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import orjson
from hypothesis import strategies as st

from trajectories.domain.late_outcomes import collect
from trajectories.domain.record import Record, digest_of
from trajectories.domain.schema import canonical, parse
from trajectories.training import formats
from trajectories.training.formats.base import LeftOut

RECORDED_AT_US = 1_767_657_526_916_527


def record(*phases: dict[str, Any], number: int = 1, **fields: Any) -> Record:
    """Return the stored record of a run with these phases."""
    given = {"id": str(UUID(int=number)), "request_summary": "Fix the login", "phases": list(phases)} | fields
    return stored(given)


def stored(given: dict[str, Any]) -> Record:
    body = canonical(parse(orjson.dumps(given)))
    return Record("north", UUID(given["id"]), RECORDED_AT_US, digest_of(body), RECORDED_AT_US, RECORDED_AT_US, body)


def phase(name: str, outcome: str = "success", **fields: Any) -> dict[str, Any]:
    return {"phase_name": name, "outcome": outcome} | fields


def rows(name: str, *records: Record, left_out: LeftOut | None = None, **options: str) -> list[dict[str, Any]]:
    """Return the lines of an export, parsed."""
    format_ = formats.get(name)
    lines = format_.lines(records, format_.read_options(options), left_out)
    return [orjson.loads(line) for line in lines]


def run_with_choices(number: int = 1, model: str = "large", **fields: Any) -> Record:
    """Return a run in which a model was drawn, a phase skipped by a draw, and a fallback answered."""
    candidates = [
        {"model": "large", "probability": 0.6},
        {"model": "small", "probability": 0.4},
        {"model": "banned", "probability": 0, "eligible": False},
    ]
    return record(
        phase("spec", agent="analyst", model="small", tools_used=["grep"], cost_usd=0.01, duration_ms=1500),
        phase(
            "implement",
            model=model,
            candidates=candidates,
            selection_probability=0.6 if model == "large" else 0.4,
            cost_usd=0.2 if model == "large" else 0.02,
            keep_probability=0.5,
        ),
        phase("review", "skipped", skip_reason="small change", keep_probability=0.75),
        phase(
            "docs",
            requested_model="small",
            model="large",
            attempts=[{"model": "small", "outcome": "failure"}, {"model": "large", "outcome": "success"}],
        ),
        number=number,
        **(
            {"request_type": "bugfix", "project": "web", "policy": "router@1", "tests_passed": model == "large"}
            | fields
        ),
    )


# Hypothesis.

_names = st.sampled_from(["spec", "implement", "Code", "test", "review"])
_ids = st.sampled_from(["a", "b", "c", "d"])
_models = st.sampled_from(["large", "small", "tiny"])
_probabilities = st.sampled_from([0, 0.25, 0.5, 1])
_times = st.integers(0, 59).map(lambda second: f"2026-01-05T23:58:{second:02}Z")
_outcomes = st.sampled_from(["success", "failure", "partial", "skipped", "cancelled", "paused", "unknown"])


def _some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


choices = st.fixed_dictionaries(
    {"phase_name": _names},
    optional={
        "phase_id": _ids,
        "parent_phase_id": _ids,
        "depends_on": st.lists(_ids, max_size=3),
        "agent": _models,
        "requested_model": _models,
        "candidates": st.lists(
            st.fixed_dictionaries({"model": _models}, optional={"probability": _probabilities}), max_size=3
        ),
        "selection_probability": _probabilities,
        "keep_probability": _probabilities,
        "tools_used": st.lists(_models, max_size=2),
        "started_at": _times,
    },
)
"""Fields of a phase that are known when it is decided on."""
results = _some(
    outcome=_outcomes.filter(lambda outcome: outcome != "skipped"),
    error=_models,
    cost_usd=st.sampled_from([0, 0.5, 2]),
    duration_ms=st.integers(0, 40_000),
    ended_at=_times,
    output_tokens=st.integers(0, 9),
    fit=st.sampled_from(["good_fit", "failed"]),
    evidence=st.just({"log": "x"}),
    status_reason=_models,
    metadata=st.just({"a": 1}),
)
"""Fields of its result."""
phases = st.builds(lambda choice, result: choice | result, choices, results) | st.fixed_dictionaries(
    {"phase_name": _names, "outcome": st.just("skipped")}, optional={"skip_reason": _models, "phase_id": _ids}
)
loops = st.lists(
    _some(from_phase_id=_ids, to_phase_id=_ids, from_phase=_names, to_phase=_names, reason=_models), max_size=3
)
late_fields = _some(
    outcome=st.sampled_from(["success", "failure", "partial", "unknown"]),
    total_cost_usd=st.integers(0, 9),
    total_duration_ms=st.integers(0, 9),
    phases_skipped=st.integers(0, 3),
    tests_passed=st.booleans(),
    build_passed=st.booleans(),
    critical_findings=st.integers(0, 2),
    files_changed=st.integers(0, 9),
    error=_models,
    ended_at=_times,
    tags=st.lists(_models, max_size=2),
    external_refs=st.just({"pr": "1"}),
    metadata=st.just({"judged": "later"}),
)
early_fields = _some(
    request_type=_models,
    source=_models,
    project=_models,
    policy=_models,
    planned_phases=st.lists(_names, max_size=3),
    session_id=_ids,
    started_at=_times,
)


late_outcomes = st.lists(
    st.tuples(
        st.sampled_from(["merged", "rating"]), st.booleans() | st.integers(-5, 5), st.sampled_from([None, "a", "b"])
    ),
    max_size=3,
)
"""Name, value and phase_id of late outcomes, unknown when a phase is decided."""


def outcomes(given: list[tuple[str, Any, str | None]]) -> bytes:
    """Return the outcomes of a record."""
    at = "2026-02-01T10:00:00.000000Z"
    return collect(
        {"id": str(UUID(int=number)), "name": name, "value": value, "at": at, "recorded_at": at}
        | ({} if phase_id is None else {"phase_id": phase_id})
        for number, (name, value, phase_id) in enumerate(given)
    )
