"""The sample runs of docs/training.md, and the policies that are trained on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest
from vowpalwabbit import Workspace

from examples.training import bandit
from examples.training.evaluation import Logged, best_constant, evaluate
from examples.training.sample_runs import COST_USD, DESIGN_ADDS, TESTS_PASS, sample_runs
from tests.training.runs import stored
from tests.training.test_readiness import failed, measured
from trajectories.domain.record import Record
from trajectories.domain.warnings import warnings_of
from trajectories.training import formats, parquet
from trajectories.training.run import Run
from trajectories.training.splits import parse_split

USD_WEIGHT = 0.5


def decision(taken: int, propensity: float, reward: float) -> Logged:
    return Logged("implement", ["small", "large"], taken, propensity, reward, None)


def test_a_policy_is_valued_by_the_decisions_that_it_shares_each_by_its_propensity() -> None:
    decisions = [decision(0, 0.5, 1.0), decision(1, 0.25, 0.0), decision(0, 0.5, 1.0)]
    value, error, matches = evaluate(decisions, ["small", "large", "large"])
    assert value == pytest.approx(2 / 6)  # weights 2 and 4
    assert error == pytest.approx(math.sqrt((2 * 4 / 6) ** 2 + (4 * 2 / 6) ** 2) / 6)
    assert matches == 2


def test_a_policy_that_shares_no_decision_has_no_value() -> None:
    assert math.isnan(evaluate([decision(0, 0.5, 1.0)], ["large"]).value)


def test_the_best_constant_action_is_the_one_of_the_highest_value() -> None:
    assert best_constant([decision(0, 0.5, 0.0), decision(0, 0.5, 1.0), decision(1, 0.9, 0.6)]) == "large"


def test_the_same_seed_gives_the_same_runs() -> None:
    assert list(sample_runs(5, 1)) == list(sample_runs(5, 1))
    assert not {run["id"] for run in sample_runs(5, 1)} & {run["id"] for run in sample_runs(5, 2)}


def test_sample_runs_are_worth_training_on() -> None:
    runs = list(sample_runs(500, 1))
    assert failed(measured(runs)) == {}
    assert [warning for run in runs for warning in warnings_of(run)] == []


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exports of docs/training.md."""
    directory = tmp_path_factory.mktemp("samples")
    split = parse_split("train=0.8,test=0.2")
    parts: dict[str | None, list[Record]] = {"train": [], "test": []}
    for run in sample_runs(2000, 1):
        record = stored(run)
        parts[split.part_of(Run(record))].append(record)
    dsjson, decisions = formats.get("dsjson"), formats.get("decisions")
    options = dsjson.read_options({"usd_weight": str(USD_WEIGHT)})
    columns = decisions.columns(decisions.read_options({}))
    for part, records in parts.items():
        (directory / f"dsjson-{part}.jsonl").write_bytes(b"".join(dsjson.lines(records, options)))
        lines = decisions.lines(records, decisions.read_options({}))
        (directory / f"decisions-{part}.parquet").write_bytes(b"".join(parquet.encoded(lines, columns, "zstd")))
    return directory


def lost(decisions: Sequence[Logged], types: Sequence[str], chosen: Sequence[str]) -> float:
    """Return the mean reward that ``chosen`` loses to the best actions, by the tables of the
    samples."""
    losses = []
    for one, request_type, action in zip(decisions, types, chosen, strict=True):
        earned = {name: _expected(one.phase, request_type, name) for name in one.actions}
        losses.append(max(earned.values()) - earned[action])
    return sum(losses) / len(losses)


def _expected(phase: str, request_type: str, action: str) -> float:
    """Return what an action adds to the expected reward."""
    model = action.partition("=")[2]
    if phase == "design":
        return DESIGN_ADDS[request_type] - USD_WEIGHT * 0.05 if model else 0.0
    return TESTS_PASS[request_type][model] - USD_WEIGHT * COST_USD[model]


def test_the_bandit_learns_which_action_suits_which_request(exported: Path) -> None:
    train, test = (bandit.read(exported / f"dsjson-{part}.jsonl") for part in ("train", "test"))
    workspace = Workspace(bandit.OPTIONS)
    bandit.learn(workspace, train)
    chosen = [bandit.act(workspace, one) for one in test]
    workspace.finish()
    types = [next(iter(orjson.loads(one.context)["c"]["Request"])).partition("=")[2] for one in test]
    constant = best_constant([one for one in train if one.phase == "implement"])
    always = [constant if one.phase == "implement" else "skip" for one in test]
    assert lost(test, types, chosen) < 0.02 < 0.05 < lost(test, types, always)


def test_the_baseline_learns_which_action_suits_which_request(exported: Path) -> None:
    from examples.training import baseline

    train, test = (baseline.read(exported / f"decisions-{part}.parquet", USD_WEIGHT) for part in ("train", "test"))
    types = [one.context[0] for one in test]
    assert lost(test, types, baseline.act(baseline.fit(train), test)) < 0.03


def test_both_read_the_same_decisions(exported: Path) -> None:
    from examples.training import baseline

    lines = bandit.read(exported / "dsjson-test.jsonl")
    rows = baseline.read(exported / "decisions-test.parquet", USD_WEIGHT)
    assert [one[:4] for one in lines] == [one[:4] for one in rows]
    assert [one.reward for one in lines] == pytest.approx([one.reward for one in rows])
