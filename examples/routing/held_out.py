"""Choose a strategy on one part of the items, and measure it on the other, from ``decisions``.

    python manage.py export_trajectories TENANT --source SOURCE --format decisions --file parquet \\
        --split choose=0.5,measure=0.5 --output DIRECTORY
    python -m examples.routing.held_out DIRECTORY

A strategy that is chosen and measured on the same items looks better than it is.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from examples.routing.strategies import Outcome, Result, Table, compare, complete, result


def read(path: Path, column: str) -> tuple[Table, dict[str, str]]:
    """Return the outcomes by item, and the value of ``column`` of each item."""
    table: dict[str, dict[str, Outcome]] = {}
    groups: dict[str, str] = {}
    for row in pd.read_parquet(path).to_dict("records"):
        item = f"{row['project']} {row['request_summary']}"
        table.setdefault(item, {})[row["model"]] = Outcome(row["reward"], row["cost_usd"])
        groups[item] = str(row[column])
    return complete(table), groups


def best(results: Sequence[Result], models: int) -> Result:
    """Return the best strategy of as many models, the cheapest of equals."""
    return max((one for one in results if len(one.models) == models), key=lambda one: (one.score, -one.cost_usd))


def by_group(choose: Table, groups: dict[str, str]) -> dict[str, str]:
    """Return the best model of each group of items; a tie goes to the cheaper one."""
    names = sorted({name for outcomes in choose.values() for name in outcomes})
    picked = {}
    for group in sorted({groups[item] for item in choose}):
        of_group = {item: outcomes for item, outcomes in choose.items() if groups[item] == group}
        picked[group] = best([result(of_group, [name]) for name in names], 1).models[0]
    return picked


def measure_groups(table: Table, groups: dict[str, str], picked: dict[str, str], fallback: str) -> Result:
    """Return the result of the model of each group; ``fallback`` is that of unknown groups."""
    outcomes = [outcomes[picked.get(groups[item], fallback)] for item, outcomes in table.items()]
    return Result(("by group",), sum(one.score for one in outcomes) / len(table), sum(one.cost_usd for one in outcomes))


def report(choose: Path, measure: Path, column: str) -> str:
    """Return the measured strategies as text."""
    (chosen_on, groups), (measured_on, others) = read(choose, column), read(measure, column)
    names = sorted({name for outcomes in chosen_on.values() for name in outcomes})
    results = compare(chosen_on, names)
    single, pair = best(results, 1), best(results, 2)
    picked = by_group(chosen_on, groups)
    rows = {
        f"best model, {single.name}": result(measured_on, single.models),
        f"best two, {pair.name}": result(measured_on, pair.models),
        f"best model by {column}": measure_groups(measured_on, others, picked, single.models[0]),
    }
    lines = [f"Chosen on {len(chosen_on)} items, measured on {len(measured_on)}:"]
    lines += [f"{100 * one.score:6.1f} %  {one.cost_usd:9.3f} USD  {name}" for name, one in rows.items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Choose a strategy on some items and measure it on the others.")
    parser.add_argument("directory", type=Path, help="has decisions-choose.parquet and decisions-measure.parquet")
    parser.add_argument("--by", default="request_type", choices=("request_type", "project"), help="groups of items")
    arguments = parser.parse_args()
    choose, measure = (arguments.directory / f"decisions-{part}.parquet" for part in ("choose", "measure"))
    print(report(choose, measure, arguments.by))


if __name__ == "__main__":
    main()
