"""Derived values beside the body, by the rules of docs/contract.md."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given, settings

from tests import strategies
from tests.examples import REFERENCE, body, phase
from trajectories.api import responses
from trajectories.domain import answers, schema
from trajectories.domain.contract_types import MAX_COST_USD, MAX_DURATION_MS, MAX_INT, MAX_NAME, MAX_PHASES
from trajectories.domain.derived import derived_of
from trajectories.domain.record import ID_BYTES, SERVER_FIELDS_BYTES, Record, digest_of, facets_of
from trajectories.domain.warnings import MAX_WARNINGS

ID = UUID(int=7)


def record(data: dict[str, Any]) -> Record:
    form = schema.canonical(schema.parse(orjson.dumps({"id": str(ID)} | data)))
    return Record("t", ID, 2, digest_of(form), 2, 1, form)


def derived(**fields: Any) -> dict[str, Any]:
    return derived_of(facets_of(record(body(**fields)).body))


def test_nothing_is_known_of_a_run_without_phases() -> None:
    assert derived() == {
        "outcome": "unknown",
        "total_cost_usd": None,
        "phases_cost_usd": None,
        "unattributed_cost_usd": None,
        "total_duration_ms": None,
        "input_tokens": None,
        "output_tokens": None,
        "total_tokens": None,
        "credit": {"rule": "checks", "phases": []},
    }


def test_a_missing_total_is_summed_over_the_phases() -> None:
    phases = [
        phase(cost_usd=0.1, duration_ms=1.5, input_tokens=10, outcome="success"),
        phase(cost_usd=0.2, output_tokens=5, outcome="success"),
        phase(phase_name="review", outcome="skipped"),
    ]
    assert derived(phases=phases) == {
        "outcome": "success",
        "total_cost_usd": 0.3,
        "phases_cost_usd": 0.3,
        "unattributed_cost_usd": 0,
        "total_duration_ms": 1.5,
        "input_tokens": 10,
        "output_tokens": 5,
        "total_tokens": 15,
        "credit": {
            "rule": "checks",
            "phases": [*[{"outcome": "success", "source": "phase_outcome"}] * 2, {"outcome": None, "source": ""}],
        },
    }


@pytest.mark.parametrize(("total", "rest"), [(0.5, 0.2), (0.1, -0.2)])
def test_a_given_total_is_kept_and_the_difference_is_reported(total: float, rest: float) -> None:
    found = derived(
        total_cost_usd=total, total_duration_ms=9, phases=[phase(cost_usd=0.1, duration_ms=1), phase(cost_usd=0.2)]
    )
    costs = found["total_cost_usd"], found["phases_cost_usd"], found["unattributed_cost_usd"]
    assert (costs, found["total_duration_ms"]) == ((total, 0.3, rest), 9)


def test_a_total_without_costs_of_phases_leaves_the_rest_unknown() -> None:
    found = derived(total_cost_usd=1, phases=[phase()])
    assert (found["total_cost_usd"], found["phases_cost_usd"], found["unattributed_cost_usd"]) == (1, None, None)


def test_the_derived_outcome_is_that_of_filters_and_stats() -> None:
    for fields in ({"tests_passed": False}, {"outcome": "partial"}, {"phases": [phase(outcome="success")]}):
        assert derived(**fields)["outcome"] == facets_of(record(body(**fields)).body).outcome


@settings(max_examples=50)
@given(strategies.trajectories)
def test_an_answer_adds_server_fields_and_can_be_posted_back(
    data: dict[str, Any],
) -> None:
    one = record(data | {"id": str(ID)})
    for shown in (answers.item(one), answers.item(one, facets_of(one.body)), answers.whole(one)):
        assert shown.startswith(one.body[:-1])
        responses.StoredTrajectory.model_validate_json(shown)
        assert schema.canonical(schema.parse(shown)) == one.body
    assert "warnings" not in orjson.loads(answers.item(one))


@pytest.mark.parametrize("character", ["\U0010ffff", "\U0001f600", "\\"], ids=["unprintable", "wide", "escaped"])
def test_the_largest_record_leaves_room_for_server_fields(character: str) -> None:
    name = character * MAX_NAME
    phases = [
        phase(
            phase_id=str(index),
            model=name,
            attempts=[{"model": name[1:] + "a", "outcome": "paused"}],
            cost_usd=MAX_COST_USD / 3,
            duration_ms=MAX_DURATION_MS / 3,
            input_tokens=MAX_INT,
            output_tokens=MAX_INT,
        )
        for index in range(MAX_PHASES)
    ]
    one = record(body(request_type="A" * MAX_NAME, total_cost_usd=MAX_COST_USD / 7, phases=phases))
    shown = answers.whole(one)
    assert len(orjson.loads(shown)["warnings"]) == MAX_WARNINGS
    assert len(shown) - len(one.body) + ID_BYTES <= SERVER_FIELDS_BYTES


def test_the_reference_body_says_which_cost_no_phase_accounts_for() -> None:
    found = orjson.loads(answers.whole(record(REFERENCE)))
    assert found["derived"]["unattributed_cost_usd"] == 0.045
    assert [warning["code"] for warning in found["warnings"]] == ["total_differs"]


def test_credit_is_by_the_rule_of_the_settings_and_says_where_it_comes_from(
    settings: Any, trajectories_settings: dict[str, Any]
) -> None:
    fields = {"phases": [phase(phase_name="code", outcome="success")], "tests_passed": False}
    assert derived(**fields)["credit"]["phases"] == [{"outcome": "failure", "source": "tests_passed"}]
    for rule, outcome in (("phase_outcome", "success"), ("run_outcome", "failure")):
        settings.TRAJECTORIES = trajectories_settings | {"CREDIT_RULE": rule}
        assert derived(**fields)["credit"] == {"rule": rule, "phases": [{"outcome": outcome, "source": rule}]}
