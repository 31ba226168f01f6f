"""How often the 95 % intervals of off-policy estimates have the true value.

    python -m benchmarks.off_policy
    python -m benchmarks.off_policy --data outcomes.jsonl

Two policies log decisions: a random one, and Thompson sampling that learns as it goes. Each of the
evaluated policies has a known value: that of the generated models, or of the items of ``--data``,
which has the outcome of each model on each item (``learning.full_feedback`` has the layouts). Runs
that the evaluation refuses are counted apart.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import benchmarks.configured  # noqa: F401  before the app
from trajectories.domain.choice_sums import Key, Sums
from trajectories.domain.choices import MODEL
from trajectories.learning.context import RecommendationRequest
from trajectories.learning.estimators import METHODS, Logged, estimates, overlap
from trajectories.learning.evaluate import why_refused
from trajectories.learning.full_feedback import read_items
from trajectories.learning.recommend import decide

BATCH = 10
"""Decisions between two updates of the Thompson policy, as if records arrived late."""


class Task(NamedTuple):
    """A task, with the chance of success of each model, from 0 to 1."""

    type: str
    chances: Mapping[str, float]


class Domain(NamedTuple):
    """Tasks to draw from, and their models."""

    tasks: Sequence[Task]
    models: Sequence[str]


def generated(rng: random.Random) -> Domain:
    """Return 400 tasks of three types; models differ by type, and tasks by difficulty."""
    models = ["m-1", "m-2", "m-3", "m-4"]
    skill = {(kind, model): rng.uniform(0.25, 0.85) for kind in "abc" for model in models}
    tasks = []
    for _ in range(400):
        kind, easy = rng.choice("abc"), rng.uniform(-0.2, 0.2)
        tasks.append(Task(kind, {m: min(0.98, max(0.02, skill[kind, m] + easy)) for m in models}))
    return Domain(tasks, models)


def recorded(path: Path) -> Domain:
    """Return the items of a file. Each chance is the score of the one recorded outcome."""
    items = read_items(path)
    models = sorted({model for item in items for model in item.outcomes})
    return Domain(
        [Task(item.request_type or "", {m: o.score for m, o in item.outcomes.items()}) for item in items], models
    )


Choose = Callable[[str], Mapping[str, float]]


def targets(domain: Domain, rng: random.Random) -> Iterator[tuple[str, Choose]]:
    """Yield policies to evaluate: one model always, and a mix by type."""
    model = rng.choice(domain.models)
    yield "always", lambda _: {model: 1.0}
    kinds = sorted({task.type for task in domain.tasks})
    by_type = {kind: rng.choice(domain.models) for kind in kinds}
    even = 0.4 / len(domain.models)
    yield "mixed", lambda kind: {m: even + 0.6 * (m == by_type[kind]) for m in domain.models}


def value(domain: Domain, policy: Choose) -> float:
    return sum(
        sum(chance * task.chances[model] for model, chance in policy(task.type).items()) for task in domain.tasks
    ) / len(domain.tasks)


class Decided(NamedTuple):
    task: Task
    taken: str
    propensity: float
    reward: float


def by_random(domain: Domain, count: int, rng: random.Random) -> Iterator[Decided]:
    for _ in range(count):
        weights = [rng.uniform(0.2, 1.0) for _ in domain.models]
        yield _taken(rng.choice(domain.tasks), dict(zip(domain.models, weights, strict=True)), rng)


def by_thompson(domain: Domain, count: int, rng: random.Random) -> Iterator[Decided]:
    cells: dict[Key, Sums] = {}
    for _ in range(0, count, BATCH):
        chances = {kind: _recommended(domain, kind, cells) for kind in {task.type for task in domain.tasks}}
        batch = []
        for _ in range(BATCH):
            task = rng.choice(domain.tasks)
            batch.append(_taken(task, chances[task.type], rng))
        yield from batch
        for one in batch:
            key = Key(MODEL, one.task.type, None, "implement", one.taken, None, 0)
            cells[key] = cells.get(key, Sums()).plus(Sums(1, 1, round(2 * one.reward)))


def _recommended(domain: Domain, kind: str, cells: Mapping[Key, Sums]) -> dict[str, float]:
    request = RecommendationRequest.model_validate(
        {
            "phase": "implement",
            "request_type": kind,
            "candidates": [{"model": model} for model in domain.models],
            "allow_escalation": False,
            "explore": 0.1,
        }
    )
    return {one["model"]: one["probability"] for one in decide(request, cells, 0, 0)["candidates"]}


def _taken(task: Task, weights: Mapping[str, float], rng: random.Random) -> Decided:
    total = sum(weights.values())
    (taken,) = rng.choices([*weights], [*weights.values()])
    return Decided(task, taken, weights[taken] / total, float(rng.random() < task.chances[taken]))


LOGGERS = {"random": by_random, "thompson": by_thompson}


def study(make: Callable[[random.Random], Domain], runs: int, decisions: int) -> Iterator[str]:
    for logger, log in LOGGERS.items():
        covered: Counter[tuple[str, str, str]] = Counter()
        evaluated, refused = Counter[str](), Counter[str]()
        for run in range(runs):
            rng = random.Random(f"{logger} {run}")
            domain = make(rng)
            rows = list(log(domain, decisions, rng))
            for name, policy in targets(domain, rng):
                logged = [
                    Logged(one.task.type, one.taken, one.propensity, policy(one.task.type), one.reward) for one in rows
                ]
                if why_refused("decisions", len(logged), 0, overlap(logged), 1.0):
                    refused[name] += 1
                    continue
                evaluated[name] += 1
                truth = value(domain, policy)
                for one in estimates(logged, seed=run, replicates=400):
                    for kind, interval in (("normal", one.normal), ("bootstrap", one.bootstrap)):
                        covered[name, one.method, kind] += interval.low <= truth <= interval.high
        for name in evaluated:
            for method in METHODS:
                shares = [covered[name, method, kind] / evaluated[name] for kind in ("normal", "bootstrap")]
                yield (
                    f"{logger:<9} {name:<7} {method:<6} normal {shares[0]:6.1%}  bootstrap {shares[1]:6.1%}"
                    f"  of {evaluated[name]} runs, {refused[name]} refused"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how often intervals of off-policy estimates have the truth.")
    parser.add_argument("--data", type=Path, help="outcomes of several models on each item; generated by default")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--decisions", type=int, default=500)
    arguments = parser.parse_args()
    domain = None if arguments.data is None else recorded(arguments.data)
    for line in study(generated if domain is None else lambda _: domain, arguments.runs, arguments.decisions):
        print(line)


if __name__ == "__main__":
    main()
