"""Recommendations from given cells: probabilities, estimates and rules."""

from __future__ import annotations

import random
import statistics
from itertools import combinations
from operator import gt
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.learning.runs import LATEST, cells, request
from trajectories.domain.choice_sums import Key, Sums
from trajectories.domain.choices import MODEL, RAN, SKIPPED
from trajectories.domain.clock import DAY_US
from trajectories.learning.posterior import DRAWS, Evidence, Posterior, draws, posterior, quantiles
from trajectories.learning.recommend import _shares, decide

NOW_US = 3_000 * 7 * DAY_US + 4 * DAY_US
_counts = st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda pair: (min(pair), max(pair), 0.1))
_tables = st.dictionaries(
    st.tuples(st.sampled_from("abc"), st.sampled_from([None, "a", "b", "c"])).filter(lambda key: key[0] != key[1]),
    _counts,
)


def decided(counts: Any, *models: str, **fields: Any) -> dict[str, Any]:
    asked = request(*models, **fields)
    return decide(asked, cells(counts), NOW_US, asked.seed or 0)


@settings(max_examples=40)
@given(_tables, st.booleans(), st.sampled_from([0.0, 0.05, 1.0]))
def test_probabilities_always_sum_to_one(table: Any, escalates: bool, explore: float) -> None:
    answer = decided(table, "a", "b", "c", allow_escalation=escalates, explore=explore)
    actions = answer["plans"] + [
        one
        | {
            "probability": one["probability"]
            - sum(p["probability"] for p in answer["plans"] if p["model"] == one["model"])
        }
        for one in answer["candidates"]
    ]
    assert sum(one["probability"] for one in answer["candidates"]) == pytest.approx(1)
    assert sum(one["probability"] for one in actions) == pytest.approx(1)
    assert min(one["probability"] for one in actions) >= -1e-9


@settings(max_examples=40)
@given(_tables, st.integers(0, 2**40))
def test_the_same_seed_gives_the_same_answer(table: Any, seed: int) -> None:
    assert decided(table, "a", "b", seed=seed) == decided(table, "a", "b", seed=seed)


def test_the_order_in_which_records_came_does_not_change_the_answer() -> None:
    counts = (("w", 1), ("x", 7), ("y", 30), ("z", 13))
    table: dict[tuple[str, str | None], Any] = {("a", after): (count, 3 * count, 0.1) for after, count in counts}
    failed = [{"phase_name": "implementation", "model": "v", "outcome": "failure"}]
    asked = request("a", "b", phases=failed)
    of_weeks = [cells(table, week=NOW_US - weeks * 7 * DAY_US) for weeks in (11, 25, 40)]
    found = [one for of_week in of_weeks for one in of_week.items()]
    answers = [decide(asked, dict(random.Random(n).sample(found, len(found))), NOW_US, 1) for n in range(24)]
    assert answers[0]["candidates"][0]["success"]["mean"] > 0.3
    assert all(answer == answers[0] for answer in answers)


def test_confidence_is_the_share_of_draws_in_which_the_best_is_best_without_exploration() -> None:
    table = {("a", None): (95, 100, 0.1), ("b", None): (5, 100, 0.1)}
    best = decided(table, "a", "b", explore=0.5)["best"]
    assert (best["model"], best["probability"], best["confidence"]) == ("a", 0.75, 1.0)


def test_actions_that_are_best_together_have_equal_parts_of_a_draw() -> None:
    rows = [(1.0, 0.5, 1.0, 0.0), (0.5, 1.0, 0.5, 0.0)] * (DRAWS // 2)
    assert _shares([*zip(*rows, strict=True)]) == [0.25, 0.5, 0.25, 0.0]
    # A plan whose second model solves all that it solves alone is as good as that one.
    table = {("weak", None): (1, 100, 0.1), ("strong", None): (90, 100, 0.2)}
    answers = [decided(table, *models, cost_weight=0) for models in (("weak", "strong"), ("strong", "weak"))]
    shares = [{one["model"]: one["probability"] for one in answer["candidates"]} for answer in answers]
    assert shares[0] == pytest.approx(shares[1])
    assert answers[0]["plans"][0]["probability"] == pytest.approx(answers[1]["plans"][0]["probability"])


def test_a_plan_has_the_interval_of_its_draws() -> None:
    import numpy as np

    table = {("a", None): (50, 100, 0.1), ("b", None): (10, 100, 0.2), ("b", "a"): (60, 100, 0.2)}
    (plan,) = decided(table, "a", "b")["plans"]
    rng = np.random.default_rng(1)
    first, after = rng.beta(51, 51, 100_000), rng.beta(61, 41, 100_000)
    expected = np.quantile(first + (1 - first) * after, (0.025, 0.975))
    assert (plan["success"]["low"], plan["success"]["high"]) == pytest.approx(tuple(expected), abs=0.01)


def test_models_of_one_cost_make_no_plan() -> None:
    costs = [{"model": "a", "cost_usd": 0.1}, {"model": "b", "cost_usd": 0.1}]
    assert decided({}, "a", "b", candidates=costs)["plans"] == []
    costs[1]["cost_usd"] = 0.2
    assert [one["escalate_to"] for one in decided({}, "a", "b", candidates=costs)["plans"]] == ["b"]


def test_a_floor_may_be_a_model_that_is_no_candidate() -> None:
    table = {("a", None): (50, 100, 0.1), ("strong", None): (95, 100, 1.0)}
    (candidate,) = decided(table, "a", floor={"model": "strong"})["candidates"]
    assert not candidate["eligible"]
    (candidate,) = decided(table | {("strong", None): (5, 100, 1.0)}, "a", floor={"model": "strong"})["candidates"]
    assert candidate["eligible"]


def test_choices_are_made_as_often_as_their_propensity_says() -> None:
    table = {("a", None): (12, 20, 0.1), ("b", None): (10, 20, 0.1)}
    answers = [decided(table, "a", "b", allow_escalation=False, seed=seed) for seed in range(400)]
    propensity = {one["model"]: one["probability"] for one in answers[0]["candidates"]}
    share = sum(answer["choice"]["model"] == "a" for answer in answers) / 400
    assert share == pytest.approx(propensity["a"], abs=0.08)
    assert {answer["choice"]["propensity"] for answer in answers} == {propensity["a"], propensity["b"]}


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.floats(0, 200), st.floats(0, 200)), min_size=1, max_size=6),
    st.integers(0, 5),
    st.floats(0.1, 50),
)
def test_more_success_at_any_level_never_lowers_the_estimate(levels: Any, at: int, more: float) -> None:
    before = [Evidence(*pair) for pair in levels]
    at = min(at, len(before) - 1)
    after = [*before]
    after[at] = Evidence(before[at].successes + more, before[at].failures)
    assert posterior(after).mean >= posterior(before).mean - 1e-9


def test_few_outcomes_elsewhere_do_not_outweigh_many_here() -> None:
    elsewhere = cells({("a", None): (0, 10_000, 0.1)}, project="other")
    here = cells({("a", None): (90, 100, 0.1)}, project="mine")
    answer = decide(request("a", project="mine", request_type="bugfix"), elsewhere | here, NOW_US, 1)
    (found,) = answer["candidates"]
    assert found["success"]["mean"] > 0.6
    assert (found["own_samples"], found["samples"]) == (100, 10_100)


def test_a_project_without_outcomes_learns_from_the_others_but_stays_unsure() -> None:
    elsewhere = cells({("a", None): (9_000, 10_000, 0.1)}, project="other")
    answer = decide(request("a", project="mine", request_type="bugfix"), elsewhere, NOW_US, 1)
    (found,) = answer["candidates"]
    assert found["success"]["mean"] == pytest.approx(0.88, abs=0.03)
    assert found["success"]["high"] - found["success"]["low"] > 0.15


def test_old_outcomes_count_less() -> None:
    def mean(**fields: Any) -> float:
        old = cells({("a", None): (0, 50, 0.1)}, week=NOW_US - 60 * 7 * DAY_US)
        new = cells({("a", None): (40, 50, 0.1)}, week=NOW_US)
        found: float = decide(request("a", **fields), old | new, NOW_US, 1)["candidates"][0]["success"]["mean"]
        return found

    assert mean(half_life_days=None) == pytest.approx(41 / 102)
    assert mean() == pytest.approx(0.77, abs=0.03)
    assert mean(since="4w", half_life_days=None) == pytest.approx(41 / 52)


def test_a_plan_is_the_chance_of_either() -> None:
    table = {
        ("cheap", None): (60, 100, 0.01),
        ("strong", None): (68, 100, 1.0),
        ("strong", "cheap"): (38, 98, 1.0),
    }
    answer = decided(table, "cheap", "strong")
    (plan,) = answer["plans"]
    first, second = 61 / 102, 39 / 100
    assert plan["success"]["mean"] == pytest.approx(first + (1 - first) * second)
    assert plan["expected_cost_usd"] == pytest.approx(0.01 + (1 - first) * 1.0)
    assert plan["samples"] == 98
    assert (plan["model"], plan["escalate_to"]) == ("cheap", "strong")
    assert (answer["best"]["model"], answer["best"]["escalate_to"]) == ("cheap", "strong")


def test_a_plan_is_not_judged_worse_than_its_second_model_alone_by_a_few_failures() -> None:
    few = {("cheap", None): (50, 100, 0.01), ("strong", None): (90, 100, 1.0), ("strong", "cheap"): (0, 2, 1.0)}
    (plan,) = decided(few, "cheap", "strong")["plans"]
    from scipy import special

    first, high = 51 / 102, special.betaincinv(1, 3, 0.975)
    alone = 91 / 102
    assert (alone - first) / (1 - first) > high  # so the two failures limit the bound
    assert plan["success"]["mean"] == pytest.approx(first + (1 - first) * high, abs=1e-3)
    none = few | {("strong", "cheap"): (0, 0, 1.0)}
    (plan,) = decided(none, "cheap", "strong")["plans"]
    assert plan["success"]["mean"] == pytest.approx(alone)


def test_many_outcomes_after_a_failure_count_more_than_those_of_the_second_model_alone() -> None:
    spoiled = {("cheap", None): (50, 100, 0.01), ("strong", None): (90, 100, 1.0), ("strong", "cheap"): (0, 2000, 1.0)}
    (plan,) = decided(spoiled, "cheap", "strong")["plans"]
    assert plan["success"]["mean"] < 0.51


def test_after_a_failure_in_this_run_only_outcomes_after_it_count() -> None:
    table = {("strong", None): (90, 100, 1.0), ("strong", "cheap"): (10, 98, 1.0), ("other", None): (50, 98, 1.0)}
    phases = [{"phase_name": "implementation", "model": "cheap", "outcome": "failure"}]
    answer = decided(table, "strong", "other", phases=phases)
    strong, other = answer["candidates"]
    assert (strong["samples"], other["samples"]) == (98, 0)
    assert strong["success"]["mean"] == pytest.approx(0.11)
    assert answer["plans"] == []


def test_a_budget_is_always_kept() -> None:
    table = {("a", None): (1, 50, 0.1), ("b", None): (49, 50, 2.0)}
    for seed in range(20):
        answer = decided(table, "a", "b", budget_usd=1, explore=1.0, seed=seed)
        assert answer["choice"]["model"] == "a"
        assert answer["choice"]["escalate_to"] is None
        assert ": credited success " in answer["reasoning"]
    assert answer["candidates"][1]["reason"] == "It may cost 2 USD, and the budget is 1 USD."
    refused = decided(table, "b", "c", budget_usd=1)
    assert (refused["choice"], refused["best"]) == (None, None)
    assert refused["reasoning"].startswith("No action keeps the rules. Use b: It may cost 2 USD")
    assert refused["candidates"][1]["reason"] == "Its cost is unknown, and there is a budget; give cost_usd."


def test_a_floor_is_always_kept() -> None:
    table = {("good", None): (160, 200, 1.0), ("poor", None): (60, 200, 0.01), ("new", None): (2, 2, 0.01)}
    for seed in range(20):
        answer = decided(
            table, "good", "poor", "new", floor={"model": "good"}, explore=1.0, allow_escalation=False, seed=seed
        )
        assert answer["choice"]["model"] == "good"
    assert answer["candidates"][1]["reason"] == "It is as good as good with 0%, and 95% are asked for."
    assert not answer["candidates"][2]["eligible"]  # two of two prove nothing
    rated = decided(table, "good", "poor", floor={"success": 0.7}, allow_escalation=False)
    assert [one["eligible"] for one in rated["candidates"]] == [True, False]


def test_models_below_min_samples_are_not_chosen() -> None:
    table = {("a", None): (1, 50, 0.1), ("b", None): (5, 5, 0.1)}
    answer = decided(table, "a", "b", min_samples=10, allow_escalation=False)
    assert [one["eligible"] for one in answer["candidates"]] == [True, False]
    assert answer["choice"]["propensity"] == 1


def test_skipping_needs_runs_that_skipped_and_is_compared_with_runs_that_did_not() -> None:
    unknown = decided({("a", None): (30, 40, 1.0)}, "a", allow_skip=True)
    assert unknown["skip"]["reason"] == "No run with a known outcome has skipped this phase."
    harmless = {
        Key(RAN, "bugfix", None, "implement", None, None, LATEST): Sums(400, 400, 2 * 280),
        Key(SKIPPED, "bugfix", None, "implement", None, None, LATEST): Sums(400, 400, 2 * 290),
    }
    asked = request("a", allow_skip=True)
    answer = decide(asked, cells({("a", None): (280, 400, 1.0)}) | harmless, NOW_US, 1)
    assert answer["best"]["action"] == "skip"
    assert answer["skip"]["success"]["mean"] == pytest.approx(291 / 402)
    assert answer["skip"]["success_where_ran"]["mean"] == pytest.approx(281 / 402)
    worse = decide(asked, cells({("a", None): (200, 400, 1.0)}) | harmless, NOW_US, 1)
    assert worse["skip"]["value"] == pytest.approx(200 / 400 + 290 / 400 - 280 / 400, abs=0.01)
    harmful = {key: sums._replace(score=20) if key.kind == SKIPPED else sums for key, sums in harmless.items()}
    assert decide(asked, cells({("a", None): (280, 400, 1.0)}) | harmful, NOW_US, 1)["best"]["action"] == "run"


def test_costs_are_given_or_by_price_or_recorded() -> None:
    key = Key(MODEL, "bugfix", None, "implement", "a", None, LATEST)
    known = {key: Sums(10, 10, 10, 10, 5 * 10**9, 10, 20_000, 10_000)}
    asked = request("a", candidates=[{"model": "a"}], request_type="bugfix")
    priced = {"model": "b", "input_usd_per_mtok": 1.0, "output_usd_per_mtok": 4.0}
    given_ = {"model": "a", "cost_usd": 0.25}

    def cost(candidate: dict[str, Any]) -> Any:
        found = decide(asked.model_validate(asked.model_dump() | {"candidates": [candidate]}), known, NOW_US, 1)
        return found["candidates"][0]["expected_cost_usd"]

    assert cost({"model": "a"}) == 0.5
    assert cost(given_) == 0.25
    assert cost(priced) == pytest.approx((2000 * 1 + 1000 * 4) / 1e6)
    assert cost({"model": "b"}) is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"candidates": [{"model": "a"}, {"model": "a"}]}, "Name each candidate once"),
        ({"floor": {}}, "Give either model or success"),
        ({"candidates": []}, "at least 1 item"),
    ],
    ids=["twice", "floor", "none"],
)
def test_a_request_that_contradicts_itself_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        request("a", **fields)


@pytest.mark.parametrize(
    ("a", "b"),
    [(1.0, 1.0), (1.0, 7.0), (9.0, 1.0), (1.5, 1.2), (1.01, 300.0), (61.0, 41.0), (41.0, 61.0), (3_001.0, 2_001.0)],
    ids=str,
)
def test_draws_are_of_the_beta_distribution(a: float, b: float) -> None:
    from scipy import stats

    drawn = [one for at in range(40) for one in draws(a, b, f"{at}")]
    assert len(drawn) == 40 * DRAWS
    assert stats.kstest(drawn, stats.beta(a, b).cdf).pvalue > 1e-3
    assert draws(a, b, "x") == draws(a, b, "x") != draws(a, b, "y")


@settings(max_examples=50)
@given(st.floats(1, 2_000), st.floats(1, 2_000))
@example(1.0, 400_000.0)
@example(400_000.0, 1.0)
@example(5.0, 400_000.0)
@example(3.65, 478.0)
@example(198.437, 3.4777)
@example(100_000.0, 300_000.0)
def test_quantiles_are_those_of_scipy(a: float, b: float) -> None:
    from scipy import stats

    found, beta = quantiles(a, b), stats.beta(a, b)
    assert len(found) == DRAWS
    assert 0 < found[0] <= found[-1] < 1
    assert list(found) == sorted(found)
    assert beta.cdf(found) == pytest.approx([(at + 0.5) / DRAWS for at in range(DRAWS)], abs=0.002)
    assert Posterior(a, b).interval() == pytest.approx(beta.interval(0.95), abs=0.01 * beta.std())


def test_draws_under_different_names_are_independent() -> None:
    alike = [draws(5.0, 3.0, f"{number}") for number in range(100)]
    correlations = [statistics.correlation(x, y) for x, y in combinations(alike, 2)]
    assert max(map(abs, correlations)) < 5 / DRAWS**0.5
    assert statistics.mean(one * one for one in correlations) == pytest.approx(1 / DRAWS, rel=0.1)


@settings(max_examples=50)
@given(st.floats(1, 60), st.floats(1, 60), st.floats(1, 60), st.floats(1, 60))
def test_the_share_of_draws_is_the_probability_of_being_the_best(a: float, b: float, c: float, d: float) -> None:
    from scipy import integrate, stats

    exact, _ = integrate.quad(lambda x: stats.beta.pdf(x, a, b) * stats.beta.cdf(x, c, d), 0, 1)
    share = sum(map(gt, draws(a, b, "one"), draws(c, d, "other"))) / DRAWS
    assert share == pytest.approx(exact, abs=0.06)
