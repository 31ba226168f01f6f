"""Contradictions within a record: which ones the store reports, where, and what it says to do."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import strategies
from tests.examples import REFERENCE, body, in_phase, phase
from trajectories.domain.schema import canonical, parse
from trajectories.domain.warnings import MAX_WARNINGS, Contradiction, warnings_of
from trajectories_sdk.testing import warnings as in_memory
from trajectories_sdk.testing.store import canonical as canonical_in_memory

A, B = {"model": "a", "probability": 0.7}, {"model": "b", "probability": 0.3}


def warned(data: dict[str, Any]) -> list[Contradiction]:
    return warnings_of(orjson.loads(canonical(parse(orjson.dumps(data)))))


# The body, the path, the code, and words of the message.
CONTRADICTIONS: list[tuple[dict[str, Any], str, str, str]] = [
    (body(request_type="Bugfix"), "request_type", "request_type_case", "send 'bugfix'"),
    (body(request_type=" bugfix"), "request_type", "request_type_case", "' bugfix' and 'bugfix' are two"),
    (body(outcome="success", tests_passed=False), "outcome", "outcome_contradicts_check", "tests_passed is false"),
    (body(outcome="success", build_passed=False), "outcome", "outcome_contradicts_check", "build_passed is false"),
    (
        body(total_cost_usd=1, phases=[phase(cost_usd=0.75), phase(cost_usd=0.5)]),
        "total_cost_usd",
        "total_differs",
        "is 1, but the phases add up to 1.25",
    ),
    (
        body(total_cost_usd=1, phases=[phase(cost_usd=0.75), phase(outcome="skipped")]),
        "total_cost_usd",
        "total_differs",
        "Send the cost of each phase",
    ),
    (
        body(total_cost_usd=1, phases=[phase(cost_usd=1.25), phase()]),
        "total_cost_usd",
        "total_differs",
        "the total stands",
    ),
    (
        body(started_at="2026-01-05T10:00:00Z", ended_at="2026-01-05T09:59:59.999999Z"),
        "ended_at",
        "ended_before_started",
        "send both by one clock",
    ),
    (
        in_phase(started_at="2026-01-05T10:00:00Z", ended_at="2026-01-05T09:00:00Z"),
        "phases[0].ended_at",
        "ended_before_started",
        "2026-01-05T09:00:00Z is before",
    ),
    (
        body(phases=[phase(phase_id="x"), phase(phase_id="x")]),
        "phases[1].phase_id",
        "repeated_phase_id",
        "the phase_id 'x' too",
    ),
    (in_phase(parent_phase_id="y"), "phases[0].parent_phase_id", "unknown_phase_id", "has the phase_id 'y'"),
    (
        body(phases=[phase(phase_id="x"), phase(depends_on=["x", "y"])]),
        "phases[1].depends_on[1]",
        "unknown_phase_id",
        "has the phase_id 'y'",
    ),
    (
        body(feedback_loops=[{"from_phase_id": "y"}]),
        "feedback_loops[0].from_phase_id",
        "unknown_phase_id",
        "has the phase_id 'y'",
    ),
    (
        body(phases=[phase(phase_id="x")], feedback_loops=[{"from_phase_id": "x", "to_phase_id": "y"}]),
        "feedback_loops[0].to_phase_id",
        "unknown_phase_id",
        "send that phase too",
    ),
    (
        in_phase(model_selection_method="round-robin"),
        "phases[0].model_selection_method",
        "unknown_selection_method",
        "the known ones are thompson-sampling, pattern-recommendation, explicit",
    ),
    (in_phase(model="c", candidates=[A, B]), "phases[0].model", "model_not_a_candidate", "'c' is not one of the"),
    (
        in_phase(model="a", requested_model="c", candidates=[A, B]),
        "phases[0].requested_model",
        "model_not_a_candidate",
        "send every model",
    ),
    (
        in_phase(model="a", candidates=[{"model": "a", "eligible": False}, {"model": "b"}]),
        "phases[0].model",
        "model_not_eligible",
        "correct one of the two",
    ),
    (
        in_phase(model="b", requested_model="a", selection_probability=0.0),
        "phases[0].selection_probability",
        "picked_with_probability_0",
        "'a' was picked, but its selection_probability is 0",
    ),
    (
        in_phase(model="a", selection_probability=0.700002, candidates=[A, B]),
        "phases[0].selection_probability",
        "selection_probability_differs",
        "is 0.700002, but the candidate 'a' has the probability 0.7",
    ),
    (
        in_phase(model="a", candidates=[A, B | {"probability": 0.2}]),
        "phases[0].candidates",
        "probabilities_do_not_add_up",
        "add up to 0.9, not to 1",
    ),
    (
        in_phase(outcome="skipped", cost_usd=0.5),
        "phases[0].cost_usd",
        "skipped_phase_has_cost",
        "cost 0.5 USD",
    ),
    (
        in_phase(model="a", attempts=[{"model": "a", "outcome": "failure"}, {"model": "b", "outcome": "success"}]),
        "phases[0].model",
        "last_attempt_differs",
        "the last attempt was made by 'b'",
    ),
]

CONSISTENT: dict[str, dict[str, Any]] = {
    "nothing but a phase": in_phase(),
    "a request type in lower case": body(request_type="größe 2"),
    "a failed run whose tests failed": body(outcome="failure", tests_passed=False),
    "a total that a phase without a cost may explain": body(
        total_cost_usd=1, phases=[phase(cost_usd=0.5), phase(outcome="success")]
    ),
    "a total of decimal fractions": body(total_cost_usd=0.3, phases=[phase(cost_usd=0.1), phase(cost_usd=0.2)]),
    "a total without phases": body(total_cost_usd=1),
    "a run of no time": body(started_at="2026-01-05T10:00:00Z", ended_at="2026-01-05T11:00:00+01:00"),
    "a nested phase before its parent": body(
        phases=[phase(phase_id="b", parent_phase_id="a", depends_on=["a"]), phase(phase_id="a")]
    ),
    "a loop between names": body(feedback_loops=[{"from_phase": "review", "to_phase": "implement"}]),
    "probabilities of three decimals": in_phase(
        model="a", candidates=[{"model": name, "probability": 0.333} for name in "abc"]
    ),
    "a probability that is not known of all": in_phase(model="a", candidates=[A, {"model": "b"}]),
    "an excluded candidate without a probability": in_phase(
        model="a", candidates=[A, B, {"model": "c", "eligible": False}], selection_probability=0.7
    ),
    "a fallback to a model that was no candidate": in_phase(model="c", requested_model="a", candidates=[A, B]),
    "a phase that was cancelled after it cost": in_phase(outcome="cancelled", cost_usd=0.5),
    "attempts of which the last one answered": in_phase(
        model="b", attempts=[{"model": "a", "outcome": "failure"}, {"model": "b", "outcome": "success"}]
    ),
}


@pytest.mark.parametrize(
    ("data", "path", "code", "said"), CONTRADICTIONS, ids=[f"{code}-{path}" for _, path, code, _ in CONTRADICTIONS]
)
def test_a_contradiction_is_reported_with_its_place_and_a_remedy(
    data: dict[str, Any], path: str, code: str, said: str
) -> None:
    (found,) = warned(data)
    assert (found.path, found.code) == (path, code)
    assert said in found.message


@pytest.mark.parametrize("data", CONSISTENT.values(), ids=CONSISTENT.keys())
def test_a_record_without_a_contradiction_has_no_warning(data: dict[str, Any]) -> None:
    assert warned(data) == []


def test_the_reference_body_has_a_total_that_its_phase_does_not_explain() -> None:
    (found,) = warned(REFERENCE)
    assert (found.path, found.code) == ("total_cost_usd", "total_differs")


def test_every_contradiction_of_a_record_is_reported_up_to_the_limit() -> None:
    both = warned(body(request_type="Bug", phases=[phase(outcome="skipped", cost_usd=1)]))
    assert [warning.code for warning in both] == ["request_type_case", "skipped_phase_has_cost"]
    many = warned(body(phases=[phase(parent_phase_id="y")] * (MAX_WARNINGS + 1)))
    assert [warning.path for warning in many] == [f"phases[{index}].parent_phase_id" for index in range(MAX_WARNINGS)]


def test_a_long_name_is_cut_in_the_message() -> None:
    (found,) = warned(body(request_type="A" * 512))
    assert len(found.message) < 500


@settings(max_examples=50)
@given(strategies.trajectories)
def test_warnings_are_a_function_of_the_canonical_body(data: dict[str, Any]) -> None:
    form = canonical(parse(orjson.dumps(data)))
    assert warnings_of(orjson.loads(form)) == warnings_of(orjson.loads(canonical(parse(form))))


# The server for the tests of callers (trajectories_sdk.testing) has the rules again, without Django.


def warned_in_memory(data: dict[str, Any]) -> list[Contradiction]:
    return [Contradiction(*one) for one in in_memory.warnings_of(canonical_in_memory(orjson.dumps(data)))]


# Few models and probabilities, so that they agree in some records and differ in others.
_models = st.sampled_from(["a", "b"])
_probabilities = st.sampled_from([0.3, 0.7]) | strategies.probabilities
_choices = st.fixed_dictionaries(
    {"phase_name": st.just("spec")},
    optional={
        "phase_id": strategies.phase_ids,
        "parent_phase_id": strategies.phase_ids,
        "depends_on": st.lists(strategies.phase_ids, max_size=2),
        "model": _models,
        "requested_model": _models,
        "model_selection_method": strategies.selection_methods,
        "candidates": st.lists(
            st.fixed_dictionaries(
                {"model": _models}, optional={"probability": _probabilities, "eligible": st.booleans()}
            ),
            max_size=3,
        ),
        "selection_probability": _probabilities,
        "attempts": st.lists(
            st.fixed_dictionaries({"model": _models, "outcome": strategies.phase_outcomes}), max_size=2
        ),
        "cost_usd": strategies.costs,
        "outcome": strategies.phase_outcomes,
        "started_at": strategies.instants,
        "ended_at": strategies.instants,
    },
)


def test_the_server_for_tests_warns_of_each_contradiction_in_the_same_words() -> None:
    for data in [*(data for data, *_ in CONTRADICTIONS), *CONSISTENT.values(), REFERENCE]:
        assert warned_in_memory(data) == warned(data)


@settings(max_examples=strategies.examples(50))
@given(strategies.trajectories, st.lists(_choices, max_size=4))
def test_the_server_for_tests_warns_as_the_store_does(run: dict[str, Any], phases: list[dict[str, Any]]) -> None:
    data = run | {"phases": phases}
    assert warned_in_memory(data) == warned(data)
