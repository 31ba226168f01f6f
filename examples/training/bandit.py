"""Train a contextual bandit with Vowpal Wabbit on ``dsjson``, and evaluate it on the other part.

    python -m examples.training.bandit var/training/dsjson --model var/training/policy.vw

The directory has ``dsjson-train.jsonl`` and ``dsjson-test.jsonl``, as ``export_trajectories
--split`` writes them.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

from vowpalwabbit import Workspace

from examples.training.evaluation import Logged, report

PASSES = 10
OPTIONS = "--cb_explore_adf --dsjson --quiet --random_seed 1 -q RA -q PA --cubic RPA"
"""Interactions of the namespaces Request, Phase and Action: which action suits which request."""


def read(path: Path) -> list[Logged]:
    """Return the decisions of a file, by their ids: exports are in the order of arrival."""
    lines = path.read_text().splitlines()
    return [_logged(line) for line in sorted(lines, key=lambda line: str(json.loads(line)["EventId"]))]


def _logged(line: str) -> Logged:
    event = json.loads(line)
    return Logged(
        phase=_word(event["c"]["Phase"], "name"),
        actions=[next(iter(one["Action"])) for one in event["c"]["_multi"]],
        taken=event["_labelIndex"],
        propensity=event["_label_probability"],
        reward=-event["_label_cost"],
        context=line,
    )


def _word(features: dict[str, Any], name: str) -> str:
    return next(key.partition("=")[2] for key in features if key.startswith(f"{name}="))


def learn(workspace: Workspace, decisions: list[Logged]) -> None:
    shuffled = list(decisions)
    for number in range(PASSES):
        random.Random(number).shuffle(shuffled)
        for one in shuffled:
            examples = workspace.parse(one.context)
            workspace.learn(examples)
            workspace.finish_example(examples)


def act(workspace: Workspace, decision: Logged) -> str:
    """Return the action of highest probability."""
    examples = workspace.parse(decision.context)
    probabilities = workspace.predict(examples)
    workspace.finish_example(examples)
    best = max(range(len(probabilities)), key=probabilities.__getitem__)
    return decision.actions[best]


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a contextual bandit on exported decisions.")
    parser.add_argument("directory", type=Path, help="has dsjson-train.jsonl and dsjson-test.jsonl")
    parser.add_argument("--model", type=Path, required=True, help="where to write the policy")
    arguments = parser.parse_args()
    train, test = (read(arguments.directory / f"dsjson-{part}.jsonl") for part in ("train", "test"))
    started = time.monotonic()
    workspace = Workspace(OPTIONS)
    learn(workspace, train)
    workspace.save(str(arguments.model))
    print(f"Trained on {len(train)} decisions in {time.monotonic() - started:.1f} s.")
    print(report(train, test, [act(workspace, decision) for decision in test]))
    workspace.finish()


if __name__ == "__main__":
    main()
