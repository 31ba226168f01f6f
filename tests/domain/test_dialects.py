"""The camelCase body of the existing CLI and its canonical form."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests import strategies
from tests.examples import CAMEL, camel, nested
from trajectories.domain.contract_types import MAX_INT
from trajectories.domain.dialects import read
from trajectories.domain.record import facets_of
from trajectories.domain.schema import canonical
from trajectories.domain.stats import bucket_of
from trajectories.exceptions import InvalidInput

UNKNOWN_KEYS = {"a": [1, None], "b": {"c": 2}}


def form_of(value: Any) -> bytes:
    return canonical(read(json.dumps(value).encode()))


def stored(value: Any) -> Any:
    return orjson.loads(form_of(value))


def phase(**fields: Any) -> dict[str, Any]:
    return {"phase": "spec", "success": True} | fields


def test_a_full_body_says_the_same_in_the_words_of_the_contract() -> None:
    record = stored(CAMEL)
    assert UUID(record.pop("id"))
    assert record == {
        "request_summary": "Add user authentication to the API",
        "project": "/srv/my-project",
        "phases": [
            {
                "phase_name": "spec",
                "agent": "product-manager",
                "model": "anthropic/claude-sonnet-4",
                "tools_used": ["file_read", "grep"],
                "input_tokens": 1500,
                "output_tokens": 800,
                "cost_usd": 0.012,
                "duration_ms": 2500,
                "outcome": "success",
                "metadata": {"subagentType": "planner", "outputLength": 4200},
            },
            {
                "phase_name": "implementation",
                "agent": "developer",
                "tools_used": [],
                "outcome": "failure",
                "error": "timeout",
                "metadata": {"subagentType": "coder"},
            },
        ],
        "outcome": "failure",
        "total_cost_usd": 0.012,
        "total_duration_ms": 2600,
        "total_phases": 4,
        "phases_skipped": 2,
        "build_passed": False,
        "review_findings": 2,
        "critical_findings": 1,
        "feedback_loops": [
            {
                "from_phase": "review",
                "to_phase": "implementation",
                "reason": "two findings",
                "at": "2026-01-05T23:58:46.915000Z",
            }
        ],
        "ended_at": "2026-01-05T23:58:46.916000Z",
        "metadata": {
            "id": "traj-1767657526915-k3x9",
            "projectType": "node",
            "outcome": {"phasesCompleted": 1},
        },
    }


def test_zeros_of_a_failed_phase_are_unknown_and_of_another_they_are_zeros() -> None:
    zeros = {"inputTokens": 0, "outputTokens": 0, "cost": 0, "duration": 0, "outputLength": 0}
    failed, skipped, ran = stored(
        camel(phases=[phase(success=False, **zeros), phase(success=False, skipped=True, **zeros), phase(**zeros)])
    )["phases"]
    assert failed == {"phase_name": "spec", "outcome": "failure"}
    for kept, outcome in ((skipped, "skipped"), (ran, "success")):
        assert kept == {
            "phase_name": "spec",
            "outcome": outcome,
            "input_tokens": 0,
            "output_tokens": 0,
            "cost_usd": 0,
            "duration_ms": 0,
            "metadata": {"outputLength": 0},
        }


def test_counts_of_a_failed_phase_are_kept() -> None:
    (failed,) = stored(camel(phases=[phase(success=False, cost=0.5, inputTokens=7, duration=0)]))["phases"]
    assert (failed["cost_usd"], failed["input_tokens"]) == (0.5, 7)
    assert "duration_ms" not in failed


@pytest.mark.parametrize(
    ("total", "phases", "skipped"),
    [
        (4, [phase(), phase()], 2),
        (2, [phase(), phase(skipped=True)], 1),
        (1, [phase(), phase()], 0),  # a phase may run twice
        (None, [phase()], None),
    ],
)
def test_phases_that_are_not_there_did_not_run(total: int | None, phases: list[Any], skipped: int | None) -> None:
    record = stored(camel(phases=phases, outcome={"success": True, "phasesTotal": total}))
    assert (record.get("total_phases"), record.get("phases_skipped")) == (total, skipped)


@pytest.mark.parametrize("end", ["2026-01-05T23:58:46.500Z", "2026-01-06T00:58:46.5+01:00", 1767657526500])
def test_the_timestamp_is_the_end_of_the_run(end: Any) -> None:
    record = stored(camel(timestamp=end))
    assert record["ended_at"] == "2026-01-05T23:58:46.500000Z"
    assert "started_at" not in record


def test_the_outcome_is_success_or_failure_and_without_one_it_is_not_invented() -> None:
    assert stored(camel(outcome={"success": True}))["outcome"] == "success"
    assert stored(camel(outcome={"success": False}))["outcome"] == "failure"
    assert "outcome" not in stored(camel())


def test_an_id_that_is_a_uuid_stays_and_another_always_gives_the_same_one() -> None:
    known = "29243fa3-f296-5e3b-9266-7052b77cbfe9"
    assert stored(camel(id=known))["id"] == known
    assert "metadata" not in stored(camel(id=known))
    one, same, other = (stored(camel(id=given)) for given in ("run-1", "run-1", "run-2"))
    assert one["id"] == same["id"] != other["id"]
    assert one["metadata"] == {"id": "run-1"}


def test_the_same_id_with_other_totals_is_another_version_of_the_same_record() -> None:
    first, second = stored(CAMEL), stored(CAMEL | {"totalCost": 0.03})
    assert first["id"] == second["id"]
    assert (first["total_cost_usd"], second["total_cost_usd"]) == (0.012, 0.03)


def test_unknown_keys_are_kept_where_they_cannot_hide_each_other() -> None:
    record = stored(
        camel(
            phases=[phase(**UNKNOWN_KEYS)],
            outcome={"success": True, "phasesCompleted": 1, "a": "of the outcome"},
            feedbackLoops=[{"from": "a", "to": "b", "score": 1}],
            a="of the run",
            nothing=None,
        )
    )
    assert record["phases"][0]["metadata"] == UNKNOWN_KEYS
    assert record["metadata"] == {
        "a": "of the run",
        "nothing": None,
        "outcome": {"a": "of the outcome", "phasesCompleted": 1},
        "feedbackLoops": [{"score": 1}],
    }


@pytest.mark.parametrize(
    ("given", "path", "code"),
    [
        (camel(phases=[{"phase": "spec"}]), "phases[0].success", "missing"),
        (camel(phases=[phase(cost=-1)]), "phases[0].cost", "greater_than_equal"),
        (camel(totalCost="1"), "totalCost", "float_type"),
        (camel(outcome={"success": True, "phasesTotal": 1.5}), "outcome.phasesTotal", "int_type"),
        (camel(timestamp="yesterday"), "timestamp", "datetime_parsing"),
        (camel(timestamp=True), "timestamp", "datetime_parsing"),
        (camel(timestamp=1e300), "timestamp", "datetime_range"),
        (camel(timestamp=float("nan")), "timestamp", "datetime_range"),
        (camel(id=""), "id", "string_too_short"),
        (camel(phases=[phase()] * 201), "phases", "too_long"),
        (camel(own=2**70), "own", "integer_range"),
        (camel(own=[float("nan")]), "own[0]", "finite_number"),
        (camel(own={"a": float("inf")}), "own.a", "finite_number"),
        (camel(own="\0"), "own", "nul_character"),
        (camel(phases=[phase(own="\0")]), "phases[0].own", "nul_character"),
        (camel(own=nested(65)), "own" + ".a" * 64, "too_deep"),
        (camel(**{"own\0": 1}), "", "nul_character"),
        ({"request": "x"}, "phases", "missing"),
    ],
)
def test_problems_are_reported_in_the_terms_of_the_dialect(given: Any, path: str, code: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        form_of(given)
    assert [(problem.path, problem.code) for problem in refused.value.details] == [(path, code)]


def test_a_body_with_a_summary_of_the_contract_is_never_read_as_the_dialect() -> None:
    with pytest.raises(InvalidInput) as refused:
        form_of({"request": "x", "request_summary": "x", "phases": []})
    assert [problem.path for problem in refused.value.details] == ["request"]


@given(strategies.camel_trajectories)
def test_a_body_of_the_dialect_becomes_one_of_the_contract(given: dict[str, Any]) -> None:
    form = form_of(given)
    assert canonical(read(form)) == form


@settings(max_examples=strategies.examples(500))
@given(strategies.bodies_of_any_kind)
@example(b'{"request":"x","phases":[],"own":1180591620717411303424}')
@example(b'{"request":"x","phases":[],"own":NaN}')
@example(b'{"request_summary":"x","phases":[],"total_cost_usd":%b}' % (b"9" * 400))
def test_any_json_is_either_refused_or_has_a_canonical_form(data: bytes) -> None:
    try:
        form = canonical(read(data))
    except InvalidInput:
        return
    assert canonical(read(form)) == form


@given(strategies.trajectories | strategies.camel_trajectories)
@example(
    {"request_summary": "x", "phases": [{"phase_name": "a", "duration_ms": 10**13, "output_tokens": MAX_INT}] * 200}
)
@example({"request_summary": "x", "phases": [{"phase_name": "a", "cost_usd": 10**6, "input_tokens": MAX_INT}] * 200})
def test_no_accepted_body_has_a_figure_that_a_column_of_the_archive_cannot_hold(given: dict[str, Any]) -> None:
    facets = facets_of(form_of(given))
    for value in (facets.cost_nano_usd, facets.duration_us, facets.input_tokens, facets.output_tokens, facets.tokens):
        assert value is None or (0 <= value < 2**63 and bucket_of(value) < 2**15)


@given(st.binary(max_size=30))
def test_bytes_that_are_no_json_are_refused_and_nothing_else(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        read(data)
