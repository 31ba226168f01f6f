"""Credit: which outcome each phase earned, by which rule, and where it comes from."""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import strategies
from trajectories.domain.contract_types import MAX_LOOPS, MAX_PHASES
from trajectories.domain.credit import CREDITED, RULES, Credit, credit_of
from trajectories.domain.outcomes import phase_group
from trajectories.domain.record import facets_of
from trajectories.domain.schema import canonical, parse

NONE = Credit(None, "")


def run(*phases: str | dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return a canonical run; a phase is ``name``, ``name:outcome`` or its fields."""
    given = []
    for phase in phases:
        if isinstance(phase, str):
            name, _, outcome = phase.partition(":")
            phase = {"phase_name": name, "outcome": outcome or "success"}
        given.append(phase)
    body = {"request_summary": "s", "phases": given} | fields
    return dict(orjson.loads(canonical(parse(orjson.dumps(body)))))


def short(fields: dict[str, Any], rule: str = "checks") -> list[str]:
    """Return each credit as ``outcome<source``, ``-`` for none."""
    return ["-" if credit == NONE else f"{credit.outcome}<{credit.source}" for credit in credit_of(fields, rule)]


def loop(from_phase: str | None, to_phase: str, **fields: str) -> dict[str, str | None]:
    return {"from_phase": from_phase, "to_phase": to_phase} | fields


# The two rules that look at one outcome.


def test_the_rule_phase_outcome_repeats_each_phases_own_outcome() -> None:
    fields = run("spec", "code:failure", "test:partial", "review:skipped", "deploy:unknown", tests_passed=False)
    assert credit_of(fields, "phase_outcome") == [
        Credit("success", "phase_outcome"),
        Credit("failure", "phase_outcome"),
        Credit("partial", "phase_outcome"),
        NONE,
        NONE,
    ]


@pytest.mark.parametrize(
    ("given_outcome", "expected"),
    [({"outcome": "partial"}, "partial"), ({"tests_passed": False}, "failure"), ({}, "success")],
    ids=["given", "derived from tests", "derived from phases"],
)
def test_the_rule_run_outcome_gives_each_phase_that_ran_the_outcome_of_the_run(
    given_outcome: dict[str, Any], expected: str
) -> None:
    fields = run("spec", "code", "review:skipped", **given_outcome)
    assert short(fields, "run_outcome") == [f"{expected}<run_outcome"] * 2 + ["-"]


def test_an_unknown_outcome_of_the_run_is_no_credit() -> None:
    assert short(run("spec", outcome="unknown"), "run_outcome") == ["-"]


def test_an_unknown_rule_is_an_error() -> None:
    with pytest.raises(KeyError, match="best"):
        credit_of(run("spec"), "best")


# Checks.


@pytest.mark.parametrize(
    ("phases", "fields", "expected"),
    [
        # Without a check, the phase's own outcome is all there is.
        (["spec", "code:failure", "docs:unknown"], {}, ["success<phase_outcome", "failure<phase_outcome", "-"]),
        # A check phase judges the work before it, and not itself.
        (["code", "test:failure"], {}, ["failure<test", "-"]),
        (["code", "verify"], {}, ["success<test", "-"]),
        (["code:unknown", "test"], {}, ["success<test", "-"]),
        (["code:partial", "test"], {}, ["success<test", "-"]),
        (["code", "test:partial"], {}, ["partial<test", "-"]),
        (["code", "test:unknown"], {}, ["success<phase_outcome", "-"]),
        (["code", "test:cancelled"], {}, ["success<phase_outcome", "-"]),
        (["code", "test:skipped"], {}, ["success<phase_outcome", "-"]),
        # Any failure wins, then partial; sources that agree are joined.
        (
            ["code", "build", "test", "review"],
            {},
            ["success<build+test+review", "success<test+review", "success<review", "-"],
        ),
        (["code", "build", "test:failure"], {}, ["failure<test", "failure<test", "-"]),
        (["code", "test", "review:failure"], {}, ["failure<review", "failure<review", "-"]),
        (["code", "build:partial", "review"], {}, ["partial<build", "success<review", "-"]),
        # The phase's own failure stands.
        (["code:failure", "test"], {}, ["failure<phase_outcome", "-"]),
        # A phase that ran again after a check is judged by the checks before that.
        (["code", "test:failure", "code", "test"], {}, ["failure<test", "-", "success<test", "-"]),
        (["code", "test", "code", "test:failure"], {}, ["success<test", "-", "failure<test", "-"]),
        # Two runs without a check between them are parts of one work.
        (["code", "code", "test:failure"], {}, ["failure<test", "failure<test", "-"]),
        # The checks after the work was done again are the ones that judge the phases before it.
        (
            ["spec", "code", "test:failure", "code", "test"],
            {},
            ["success<test", "failure<test", "-", "success<test", "-"],
        ),
        (
            ["spec", "code", "review:failure", "code", "test"],
            {},
            ["success<test", "failure<review", "-", "success<test", "-"],
        ),
        # Work after the last check is not judged by it.
        (["code", "test:failure", "deploy"], {}, ["failure<test", "-", "success<phase_outcome"]),
        # The run's columns judge the last work.
        (["spec", "code"], {"tests_passed": False}, ["failure<tests_passed", "failure<tests_passed"]),
        (["code"], {"tests_passed": True, "build_passed": True}, ["success<build_passed+tests_passed"]),
        (["code"], {"tests_passed": True, "build_passed": False}, ["failure<build_passed"]),
        (["code", "test:failure", "code"], {"tests_passed": True}, ["failure<test", "-", "success<tests_passed"]),
        (["code", "test", "deploy"], {"tests_passed": False}, ["failure<tests_passed", "-", "success<phase_outcome"]),
        # A column is more exact than the outcome of the phase that filled it.
        (["code", "test"], {"tests_passed": False}, ["failure<tests_passed", "-"]),
        (["code", "test:failure"], {"tests_passed": True}, ["success<tests_passed", "-"]),
        # Critical findings refuse work; without one, the review's own verdict stands.
        (["code", "review"], {"critical_findings": 2}, ["failure<critical_findings", "-"]),
        (["code", "review:failure"], {"critical_findings": 0}, ["failure<review", "-"]),
        (["code"], {"critical_findings": 0}, ["success<critical_findings"]),
        # Findings that are not critical refuse nothing.
        (["code"], {"review_findings": 9}, ["success<phase_outcome"]),
        # Phases that did not run.
        (["spec:skipped", "code:cancelled", "docs:paused"], {"tests_passed": True}, ["-", "-", "-"]),
        ([], {"tests_passed": True}, []),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_checks_credit_the_phase_that_they_judge(
    phases: list[str], fields: dict[str, Any], expected: list[str]
) -> None:
    assert short(run(*phases, **fields)) == expected


def test_a_check_is_credited_by_later_checks_of_another_kind() -> None:
    # The first review accepted work whose tests failed. The second refused work: no credit.
    fields = run("code", "review", "test:failure", "code", "review:failure")
    assert short(fields) == ["failure<test", "failure<test", "-", "failure<review", "-"]


# Feedback loops.


def test_a_phase_that_was_sent_back_failed_and_its_last_run_is_judged_by_the_run() -> None:
    fields = run(
        "spec", "implement", "test", "implement", "test", "review",
        feedback_loops=[loop("test", "implement")], tests_passed=True,
    )  # fmt: skip
    by_both = "success<tests_passed+review"
    assert short(fields) == [by_both, "failure<feedback_loop", "-", by_both, "success<review", "-"]


@pytest.mark.parametrize(
    ("phases", "loops", "failed"),
    [
        # By name, each loop takes the next return.
        (["code", "test", "code", "test", "code", "test"], [loop("test", "code")] * 2, {0, 2}),
        (["code", "test", "code", "test", "code", "test"], [loop("test", "code")], {0}),
        # Aliases and case are those of stats.
        (["Code", "verify", "implementation"], [loop("TEST", "implement")], {0}),
        # Two sources in any order.
        (
            ["code", "test", "code", "review", "code"],
            [loop("review", "code"), loop("test", "code")],
            {0, 2},
        ),
        # Only after such a check: the first code was not reviewed.
        (["code", "test", "code", "review", "code"], [loop("review", "code")], {2}),
        # The run ended before the work was done again.
        (["code", "review"], [loop("review", "code")], {0}),
        # A source that is no phase of the run.
        (["code", "deploy", "code"], [loop("a person", "code")], {0}),
        (["code", "deploy", "code"], [loop(None, "code")], {0}),
        # A loop to a phase that did not run, or from a check before it, sends nothing back.
        (["code:skipped", "review"], [loop("review", "code")], set()),
        (["review", "code"], [loop("review", "code")], set()),
        (["code", "review"], [loop("review", "design")], set()),
        # More loops than returns.
        (["code", "test", "code"], [loop("test", "code")] * 3, {0}),
    ],
    ids=lambda value: " ".join(value) if value and isinstance(value, list) and isinstance(value[0], str) else None,
)
def test_a_loop_by_name_fails_the_run_before_the_return(
    phases: list[str], loops: list[dict[str, str]], failed: set[int]
) -> None:
    earned = credit_of(run(*phases, feedback_loops=loops))
    assert {at for at, credit in enumerate(earned) if credit.source == "feedback_loop"} == failed


@pytest.mark.parametrize(
    ("given", "failed"),
    [
        ({"to_phase_id": "c1", "from_phase_id": "t"}, 0),
        ({"to_phase_id": "c2", "from_phase_id": "t"}, 1),
        # The phase that ran again is named: the run before the check was sent back.
        ({"to_phase_id": "c3", "from_phase_id": "t"}, 1),
        ({"to_phase_id": "c1"}, 0),
        ({"to_phase": "code", "from_phase_id": "t"}, 1),
        # An id that no phase has: the names decide.
        ({"to_phase_id": "gone", "from_phase_id": "gone", "from_phase": "test", "to_phase": "code"}, 1),
    ],
    ids=["both ids", "the other lane", "id of the rerun", "target alone", "name and source", "unknown ids"],
)
def test_a_loop_by_phase_id_fails_that_phase(given: dict[str, str], failed: int) -> None:
    lanes = [("code", "c1"), ("code", "c2"), ("test", "t"), ("code", "c3")]
    phases = [{"phase_name": name, "phase_id": id_, "outcome": "success"} for name, id_ in lanes]
    earned = credit_of(run(*phases, feedback_loops=[given]))
    assert [at for at, credit in enumerate(earned) if credit.source == "feedback_loop"] == [failed]


def test_a_check_that_sent_work_back_refuses_it_despite_its_own_outcome() -> None:
    fields = run("spec", "code", "review", "spec", "code", "review", feedback_loops=[loop("review", "spec")])
    passed, refused = "success<review", "failure<review"
    assert short(fields) == ["failure<feedback_loop", refused, "-", passed, passed, "-"]


# Attempts.


def attempts(*outcomes: str) -> list[dict[str, str]]:
    return [{"model": "m", "outcome": outcome} for outcome in outcomes]


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        ({"outcome": "success", "attempts": attempts("failure", "success")}, "success<phase_outcome"),
        ({"outcome": "success", "attempts": attempts("success", "failure")}, "failure<attempts"),
        ({"attempts": attempts("failure", "success")}, "success<attempts"),
        ({"outcome": "unknown", "attempts": attempts("partial")}, "partial<attempts"),
        ({"attempts": attempts("cancelled")}, "-"),
        ({"attempts": []}, "-"),
    ],
    ids=["a fallback answered", "the last failed", "no outcome", "unknown outcome", "cancelled", "empty"],
)
def test_the_last_attempt_counts_for_the_phase(phase: dict[str, Any], expected: str) -> None:
    assert short(run({"phase_name": "code"} | phase)) == [expected]


def test_a_phase_whose_next_run_is_a_further_attempt_failed() -> None:
    numbered = [{"phase_name": "code", "outcome": "success", "attempt": number} for number in (1, 2)]
    assert short(run(*numbered, "test")) == ["failure<attempts", "success<test", "-"]


def test_a_check_whose_own_attempts_failed_did_not_do_its_work() -> None:
    review = {"phase_name": "review", "outcome": "failure", "attempts": attempts("failure")}
    assert short(run("code:unknown", review))[1] == "failure<attempts"


# Always.

_names = st.sampled_from(["spec", "code", "implement", "test", "Verify", "review", "build", "docs"])
_ids = st.none() | st.sampled_from(["a", "b", "c"])
_outcomes = st.sampled_from(["success", "failure", "partial", "skipped", "cancelled", "paused", "unknown"])
_phases = st.fixed_dictionaries(
    {"phase_name": _names},
    optional={
        "outcome": _outcomes,
        "phase_id": _ids,
        "attempt": st.integers(0, 3),
        "attempts": st.lists(st.fixed_dictionaries({"model": st.just("m"), "outcome": _outcomes}), max_size=2),
    },
)
_loops = st.fixed_dictionaries(
    {}, optional={"from_phase": _names, "to_phase": _names, "from_phase_id": _ids, "to_phase_id": _ids}
)
runs = st.fixed_dictionaries(
    {"request_summary": st.just("s"), "phases": st.lists(_phases, max_size=9)},
    optional={
        "feedback_loops": st.lists(_loops, max_size=4),
        "outcome": st.sampled_from(["success", "failure", "partial", "unknown"]),
        "build_passed": st.booleans(),
        "tests_passed": st.booleans(),
        "critical_findings": st.integers(0, 2),
    },
).map(lambda body: dict(orjson.loads(canonical(parse(orjson.dumps(body))))))


@given(runs | strategies.trajectories.map(lambda body: orjson.loads(canonical(parse(orjson.dumps(body))))))
def test_every_phase_has_one_credit_and_those_that_did_not_run_have_none(fields: dict[str, Any]) -> None:
    for rule in RULES:
        earned = credit_of(fields, rule)
        assert len(earned) == len(fields["phases"])
        for phase, credit in zip(fields["phases"], earned, strict=True):
            assert credit.outcome in (None, *CREDITED)
            assert (credit.outcome is None) == (credit.source == "")
            if phase.get("outcome") in ("skipped", "cancelled", "paused"):
                assert credit == NONE


@given(runs)
def test_without_checks_loops_and_attempts_credit_is_the_phase_outcome(fields: dict[str, Any]) -> None:
    plain: dict[str, Any] = {"request_summary": "s", "outcome": fields.get("outcome"), "phases": []}
    for phase in fields["phases"]:
        if phase_group(phase["phase_name"]) not in ("build", "test", "review"):
            plain["phases"].append({"phase_name": phase["phase_name"], "outcome": phase.get("outcome", "unknown")})
    assert credit_of(plain, "checks") == credit_of(plain, "phase_outcome")


@given(runs, st.sampled_from(["build_passed", "tests_passed"]))
def test_a_check_of_the_run_that_failed_never_raises_a_credit(fields: dict[str, Any], column: str) -> None:
    order = {"failure": 0, "partial": 1, "success": 2}
    passed = credit_of(fields | {column: True})
    failed = credit_of(fields | {column: False})
    for good, bad in zip(passed, failed, strict=True):
        assert (good.outcome is None) == (bad.outcome is None)
        assert good.outcome is None or order[str(bad.outcome)] <= order[good.outcome]


@given(runs, st.integers(0, 9), st.sampled_from(["spec", "code", "test", "docs"]))
def test_a_skipped_phase_changes_no_other_credit(fields: dict[str, Any], at: int, name: str) -> None:
    before = credit_of(fields)
    phases = list(fields["phases"])
    at = min(at, len(phases))
    phases.insert(at, {"phase_name": name, "outcome": "skipped"})
    after = credit_of(fields | {"phases": phases})
    assert after[:at] + after[at + 1 :] == before


@given(runs)
def test_the_rule_run_outcome_agrees_with_the_facets(fields: dict[str, Any]) -> None:
    outcome = facets_of(canonical(parse(orjson.dumps(fields)))).outcome
    for credit in credit_of(fields, "run_outcome"):
        assert credit.outcome in (None, outcome)


def test_the_largest_run_is_credited_in_time() -> None:
    # 200 phases and 1,000 loops; quadratic steps for each loop would take seconds.
    names = ["code", "test"] * (MAX_PHASES // 2)
    fields = run(*names, feedback_loops=[loop("test", "code")] * MAX_LOOPS)
    assert short(fields).count("failure<feedback_loop") == MAX_PHASES // 2


def _pipeline(quality: float, chance: random.Random) -> dict[str, Any]:
    phases, loops, passed = ["spec", "implement", "test", "review"], [], chance.random() < quality
    if not passed and chance.random() < 0.5:
        phases[2:2] = ["test", "implement"]
        loops, passed = [loop("test", "implement")], chance.random() < quality
    return run(*phases, feedback_loops=loops, tests_passed=passed)


def test_credit_matches_credit_given_by_hand() -> None:
    # The run's tests_passed to the last implement, 0 to one that was sent back.
    chance = random.Random(15)
    for _ in range(100):
        fields = _pipeline(0.6, chance)
        implements = [at for at, phase in enumerate(fields["phases"]) if phase["phase_name"] == "implement"]
        by_hand = ["failure"] * (len(implements) - 1) + ["success" if fields["tests_passed"] else "failure"]
        assert [credit_of(fields)[at].outcome for at in implements] == by_hand
