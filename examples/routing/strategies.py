"""Compare strategies of picking models, from the stats and a routing table of the store.

    python manage.py export_trajectories TENANT --source SOURCE --format routing-table --output table.jsonl
    python -m examples.routing.strategies table.jsonl --source SOURCE

A strategy is a model, or two: the second is asked where the first did not succeed, which needs a
test that says so. It costs both attempts then. ``cheapest`` and ``best`` are those of the stats.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import NamedTuple

from trajectories_sdk import Client
from trajectories_sdk.models import Stats


class Outcome(NamedTuple):
    """``score`` is the mean score of a model on an item, from 0 to 1."""

    score: float
    cost_usd: float


class Model(NamedTuple):
    """A model by the stats; ``rate`` is its credited success rate."""

    name: str
    rate: float
    cost_usd: float


class Result(NamedTuple):
    """A strategy on all items: mean score, total cost, and whether no other is better and cheaper."""

    models: Sequence[str]
    score: float
    cost_usd: float
    is_efficient: bool = True

    @property
    def name(self) -> str:
        return ", then ".join(self.models)


Table = Mapping[str, Mapping[str, Outcome]]
"""The outcome of each model, by item."""


def read_table(lines: Iterable[str]) -> Table:
    """Return a routing table by item and model."""
    table: dict[str, dict[str, Outcome]] = {}
    for line in lines:
        row = json.loads(line)
        table.setdefault(row["item"], {})[row["model"]] = Outcome(row["score"], row["cost_usd"])
    return complete(table)


def complete(table: Table) -> Table:
    """Return the items that all models worked on: the others compare nothing."""
    models = {name for outcomes in table.values() for name in outcomes}
    return {item: outcomes for item, outcomes in table.items() if set(outcomes) == models}


def models_of(stats: Stats) -> list[Model]:
    """Return the models of the stats, the cheapest first."""
    models = [
        Model(group.model, group.credited_success_rate.rate, group.cost_usd.sum)
        for group in stats.by_model
        if group.model is not None and group.credited_success_rate.rate is not None and group.cost_usd.sum is not None
    ]
    return sorted(models, key=lambda model: model.cost_usd)


def result(table: Table, models: Sequence[str]) -> Result:
    """Return what asking ``models`` in turn gives, until one succeeds."""
    score = cost_usd = 0.0
    for outcomes in table.values():
        best = 0.0
        for name in models:
            best = max(best, outcomes[name].score)
            cost_usd += outcomes[name].cost_usd
            if outcomes[name].score == 1:
                break
        score += best
    return Result(models, score / len(table), cost_usd)


def compare(table: Table, names: Sequence[str]) -> list[Result]:
    """Return the result of each model and of each two, the cheapest first."""
    strategies = [(name,) for name in names] + list(permutations(names, 2))
    results = sorted((result(table, models) for models in strategies), key=lambda one: (one.cost_usd, -one.score))
    highest = -1.0
    marked = []
    for one in results:
        marked.append(one._replace(is_efficient=one.score > highest))
        highest = max(highest, one.score)
    return marked


def report(table: Table, stats: Stats) -> str:
    """Return the comparison as text."""
    models = models_of(stats)
    cheapest, best = models[0], max(models, key=lambda model: model.rate)
    any_of = sum(any(one.score == 1 for one in outcomes.values()) for outcomes in table.values()) / len(table)
    lines = [f"{len(table)} items, {len(models)} models.", "", "By the stats:"]
    lines += [f"{100 * one.rate:6.1f} %  {one.cost_usd:9.3f} USD  {one.name}" for one in models]
    lines += ["", "By the routing table (* no strategy is better and cheaper):"]
    results = compare(table, [model.name for model in models])
    lines += [
        f"{100 * one.score:6.1f} %  {one.cost_usd:9.3f} USD {'*' if one.is_efficient else ' '}{one.name}"
        for one in results
    ]
    alone = result(table, [best.name])
    lines += ["", f"Best single model: {_shown(alone)}"]
    if cheapest != best:
        lines.append(f"Cheapest first: {_shown(result(table, [cheapest.name, best.name]))}")
    lines.append(f"Solved by any model: {100 * any_of:.1f} %")
    return "\n".join(lines)


def _shown(one: Result) -> str:
    return f"{one.name}: {100 * one.score:.1f} % for {one.cost_usd:.2f} USD"


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare strategies of picking models.")
    parser.add_argument("table", type=Path, help="an export of the format routing-table")
    parser.add_argument("--source", required=True, help="of the runs whose stats are asked for")
    arguments = parser.parse_args()
    with Client() as client:
        stats = client.trajectories.stats(source=arguments.source)
    print(report(read_table(arguments.table.read_text().splitlines()), stats))


if __name__ == "__main__":
    main()
