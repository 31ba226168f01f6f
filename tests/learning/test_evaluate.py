"""Evaluation of policies: known truths, refusals, and agreement with Vowpal Wabbit."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast
from unittest import mock
from uuid import UUID

import hypothesis
import orjson
import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from hypothesis import strategies as st
from vowpalwabbit import Workspace

from tests.api.client import JSON, archive_all, error, issue, posted
from tests.api.conftest import bound_host, north  # noqa: F401  fixtures
from tests.examples import body
from tests.strategies import examples
from trajectories.api import learning_responses
from trajectories.domain.record import Record
from trajectories.domain.schema import canonical, parse
from trajectories.learning import evaluate, policies
from trajectories.learning.estimators import Logged, Overlap, estimates, overlap
from trajectories.learning.evaluate import Evaluation, evaluate_decisions
from trajectories.learning.policies import FEATURES, FunctionPolicy, RulePolicy, VowpalWabbitPolicy
from trajectories.services import reads
from trajectories.training.decisions import Decision, decisions_of
from trajectories.training.formats.dsjson import Dsjson
from trajectories.training.run import Run

CHANCES = {("simple", "small"): 0.8, ("simple", "large"): 0.85, ("hard", "small"): 0.2, ("hard", "large"): 0.7}


def run_body(
    at: int, model: str, outcome: str, *, kind: str = "simple", probabilities: Mapping[str, float] | None = None
) -> dict[str, Any]:
    fields: dict[str, Any] = {"phase_name": "implement", "model": model, "outcome": outcome, "cost_usd": 0.5}
    if probabilities is not None:
        fields |= {
            "selection_probability": probabilities[model],
            "candidates": [{"model": name, "probability": chance} for name, chance in probabilities.items()],
        }
    return body(id=str(UUID(int=at + 1)), request_summary=f"item {at}", request_type=kind, phases=[fields])


def logged_bodies(count: int, probabilities: Mapping[str, float] | None, seed: int = 1) -> Iterator[dict[str, Any]]:
    """Yield runs whose model was chosen with ``probabilities``; None: in turns, without propensity."""
    rng = random.Random(seed)
    for at in range(count):
        kind = rng.choice(["simple", "hard"])
        chances = probabilities or {"small": 0.5, "large": 0.5}
        (model,) = rng.choices([*chances], [*chances.values()])
        outcome = "success" if rng.random() < CHANCES[kind, model] else "failure"
        yield run_body(at, model, outcome, kind=kind, probabilities=probabilities)


def decisions(bodies: Iterator[dict[str, Any]] | Sequence[dict[str, Any]]) -> list[Decision]:
    found: list[Decision] = []
    for given in bodies:
        data = canonical(parse(orjson.dumps(given)))
        record = Record("north", UUID(given["id"]), 1, "", 1, 1, data)
        found += decisions_of(Run(record))
    return found


def policy(**fields: Any) -> RulePolicy:
    return RulePolicy.model_validate(fields)


def evaluated(bodies: Any, **fields: Any) -> Evaluation:
    return evaluate_decisions(decisions(bodies), policy(**fields), seed=3)


def test_every_estimate_is_near_a_known_truth() -> None:
    found = evaluated(logged_bodies(1500, {"small": 0.7, "large": 0.3}), always="large")
    assert found.refusal is None
    assert [one.method for one in found.estimates] == ["ips", "snips", "dr"]
    for one in found.estimates:
        assert one.value == pytest.approx((0.85 + 0.7) / 2, abs=0.06)
        assert one.normal.low < one.value < one.normal.high
        assert one.bootstrap.low == pytest.approx(one.normal.low, abs=0.02)
        assert one.bootstrap.high == pytest.approx(one.normal.high, abs=0.02)


@hypothesis.settings(max_examples=examples(50))
@hypothesis.given(st.data())
def test_the_first_rule_that_matches_decides(data: st.DataObject) -> None:
    values = st.sampled_from(["a", "b", None])
    whens = data.draw(st.lists(st.dictionaries(st.sampled_from(FEATURES[:3]), values), max_size=8))
    known = dict.fromkeys(FEATURES) | data.draw(st.fixed_dictionaries(dict.fromkeys(FEATURES[:3], values)))
    rules = [{"when": when, "use": f"m{place}"} for place, when in enumerate(whens)]
    policy = RulePolicy.model_validate({"rules": rules, "default": "other"})
    first = next((place for place, when in enumerate(whens) if when.items() <= known.items()), None)
    with mock.patch.dict(policies.KNOWN, {name: lambda _, value=value: value for name, value in known.items()}):
        found = policy.probabilities(cast(Decision, None), [])
    assert found == {"other" if first is None else f"m{first}": 1.0}


def test_rules_are_evaluated_where_they_match() -> None:
    rules = [{"when": {"request_type": "hard"}, "use": "large"}]
    found = evaluated(logged_bodies(1500, {"small": 0.5, "large": 0.5}), rules=rules, default="small")
    assert found.refusal is None
    assert found.estimates[2].value == pytest.approx((0.8 + 0.7) / 2, abs=0.06)


def test_a_policy_that_does_as_recorded_has_the_recorded_value() -> None:
    found = evaluated(logged_bodies(200, {"small": 0.5, "large": 0.5}), default={"small": 0.5, "large": 0.5})
    assert found.overlap is not None
    assert found.overlap.effective_samples == pytest.approx(200)
    assert found.estimates[0].value == pytest.approx(found.logged)


def test_the_same_seed_gives_the_same_intervals() -> None:
    rows = [Logged("g", "a", 0.5, {"a": 1.0}, at * at % 61 / 61) for at in range(60)]
    assert estimates(rows, seed=4) == estimates(rows, seed=4)
    assert estimates(rows, seed=4)[0].bootstrap != estimates(rows, seed=5)[0].bootstrap


def test_without_propensities_it_refuses() -> None:
    found = evaluated(logged_bodies(100, None), always="large")
    assert found.refusal is not None
    assert found.refusal.startswith("100 of 100 decisions have no propensity")
    assert found.estimates == []


def test_for_argmax_routing_it_refuses_other_policies_and_answers_its_own() -> None:
    rows = list(logged_bodies(100, {"small": 1.0, "large": 0.0}))
    other = evaluated(rows, always="large")
    assert other.refusal is not None
    assert other.refusal.startswith("The recorded policy never tries 100% of what this policy chooses")
    assert evaluated(rows, always="small").refusal is None


def test_a_model_that_was_no_candidate_is_not_covered() -> None:
    found = evaluated(logged_bodies(100, {"small": 0.5, "large": 0.5}), always="third")
    assert (found.covered, found.estimates) == (0, [])


@pytest.mark.parametrize(
    ("chosen_with", "candidates", "covered"),
    [
        (0.5, None, 1.0),
        (1.0, None, 0.25),
        (0.5, {"small": 0.5, "large": 0.5}, 0.25),
        (0.5, {"small": 0.5, "third": None}, 1.0),
        (1.0, {"small": 1.0, "third": None}, 0.25),
        (0.5, {"small": 0.5, "third": 0.0, **{f"m{at}": 0.1 for at in range(5)}}, 0.25),
    ],
    ids=["any other", "no other", "others", "one without a probability", "one that nothing is left for", "never"],
)
def test_covered_is_the_share_of_what_could_have_been_chosen(
    chosen_with: float, candidates: dict[str, float | None] | None, covered: float
) -> None:
    fields: dict[str, Any] = {"phase_name": "implement", "model": "small", "selection_probability": chosen_with}
    if candidates is not None:
        named = [
            {"model": name} | ({} if chance is None else {"probability": chance}) for name, chance in candidates.items()
        ]
        fields["candidates"] = named
    given = body(id=str(UUID(int=1)), phases=[fields | {"outcome": "success"}])
    for default in ({"small": 0.25, "third": 0.75}, {"small": 0.25, "third": 0.75, **dict.fromkeys("abcdefgh", 0.0)}):
        assert evaluated([given], default=default).covered == pytest.approx(covered)


def test_with_five_samples_it_refuses() -> None:
    found = evaluated(logged_bodies(5, {"small": 0.5, "large": 0.5}), always="large")
    assert found.refusal == "5 decisions have a propensity and a reward; at least 30 are needed."


def test_with_few_effective_samples_it_refuses() -> None:
    found = evaluated(logged_bodies(100, {"small": 0.97, "large": 0.03}), always="large")
    assert found.refusal is not None
    assert "decisions of this policy; at least 30 are needed" in found.refusal


@pytest.mark.parametrize(
    ("propensities", "said"),
    [
        ([5e-324] * 40, "is so near 0 that the weight of one of 40 decisions is no number"),
        ([0.5] * 39 + [5e-324], "is so near 0"),
        ([0.5] * 39 + [1e-160], "are worth 1 decisions of this policy"),
        ([1e-160] * 40, "The mean weight is 1e+160 and not near 1"),
        ([0.25] * 40, "The mean weight is 4 and not near 1"),
    ],
)
def test_with_propensities_that_cannot_be_right_it_refuses(propensities: list[float], said: str) -> None:
    found = evaluate_decisions([*with_propensities(propensities)], policy(always="small"))
    assert said in (found.refusal or "")
    assert found.estimates == []
    assert (found.overlap is None) == ("so near 0" in said)
    assert all(math.isfinite(value) for value in found.overlap or ())


def with_propensities(propensities: Sequence[float]) -> Iterator[Decision]:
    for at, chance in enumerate(propensities):
        fields = {"phase_name": "implement", "model": "small", "selection_probability": chance, "outcome": "success"}
        yield from decisions([body(id=str(UUID(int=at + 1)), phases=[fields])])


def test_where_the_policy_hardly_chooses_what_was_done_it_refuses() -> None:
    found = evaluate_decisions([*with_propensities([0.5] * 40)], policy(default={"large": 1.0, "small": 1e-14}))
    assert "hardly any choice was one of this policy" in (found.refusal or "")


def test_where_all_models_worked_on_each_item_the_value_is_exact() -> None:
    rows = []
    for at in range(40):
        for model, outcome in (("small", "failure"), ("large", "success" if at % 4 else "failure")):
            rows.append(run_body(at, model, outcome) | {"id": str(UUID(int=1 + 2 * at + (model == "large")))})
    found = evaluated(rows, always="large")
    assert found.exact is not None
    assert (found.exact.value, found.exact.items, found.exact.cost_usd) == (0.75, 40, 0.5)
    assert found.refusal is not None  # there are no propensities
    assert evaluated(rows[1:], always="large").exact is None


def test_ips_and_snips_agree_with_vowpal_wabbit(tmp_path: Path) -> None:
    """VW's progressive loss of a fixed model is the IPS estimate of its policy."""
    rows = decisions(logged_bodies(400, {"small": 0.6, "large": 0.4}))
    options = Dsjson().read_options({})
    lines = [orjson.dumps(Dsjson().event(one, options)).decode() for one in rows]
    model = tmp_path / "policy.vw"
    trained = Workspace("--cb_explore_adf --dsjson --quiet --epsilon 0.2 -q RA --random_seed 1")
    for line in lines[:200]:
        examples = trained.parse(line)
        trained.learn(examples)
        trained.finish_example(examples)
    trained.save(str(model))
    trained.finish()
    held_out = rows[200:]
    found = evaluate_decisions(held_out, VowpalWabbitPolicy(model), seed=1)
    assert found.refusal is None
    weights, rewards = [], []
    loaded = Workspace(f"--dsjson --quiet -t -i {model}")
    for line, one in zip(lines[200:], held_out, strict=True):
        examples = loaded.parse(line)
        weights.append(loaded.predict(examples)[one.taken] / (one.model_propensity or 0))
        rewards.append(one.reward or 0.0)
        loaded.finish_example(examples)
    total = sum(weight * reward for weight, reward in zip(weights, rewards, strict=True))
    ips, snips, _ = found.estimates
    assert ips.value == pytest.approx(total / 200, rel=1e-4)
    assert snips.value == pytest.approx(total / sum(weights), rel=1e-4)
    # Its own estimate: the loss of a model that does not learn is the mean IPS cost.
    loaded.finish()
    assert ips.value == pytest.approx(-_vw_loss(model, lines[200:]), rel=0.02)


def _vw_loss(model: Path, lines: Sequence[str]) -> float:
    workspace = Workspace(f"--dsjson --quiet -t -i {model}")
    for line in lines:
        examples = workspace.parse(line)
        workspace.learn(examples)
        workspace.finish_example(examples)
    loss = float(workspace.get_sum_loss()) / len(lines)
    workspace.finish()
    return loss


def prefer_large(context: dict[str, Any], models: Sequence[str]) -> Any:
    return {"large": 0.75, "small": 0.25} if context["request_type"] == "hard" else "small"


def half(context: dict[str, Any], models: Sequence[str]) -> Any:
    return {"large": 0.5}


def test_a_function_is_a_policy() -> None:
    found = evaluate_decisions(
        decisions(logged_bodies(600, {"small": 0.5, "large": 0.5})), FunctionPolicy(f"{__name__}.prefer_large"), seed=1
    )
    assert found.refusal is None
    assert found.estimates[2].value == pytest.approx((0.8 + 0.75 * 0.7 + 0.25 * 0.2) / 2, abs=0.08)


@pytest.mark.django_db
def test_the_command_names_the_problem_of_a_policy() -> None:
    issue("north")
    with pytest.raises(CommandError, match="cannot be imported"):
        call_command("evaluate_policy", "north", "--function", "no.such")
    with pytest.raises(CommandError, match="There is no model file"):
        call_command("evaluate_policy", "north", "--vw", "none.vw")


def test_a_function_that_returns_no_probabilities_is_named() -> None:
    with pytest.raises(Exception, match=r"half': Probabilities must sum to 1"):
        evaluate_decisions(decisions(logged_bodies(3, {"small": 1.0})), FunctionPolicy(f"{__name__}.half"))


def test_the_api_and_the_command_evaluate_recorded_runs(
    north: Client,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    for given in logged_bodies(120, {"small": 0.3, "large": 0.7}):
        posted(north, given)
    asked = {"policy": {"always": "large"}, "filters": {"request_type": "hard"}, "phase": "implementation"}
    response = north.post("/v1/agent/evaluations", asked, content_type=JSON)
    assert response.status_code == 200, response.content
    learning_responses.PolicyEvaluation.model_validate_json(response.content)
    found = response.json()
    assert found["decisions"] < 120
    assert found["estimates"][1]["value"] == pytest.approx(0.7, abs=0.2)
    of_runs = north.post("/v1/agent/evaluations", asked | {"estimand": "run"}, content_type=JSON).json()
    assert (found["estimand"], of_runs["estimand"]) == ("decision", "run")
    assert [one["method"] for one in of_runs["estimates"]] == ["ips", "snips"]
    assert of_runs["estimates"] == found["estimates"][:2]  # runs of one phase
    archive_all()
    call_command("evaluate_policy", "north", "--always", "large", "--request-type", "hard", "--json")
    assert orjson.loads(capsys.readouterr().out)["estimates"] == found["estimates"]
    call_command("evaluate_policy", "north", "--always", "large", "--request-type", "hard", "--estimand", "run")
    assert f"{of_runs['decisions']} runs with propensity and reward." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("bound", "most"), [("RUNS", 7), ("PHASES", 7), ("BYTES", None)], ids=["runs", "phases", "bytes"]
)
def test_a_request_reads_the_newest_runs_up_to_a_bound_and_says_how_many(
    north: Client,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    bound: str,
    most: int | None,
) -> None:
    bodies = [*logged_bodies(12, {"small": 0.3, "large": 0.7})]
    sizes = [len(canonical(parse(orjson.dumps(given)))) for given in bodies]
    for given in bodies:
        posted(north, given)
    # Without Redis, no page is complete. Here it shows whether runs were left out.
    page_of = reads.list_
    monkeypatch.setattr(reads, "list_", lambda *args, **given: page_of(*args, **given)._replace(is_complete=True))
    asked = {"policy": {"always": "large"}}
    found = north.post("/v1/agent/evaluations", asked, content_type=JSON).json()
    assert (found["runs"], found["complete"]) == (12, True)
    # One byte less than the newest 7 have: the seventh is the last one.
    monkeypatch.setattr(evaluate, f"REQUEST_{bound}", most or sum(sizes[-7:]) - 1)
    found = north.post("/v1/agent/evaluations", asked, content_type=JSON).json()
    assert (found["runs"], found["complete"]) == (7, False)
    monkeypatch.setattr(evaluate, f"REQUEST_{bound}", sum(sizes) if most is None else 12)
    found = north.post("/v1/agent/evaluations", asked, content_type=JSON).json()
    assert (found["runs"], found["complete"]) == (12, True)


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"policy": {}}, "policy"),
        ({"policy": {"default": {"a": 0.4, "b": 0.5}}}, "policy"),
        ({"policy": {"default": "a", "rules": [{"when": {}, "use": f"m{at}"} for at in range(200)]}}, "policy"),
        ({"policy": {"default": "a", "rules": [{"when": {"mood": "x"}, "use": "a"}]}}, "policy.rules[0]"),
        ({"policy": {"always": "a"}, "filters": {"projct": "x"}}, None),
    ],
    ids=["empty", "sum", "models", "feature", "filter"],
)
def test_an_invalid_policy_is_refused(north: Client, given: Any, param: str | None) -> None:  # noqa: F811
    assert error(north.post("/v1/agent/evaluations", given, content_type=JSON), 400, "invalid_input").param == param


def test_overlap_of_equal_weights_is_the_number_of_decisions() -> None:
    rows = [Logged("g", "a", 1.0, {"a": 1.0}, 1.0)] * 50
    assert overlap(rows) == Overlap(effective_samples=50, mean_weight=1, largest_weight=1)


def test_the_doubly_robust_estimate_draws_each_mean_towards_that_of_a_wider_group() -> None:
    rng = random.Random(1)
    policies = [{"b": 0.75, "untaken": 0.25}, {"a": 0.1, "b": 0.2, "c": 0.7}]
    made = [(rng.choice(["plan", "test"]), rng.choice("abc"), rng.choice([0.0, 0.5, 1.0])) for _ in range(40)]
    decisions = [Logged(*one[:2], 0.5, rng.choice(policies), one[2]) for one in made]
    terms = []
    for at, (decision, (group, taken, reward)) in enumerate(zip(decisions, made, strict=True)):
        before = made[:at]
        direct = sum(chance * _reward_of(name, group, before) for name, chance in decision.policy.items())
        terms.append(direct + decision.weight * (reward - _reward_of(taken, group, before)))
    of_dr = estimates(decisions, seed=0)[-1]
    assert of_dr.method == "dr"
    assert of_dr.value == pytest.approx(sum(terms) / len(terms), rel=1e-12)


def _reward_of(name: str, group: str, before: Sequence[tuple[str, str, float]]) -> float:
    """Return what the decisions before, of group, action and reward, say of an action in a group."""
    of_action = [one for one in before if one[1] == name]
    in_group = [one for one in of_action if one[0] == group]
    expected = 0.5
    for narrower in (before, of_action, in_group):  # each mean as if it had four rewards of the wider one
        expected = (sum(one[2] for one in narrower) + 4 * expected) / (len(narrower) + 4)
    return expected
