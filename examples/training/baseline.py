"""Train a reward model with scikit-learn on ``decisions`` as Parquet, and evaluate the policy it
makes.

    python -m examples.training.baseline var/training/decisions --usd-weight 0.5

The model predicts the reward of an action in a context; the policy takes the action with the
highest prediction. The directory has ``decisions-train.parquet`` and ``decisions-test.parquet``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder

from examples.training.evaluation import Logged, report

CONTEXT = ["request_type", "project", "phase", "last_phase", "last_outcome"]


def read(path: Path, usd_weight: float) -> list[Logged]:
    """Return the decisions that can be learned from: reward and propensity known, two actions or
    more."""
    table = pd.read_parquet(path).sort_values(["trajectory_id", "phase_index"])
    return [one for row in table.to_dict("records") if (one := _logged(row, usd_weight)) is not None]


def _logged(row: dict[Any, Any], usd_weight: float) -> Logged | None:
    actions = [_name(action) for action in json.loads(row["actions"])]
    if len(actions) < 2 or pd.isna(row["reward"]) or pd.isna(row["propensity"]):
        return None
    cost_usd = 0.0 if pd.isna(row["cost_usd"]) else row["cost_usd"]
    return Logged(
        phase=row["phase"],
        actions=actions,
        taken=actions.index(_name(row)),
        propensity=row["propensity"],
        reward=row["reward"] - usd_weight * cost_usd,
        context=[str(row[name]) for name in CONTEXT],
    )


def _name(action: dict[Any, Any]) -> str:
    return "skip" if action["action"] == "skip" else f"model={action['model']}"


def fit(decisions: list[Logged]) -> Pipeline:
    encoder = OneHotEncoder(handle_unknown="ignore")
    model = make_pipeline(encoder, GradientBoostingRegressor(random_state=1))
    return model.fit([[*one.context, one.actions[one.taken]] for one in decisions], [one.reward for one in decisions])


def act(model: Pipeline, decisions: list[Logged]) -> list[str]:
    """Return the action with the highest prediction, for each decision."""
    rewards = iter(model.predict([[*one.context, action] for one in decisions for action in one.actions]))
    return [max(zip((next(rewards) for _ in one.actions), one.actions, strict=True))[1] for one in decisions]


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a reward model on exported decisions.")
    parser.add_argument("directory", type=Path, help="has decisions-train.parquet and decisions-test.parquet")
    parser.add_argument("--usd-weight", type=float, default=0.0, help="reward that one USD of cost takes away")
    arguments = parser.parse_args()
    train, test = (
        read(arguments.directory / f"decisions-{part}.parquet", arguments.usd_weight) for part in ("train", "test")
    )
    started = time.monotonic()
    model = fit(train)
    print(f"Trained on {len(train)} decisions in {time.monotonic() - started:.1f} s.")
    print(report(train, test, act(model, test)))


if __name__ == "__main__":
    main()
