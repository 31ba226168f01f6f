"""Decisions: what was known, what could be done, what was done, and what it earned."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training import runs
from tests.training.runs import phase, record, run_with_choices
from trajectories.domain.record import Record
from trajectories.training import messages
from trajectories.training.decisions import Decision, History, decisions_of
from trajectories.training.formats.of_decisions import ContextKeys
from trajectories.training.run import Run


def decisions(of: Record, rule: str = "checks") -> list[Decision]:
    return list(decisions_of(Run(of), rule))


def actions(decision: Decision) -> list[tuple[str, str | None, float | None]]:
    return [action[:3] for action in decision.actions]


# Nothing later than the decision.


@settings(max_examples=50)
@given(st.lists(st.lists(runs.phases, max_size=4), min_size=2, max_size=3), st.sampled_from(["request", "type"]))
def test_contexts_that_show_the_same_steps_have_one_key_and_no_others_do(
    given_phases: list[list[dict[str, Any]]], pair_by: str
) -> None:
    shown: dict[str, Any] = {}
    for phases in given_phases:
        of = decisions(record(*phases))
        keys = ContextKeys(of[0].history, {"pair_by": pair_by}) if of else None
        for one in of:
            assert keys is not None
            steps = [(step.phase, step.action, step.outcome) for step in one.context.steps]
            last = one.history.last(one.phase_index)
            assert last == ((steps[-1][0], steps[-1][2]) if steps else None)
            assert shown.setdefault(keys.of(one.phase_index), (one.phase, steps)) == (one.phase, steps)
    assert len({repr(one) for one in shown.values()}) == len(shown)


@settings(max_examples=50)
@given(st.data())
def test_a_change_of_all_that_comes_after_a_decision_changes_nothing_of_its_context(data: st.DataObject) -> None:
    before = data.draw(st.lists(runs.phases, max_size=4))
    choice, early = data.draw(runs.choices), data.draw(runs.early_fields)
    known_ids = {one["phase_id"] for one in before if "phase_id" in one}
    loops = [loop for loop in data.draw(runs.loops) if loop.get("from_phase_id") in known_ids]

    def a_future() -> Decision:
        later_loops = [loop for loop in data.draw(runs.loops) if loop.get("from_phase_id") not in known_ids]
        fields = early | data.draw(runs.late_fields) | {"feedback_loops": loops + later_loops}
        happened = choice | data.draw(runs.results)
        after = data.draw(st.lists(runs.phases, max_size=3))
        run = record(*before, happened, *after, **fields)
        return decisions(run.with_outcomes(runs.outcomes(data.draw(runs.late_outcomes))))[len(before)]

    one, other = a_future(), a_future()
    assert one.context == other.context
    assert one.actions == other.actions
    assert messages.prompt(one) == messages.prompt(other)
    assert messages.arguments_of(one) == messages.arguments_of(other)
    assert (one.taken, one.propensity, one.model_propensity) == (other.taken, other.propensity, other.model_propensity)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({"started_at": "2026-01-05T10:00:00Z", "ended_at": "2026-01-05T10:05:00Z"}, {}),
        ({"started_at": "2026-01-05T10:00:00Z", "duration_ms": 300_000}, {}),
        ({"phase_id": "a"}, {"phase_id": "b", "depends_on": [], "started_at": None}),
        ({"phase_id": "a"}, {"parent_phase_id": "a"}),
    ],
    ids=["ends later", "lasts longer", "not waited for", "contains it"],
)
def test_a_phase_that_still_runs_has_no_outcome_and_no_cost_yet(before: dict[str, Any], now: dict[str, Any]) -> None:
    now = {"started_at": "2026-01-05T10:01:00Z"} | now
    known = decisions(record(phase("lint", "failure", cost_usd=1, **before), phase("test", **now)))[1].context
    assert (known.steps[0].outcome, known.steps[0].cost_usd, known.spent_cost_usd) == (None, None, None)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({}, {}),
        ({"started_at": "2026-01-05T10:00:00Z", "ended_at": "2026-01-05T10:01:00Z"}, {}),
        ({"phase_id": "a"}, {"depends_on": ["a"], "started_at": None}),
    ],
    ids=["in order", "ended before", "waited for"],
)
def test_a_phase_that_ended_before_has_its_outcome_and_cost(before: dict[str, Any], now: dict[str, Any]) -> None:
    now = {"started_at": "2026-01-05T10:01:00Z"} | now
    known = decisions(record(phase("lint", "failure", cost_usd=1, **before), phase("test", **now)))[1].context
    assert (known.steps[0].outcome, known.spent_cost_usd) == ("failure", 1)


def test_a_phase_waits_for_those_that_it_waits_for_through_others() -> None:
    phases = [
        phase("spec", phase_id="a", cost_usd=1),
        phase("code", phase_id="b", depends_on=["a"], cost_usd=2),
        phase("docs", phase_id="c", depends_on=["a"], cost_usd=4),
        phase("test", phase_id="d", depends_on=["b"]),
    ]
    assert [one.context.spent_cost_usd for one in decisions(record(*phases))] == [None, 1, 1, 3]


def test_work_that_was_sent_back_is_known_with_its_reason() -> None:
    of = record(
        phase("code", phase_id="a"),
        phase("test", phase_id="b"),
        phase("code", phase_id="c"),
        feedback_loops=[{"from_phase_id": "b", "to_phase_id": "a", "reason": "two tests fail"}],
    )
    assert [one.context.sent_back for one in decisions(of)] == [[], [], ["two tests fail"]]


# Actions and propensities.


def test_actions_are_the_models_that_could_be_picked_and_skipping() -> None:
    spec, implement, review, docs = decisions(run_with_choices())
    assert actions(spec) == [("run", "small", None)]
    assert actions(implement) == [("run", "large", 0.3), ("run", "small", 0.2), ("skip", None, 0.5)]
    assert (implement.taken, implement.propensity, implement.model_propensity) == (0, 0.3, 0.6)
    assert actions(review) == [("run", None, 0.75), ("skip", None, 0.25)]
    assert (review.taken, review.propensity, review.model_propensity) == (1, 0.25, None)
    assert actions(docs) == [("run", "small", None)]


def test_a_planned_phase_could_have_been_skipped_with_an_unknown_probability() -> None:
    planned, unplanned = decisions(
        record(
            phase("spec", model="m", selection_probability=1),
            phase("test", model="m", selection_probability=1),
            planned_phases=["spec"],
        )
    )
    assert actions(planned) == [("run", "m", None), ("skip", None, None)]
    assert (planned.propensity, planned.model_propensity) == (None, 1)
    assert (actions(unplanned), unplanned.propensity) == ([("run", "m", 1)], 1)


def test_the_probability_of_the_chosen_candidate_is_its_propensity() -> None:
    (one,) = decisions(
        record(phase("code", model="b", candidates=[{"model": "a"}, {"model": "b", "probability": 0.2}]))
    )
    assert (one.propensity, actions(one)) == (0.2, [("run", "a", None), ("run", "b", 0.2)])


# Rewards.


def test_a_reward_is_the_credit_of_the_phase_by_the_rule_that_is_named() -> None:
    of = record(phase("implement", "success"), phase("docs", "partial"), tests_passed=False)
    by_checks, by_phase = decisions(of)[0], decisions(of, "phase_outcome")[0]
    assert (by_checks.reward, by_checks.reward_rule, by_checks.reward_source) == (0.0, "checks", "tests_passed")
    assert (by_phase.reward, by_phase.reward_rule, by_phase.reward_source) == (1.0, "phase_outcome", "phase_outcome")
    assert decisions(of, "phase_outcome")[1].reward == 0.5


def test_a_skip_has_the_reward_of_its_run() -> None:
    for outcome, reward in (("success", 1.0), ("partial", 0.5), ("failure", 0.0), ("unknown", None)):
        (skip,) = decisions(record(phase("review", "skipped"), outcome=outcome))
        assert (skip.reward, skip.reward_source) == (reward, "" if reward is None else "run_outcome")


def test_the_pick_of_a_model_whose_attempt_failed_is_a_failure() -> None:
    docs = decisions(run_with_choices())[3]
    assert (docs.action.model, docs.reward, docs.reward_source) == ("small", 0.0, "attempts")


def test_a_paused_phase_has_no_reward() -> None:
    (one,) = decisions(record(phase("approve", "paused")))
    assert (one.reward, one.reward_source) == (None, "")


def test_a_decision_names_its_run_and_place() -> None:
    assert [(one.run.id, one.phase_index) for one in decisions(run_with_choices(7))] == [
        (str(UUID(int=7)), index) for index in range(4)
    ]


def test_a_record_of_which_no_line_comes_makes_no_context(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a context was put together")

    monkeypatch.setattr(History, "_context", refuse)
    unknown = record(phase("spec", "unknown"), phase("test", "unknown"))
    assert [runs.rows(name, unknown) for name in ("dpo", "kto", "dsjson", "routing-table", "verl")] == [[]] * 5


def test_a_prompt_is_made_for_actions_of_pairs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    context = History._context

    def count(history: History, at: int) -> Any:
        made.append(at)
        return context(history, at)

    monkeypatch.setattr(History, "_context", count)
    many = [record(phase("spec", model="a"), phase("docs", model="a"), number=number) for number in range(1, 9)]
    assert runs.rows("dpo", *many) == []
    assert made == []
    other = record(phase("spec", model="a"), phase("docs", "failure", model="b"), number=9)
    assert len(runs.rows("dpo", *many, other)) == 1
    assert made == [1]
