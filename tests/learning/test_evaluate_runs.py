"""Evaluation of whole runs: known truths, and policies that see what earlier phases gave."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest
from vowpalwabbit import Workspace

from tests.examples import body
from tests.learning.test_evaluate import CHANCES, decisions, policy
from trajectories.learning.estimators import LoggedRun, run_estimates
from trajectories.learning.evaluate import _RunTally, evaluate_decisions, evaluate_runs
from trajectories.learning.policies import FunctionPolicy, VowpalWabbitPolicy
from trajectories.training.formats.dsjson import Dsjson

SECOND = {("small", "success"): 0.6, ("small", "failure"): 0.1, ("large", "success"): 0.9, ("large", "failure"): 0.2}
"""Chance of success of the second phase, by its model and what the first phase gave."""
OFTEN = {"small": 0.6, "large": 0.4}
ENDS = [("success", "failure")] * 2


def two_phases(count: int, seed: int = 2) -> Iterator[dict[str, Any]]:
    """Yield runs that succeed by their second phase, for which the first one matters."""
    rng = random.Random(seed)
    for at in range(count):
        yield two_phased(at, drawn_run(rng))


Drawn = tuple[str, str, str, str]
"""The first model, what it gave, the second model, and how the run ended."""


def drawn_run(rng: random.Random) -> Drawn:
    first, second = rng.choices([*OFTEN], [*OFTEN.values()], k=2)
    made = "success" if rng.random() < CHANCES["hard", first] else "failure"
    ended = "success" if rng.random() < SECOND[second, made] else "failure"
    return first, made, second, ended


def two_phased(at: int, drawn: Drawn) -> dict[str, Any]:
    first, made, second, ended = drawn
    candidates = [{"model": name, "probability": chance} for name, chance in OFTEN.items()]
    phases = [
        {
            "phase_name": name,
            "model": model,
            "outcome": outcome,
            "selection_probability": OFTEN[model],
            "candidates": candidates,
        }
        for name, model, outcome in (("spec", first, made), ("implement", second, ended))
    ]
    return body(id=str(UUID(int=at + 1)), request_type="hard", phases=phases, outcome=ended)


def true_value(first: str, second: str) -> float:
    made = CHANCES["hard", first]
    return made * SECOND[second, "success"] + (1 - made) * SECOND[second, "failure"]


def test_the_value_of_a_run_is_that_of_all_its_decisions() -> None:
    runs = [decisions([given]) for given in two_phases(1500)]
    found = evaluate_runs(runs, policy(always="large"))
    assert (found.estimand, found.decisions, found.refusal) == ("run", 1500, None)
    assert [one.method for one in found.estimates] == ["ips", "snips"]
    assert true_value("large", "large") == pytest.approx(0.69)
    for one in found.estimates:
        assert one.value == pytest.approx(0.69, abs=0.08)
        assert one.normal.low < 0.69 < one.normal.high
    # As recorded, the first phase is often small, so that the same decision at the second phase earns less.
    second = evaluate_decisions(
        (one for run in runs for one in run if one.phase == "implement"), policy(always="large")
    )
    as_recorded = sum(chance * true_value(first, "large") for first, chance in OFTEN.items())
    assert as_recorded == pytest.approx(0.48)
    assert second.estimates[0].value == pytest.approx(as_recorded, abs=0.06)


def test_a_policy_may_choose_by_what_an_earlier_phase_gave() -> None:
    rules = [{"when": {"phase": "implement", "last_outcome": "success"}, "use": "large"}]
    found = evaluate_runs([decisions([given]) for given in two_phases(1500)], policy(rules=rules, default="small"))
    made = CHANCES["hard", "small"]
    truth = made * SECOND["large", "success"] + (1 - made) * SECOND["small", "failure"]
    assert found.refusal is None
    for one in found.estimates:
        assert one.value == pytest.approx(truth, abs=0.06)


def test_intervals_of_runs_have_a_known_truth_in_90_to_99_percent_of_logs() -> None:
    covered = dict.fromkeys([(method, kind) for method in ("ips", "snips") for kind in ("normal", "bootstrap")], 0)
    for seed in range(150):
        rng = random.Random(seed)
        runs = []
        for _ in range(400):
            first, second = rng.choices([*OFTEN], [*OFTEN.values()], k=2)
            weight = 1 / (OFTEN[first] * OFTEN[second]) if first == second == "large" else 0.0
            runs.append(LoggedRun(weight, float(rng.random() < true_value(first, second))))
        for one in run_estimates(runs, seed=seed, replicates=200):
            for kind, interval in (("normal", one.normal), ("bootstrap", one.bootstrap)):
                covered[one.method, kind] += interval.low <= true_value("large", "large") <= interval.high
    assert all(0.9 <= times / 150 <= 0.99 for times in covered.values()), covered


def after_success(context: dict[str, Any], models: Sequence[str]) -> Any:
    if not context["steps"]:
        return {"small": 0.3, "large": 0.7}
    return {"large": 0.9, "small": 0.1} if context["steps"][-1]["outcome"] == "success" else "small"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a VW model that has learned from runs of two phases."""
    path = tmp_path_factory.mktemp("policy") / "runs.vw"
    options = Dsjson().read_options({})
    workspace = Workspace("--cb_explore_adf --dsjson --quiet --epsilon 0.3 --random_seed 1")
    for given in two_phases(300, seed=5):
        for decision in decisions([given]):
            examples = workspace.parse(orjson.dumps(Dsjson().event(decision, options)).decode())
            workspace.learn(examples)
            workspace.finish_example(examples)
    workspace.save(str(path))
    workspace.finish()
    return path


EVERY_RUN = [(first, made, second, ended) for first, second in product(OFTEN, OFTEN) for made, ended in product(*ENDS)]


@pytest.mark.parametrize("kind", ["function", "vw"])
def test_intervals_of_runs_have_the_truth_for_policies_that_see_the_context(kind: str, trained: Path) -> None:
    given = FunctionPolicy(f"{__name__}.after_success") if kind == "function" else VowpalWabbitPolicy(trained)
    logged, truth = {}, 0.0
    for drawn in EVERY_RUN:
        first, made, second, ended = drawn
        of_run = decisions([two_phased(0, drawn)])
        tally = _RunTally(given, None)
        tally.add_run(of_run)
        (logged[drawn],) = tally._logged
        chances = [given.probabilities(one, [*OFTEN]).get(one.action.model or "", 0.0) for one in of_run]
        assert logged[drawn].weight == pytest.approx(chances[0] * chances[1] / OFTEN[first] / OFTEN[second])
        happens = CHANCES["hard", first] if made == "success" else 1 - CHANCES["hard", first]
        truth += chances[0] * happens * chances[1] * SECOND[second, made] * (ended == "success")
    covered = dict.fromkeys([(method, kind) for method in ("ips", "snips") for kind in ("normal", "bootstrap")], 0)
    for seed in range(200):
        rng = random.Random(seed)
        log = [logged[drawn_run(rng)] for _ in range(400)]
        for one in run_estimates(log, seed=seed, replicates=200):
            for interval_kind, interval in (("normal", one.normal), ("bootstrap", one.bootstrap)):
                covered[one.method, interval_kind] += interval.low <= truth <= interval.high
    assert all(0.9 <= times / 200 <= 0.99 for times in covered.values()), covered


def test_weights_of_runs_agree_with_vowpal_wabbit(trained: Path) -> None:
    """VW's own probabilities of the recorded models give the estimate of whole runs."""
    runs = [decisions([given]) for given in two_phases(300, seed=9)]
    found = evaluate_runs(runs, VowpalWabbitPolicy(trained), seed=1)
    assert found.refusal is None
    loaded, options = Workspace(f"--dsjson --quiet -t -i {trained}"), Dsjson().read_options({})
    total, normal = 0.0, 0.0
    for run in runs:
        weight = 1.0
        for one in run:
            examples = loaded.parse(orjson.dumps(Dsjson().event(one, options)).decode())
            weight *= loaded.predict(examples)[one.taken] / (one.model_propensity or 0)
            loaded.finish_example(examples)
        total, normal = total + weight * (run[0].run_outcome == "success"), normal + weight
    loaded.finish()
    ips, snips = found.estimates
    assert ips.value == pytest.approx(total / len(runs), rel=1e-4)
    assert snips.value == pytest.approx(total / normal, rel=1e-4)


def test_runs_of_so_many_decisions_that_their_weight_is_no_number_are_refused() -> None:
    phase = {"phase_name": "implement", "model": "large", "outcome": "success", "selection_probability": 0.01}
    runs = [decisions([body(id=str(UUID(int=at + 1)), tests_passed=True, phases=[phase] * 160)]) for at in range(32)]
    found = evaluate_runs(runs, policy(always="large"))
    assert found.refusal == "A recorded propensity is so near 0 that the weight of one of 32 runs is no number."
    assert (found.overlap, found.estimates) == (None, [])


def test_runs_are_left_out_or_refused_where_a_decision_has_no_propensity() -> None:
    bodies = list(two_phases(60))
    for given in bodies[:30]:
        del given["phases"][1]["selection_probability"]
        del given["phases"][1]["candidates"]
    found = evaluate_runs([decisions([given]) for given in bodies], policy(always="large"))
    assert found.left_out == {"run with a decision without a propensity": 30}
    assert found.refusal is not None
    assert found.refusal.startswith("30 of 60 runs have no propensity")


def escalating(count: int) -> Iterator[dict[str, Any]]:
    """Yield runs that ask a strong model, or a cheap one first and the strong one after it failed.

    Half of the tasks are easy for the cheap one. The strong one solves 8 of 10 of each kind.
    """
    rng = random.Random(4)
    for at in range(count):
        first = rng.choice(["cheap", "strong"])
        tried = [(first, "success" if rng.random() < (0.5 if first == "cheap" else 0.8) else "failure")]
        if tried == [("cheap", "failure")]:
            tried.append(("strong", "success" if rng.random() < 0.8 else "failure"))
        made = [{"model": model, "outcome": outcome} for model, outcome in tried]
        fields = {
            "phase_name": "implement",
            "model": tried[-1][0],
            "requested_model": first,
            "attempts": made,
            "outcome": tried[-1][1],
            "selection_probability": 0.5,
            "candidates": [{"model": name, "probability": 0.5} for name in ("cheap", "strong")],
        }
        yield body(id=str(UUID(int=at + 1)), request_type="hard", phases=[fields], outcome=tried[-1][1])


@pytest.mark.parametrize(("model", "own", "with_escalation"), [("cheap", 0.5, 0.9), ("strong", 0.8, 0.8)])
def test_a_decision_has_the_first_models_own_outcome_and_a_run_that_of_its_plan(
    model: str, own: float, with_escalation: float
) -> None:
    runs = [decisions([given]) for given in escalating(1200)]
    of_decisions = evaluate_decisions((one for run in runs for one in run), policy(always=model))
    of_runs = evaluate_runs(runs, policy(always=model))
    for found, truth in ((of_decisions, own), (of_runs, with_escalation)):
        assert found.refusal is None
        assert found.left_out == {}
        for one in found.estimates:
            assert one.value == pytest.approx(truth, abs=0.06)
            assert one.normal.low < truth < one.normal.high
