"""Readiness: the measures of runs as training data, and the sentences that say what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.examples import body, phase
from tests.training.ready_runs import good_run
from trajectories.training import measures
from trajectories.training.measures import KeySample, Measures, Run, Tally
from trajectories.training.readiness_checks import checks


def run_of(fields: dict[str, Any], **more: Any) -> Run:
    costs = [one["cost_usd"] for one in fields["phases"] if "cost_usd" in one]
    groups = [one["phase_name"] for one in fields["phases"]]
    return Run(fields, groups, fields.get("outcome", "unknown"), sum(costs) if costs else None, **more)


def measured(runs: Iterator[dict[str, Any]] | list[dict[str, Any]]) -> Measures:
    found = Measures()
    for fields in runs:
        found.add(run_of(fields))
    return found


def failed(found: Measures, **thresholds: float) -> dict[str, str]:
    """Return the sentences of failed checks by their code."""
    return {check.code: check.message or "" for check in checks(found, thresholds) if not check.passed}


def test_good_data_passes_every_check() -> None:
    assert failed(measured([good_run(at) for at in range(500)])) == {}


def without(name: str, *, of_phase: bool = False, step: int = 1) -> Callable[[int], dict[str, Any]]:
    """Return good runs that lack a field."""

    def run(at: int) -> dict[str, Any]:
        fields = good_run(at)
        if at % step == 0:
            for part in fields["phases"] if of_phase else [fields]:
                part.pop(name, None)
        return fields

    return run


def changed(**fields: Any) -> Callable[[int], dict[str, Any]]:
    return lambda at: good_run(at, **fields)


def in_first_phase(**fields: Any) -> Callable[[int], dict[str, Any]]:
    def run(at: int) -> dict[str, Any]:
        found = good_run(at)
        found["phases"][0] |= fields
        return found

    return run


def typed_by_result(at: int) -> dict[str, Any]:
    fields = good_run(at)
    return fields | {"request_type": "failed" if fields["outcome"] == "failure" else fields["request_type"]}


LATE = phase(phase_name="test", started_at="2026-01-05T10:00:00.5Z")
ERROR = "AssertionError: expected 3 rows, got 4"


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (changed(project="one"), {"projects": "1 different values of project"}),
        (changed(request_type="one"), {"request_types": "1 different values of request_type"}),
        (without("cost_usd", of_phase=True), {"runs": "0 of 500 runs", "cost": "send cost_usd with each phase"}),
        (in_first_phase(cost_usd=0), {"runs": "0 of 500 runs have both a cost above 0 and tools"}),
        (without("tools_used", of_phase=True), {"runs": "0 of 500", "tools": "send tools_used with each phase"}),
        (in_first_phase(tools_used=[]), {"runs": "0 of 500 runs have both a cost above 0 and tools"}),
        (without("model", of_phase=True), {"model": "0 of 500 phases that ran name their model"}),
        (without("model_selection_method", of_phase=True), {"method": "send model_selection_method"}),
        (without("selection_probability", of_phase=True), {"propensity": "send selection_probability"}),
        (changed(outcome="unknown"), {"outcome": "0 of 500 runs have a known outcome"}),
        (without("build_passed", step=3), {"build": "333 of 500 runs have a build result"}),
        (lambda at: good_run(at, phases=good_run(at)["phases"][:1]), {"skipped_phases": "0 skipped phases"}),
        (
            in_first_phase(candidates=[{"model": "large", "probability": 1}], selection_probability=1, model="large"),
            {"overlap": "0 of 6 contexts", "model_share": "The model 'large' ran 100 % of the phases"},
        ),
        (lambda at: good_run(at % 300), {"duplicates": "200 of 500 runs repeat an earlier run"}),
        (
            lambda at: good_run(at, phases=[*good_run(at)["phases"], LATE]),
            {"late_phases": "500 of 500 phases started before an earlier phase", "tools": "", "model": "", "method": ""}
            | {"propensity": ""},
        ),
        (
            lambda at: good_run(at, error=ERROR, request_summary=f"Fix {at}: {ERROR.upper()}"),
            {"requests_with_errors": "The request_summary of 500 of 500 runs has the text of the run's own error"},
        ),
        (
            lambda at: good_run(at, request_summary=f"Fix {at // 2}", session_id=f"session {at}"),
            {"shared_requests": "The request of 500 of 500 runs was also made in another session or project"},
        ),
        (typed_by_result, {"one_outcome_types": "All runs of the request types 'bugfix', 'failed', 'feature'"}),
    ],
)
def test_each_fault_of_the_data_fails_its_check(run: Callable[[int], dict[str, Any]], said: dict[str, str]) -> None:
    found = failed(measured([run(at) for at in range(500)]))
    assert {code for code in found if code != "one_outcome_types" or code in said} == set(said)
    for code, text in said.items():
        assert text in found[code]
        assert found[code].endswith((".", "needed."))


def test_a_recorded_name_in_a_sentence_hides_nothing() -> None:
    def run(at: int) -> dict[str, Any]:
        fields = typed_by_result(at)
        fields["request_type"] += "\ufe0f"
        for one in fields["phases"]:
            one["model"] = "b\U000e0100"
        return fields

    sentences = failed(measured([run(at) for at in range(500)]))
    assert "The model 'b\\U000e0100' ran" in sentences["model_share"]
    assert "request types 'bugfix\\ufe0f', " in sentences["one_outcome_types"]


def test_parallel_lanes_that_are_declared_are_no_leak() -> None:
    lane = LATE | {"depends_on": []}
    found = measured([good_run(at, phases=[*good_run(at)["phases"], lane]) for at in range(5)])
    assert "late_phases" not in failed(found)


def test_thresholds_can_be_set() -> None:
    found = measured([good_run(at) for at in range(20)])
    assert set(failed(found)) == {"runs"}
    assert failed(found, runs=20) == {}
    assert set(failed(found, runs=20, projects=5)) == {"projects"}


def test_warnings_are_counted_by_the_runs_that_have_them() -> None:
    found = Measures()
    found.add(run_of(good_run(1), warnings=["b", "a", "a"]))
    found.add(run_of(good_run(2), warnings=["a"]))
    assert found.as_json()["warnings"] == {"a": 2, "b": 1}


def test_no_data_is_not_ready_and_has_no_shares() -> None:
    found = Measures()
    assert found.as_json()["shares"]["cost"] == {"known": 0, "of": 0, "share": None}
    assert {"runs", "cost", "build", "overlap"} <= set(failed(found))


def test_a_context_with_several_actions_but_no_probabilities_has_no_overlap() -> None:
    runs = [body(phases=[phase(model=model)], request_type="t") for model in "ab"]
    assert measured(runs).overlap == {"contexts": 1, "with_several_actions": 1, "with_overlap": 0}


def test_a_phase_that_may_be_skipped_is_a_decision_with_two_actions() -> None:
    found = measured([body(phases=[phase(keep_probability=0.9)]), body(phases=[phase(keep_probability=1)])])
    assert found.overlap["with_overlap"] == 1
    assert found.explored.as_json() == {"known": 1, "of": 2, "share": 0.5}


def test_a_sample_of_keys_is_bounded_and_counts_each_kept_key_in_full() -> None:
    sample: KeySample[Tally] = KeySample(100, Tally)
    for _ in range(3):
        for key in range(1000):
            if (tally := sample.value_of(str(key))) is not None:
                tally.add(is_known=True)
    kept = list(sample.values())
    assert 20 <= len(kept) <= 100
    assert {tally.of for tally in kept} == {3}


def test_memory_does_not_grow_with_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "MAX_KEYS", 20)
    monkeypatch.setattr(measures, "MAX_NAMES", 20)
    found = Measures()
    for at in range(300):
        fields = good_run(at, project=f"p{at}", request_type=f"t{at}")
        fields["phases"][0] |= {"phase_name": f"n{at}", "model": f"m{at}"}
        found.add(run_of(fields))
    assert (len(found.projects), len(found.request_types), len(found.models)) == (21, 21, 21)
    assert found.overlap["contexts"] <= 20
    assert found.duplicates.of <= 20
    assert found.shared_requests.of <= 20


@pytest.mark.parametrize(("different", "known"), [(8, 1), (9, 0)])
def test_the_first_different_errors_of_a_run_are_looked_for_in_its_request(different: int, known: int) -> None:
    errors = [f"{ERROR}, in test {number}." for number in range(different)]
    phases = [phase(error=error) for error in errors for _ in range(3)]
    fields = body(phases=phases, request_summary=f"Fix:  {errors[-1]}")
    assert measured([fields]).revealed.known == known
