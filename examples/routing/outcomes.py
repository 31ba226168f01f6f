"""Record the outcomes of a published comparison of models, one run for each task and model.

    python -m examples.routing.outcomes swebench-verified outcomes.jsonl
    python -m examples.routing.outcomes routerarena DIRECTORY

Layouts:
    swebench-verified: a file of lines ``{"item", "repository", "model", "resolved", "cost_usd",
        "model_calls"}``.
    routerarena: a directory with a file ``MODEL.jsonl`` for each model, of lines ``{"query",
        "score", "cost_usd", "tokens": {"input_tokens", "output_tokens"}}``. A query is
        ``KIND_NUMBER``.

A run has one phase with one attempt, and ``tests_passed`` where tests decide. Its ``source`` is the
name of the layout, its session the task, so that an export's split has all runs of a task in one
part. The ids follow from layout, task and model, so recording twice changes nothing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from trajectories_sdk import Client

_IDS = UUID("5b7e1f0a-9d1c-4c3e-8a55-0f6b2b8f7a11")


def swebench_verified(path: Path) -> Iterator[Any]:
    """Yield the runs of a file of resolved and unresolved tasks."""
    for one in _lines(path):
        outcome = "success" if one["resolved"] else "failure"
        yield {
            **_run("swebench-verified", one["item"], one["model"], outcome, one["cost_usd"]),
            "request_type": "bugfix",
            "project": one["repository"],
            "tests_passed": one["resolved"],
        }


def routerarena(directory: Path) -> Iterator[Any]:
    """Yield the runs of a directory of scored answers.

    The contract has three outcomes: a score between 0 and 1 becomes ``partial``, and ``metadata``
    keeps it.
    """
    for path in sorted(directory.glob("*.jsonl")):
        for one in _lines(path):
            score = one["score"]
            outcome = "success" if score >= 1 else "partial" if score > 0 else "failure"
            yield {
                **_run("routerarena", one["query"], path.stem, outcome, one["cost_usd"]),
                "request_type": one["query"].rpartition("_")[0].lower(),
                "metadata": {"score": score},
            }


LAYOUTS: Mapping[str, Callable[[Path], Iterator[Any]]] = {
    "swebench-verified": swebench_verified,
    "routerarena": routerarena,
}


def _run(layout: str, item: str, model: str, outcome: str, cost_usd: float) -> dict[str, Any]:
    attempt = {"model": model, "outcome": outcome, "cost_usd": cost_usd}
    phase = {"phase_name": "implement", "model_selection_method": "explicit", "attempts": [attempt], **attempt}
    return {
        "id": str(uuid5(_IDS, json.dumps([layout, item, model]))),
        "request_summary": item,
        "source": layout,
        "session_id": item,
        "phases": [phase],
        "outcome": outcome,
    }


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open() as lines:
        for line in lines:
            yield json.loads(line)


def record(client: Client, layout: str, path: Path) -> int:
    """Record the runs of ``path`` and return how many.

    Raises:
        ValueError: the store refused some of them.
    """
    recorded = client.trajectories.record_many(LAYOUTS[layout](path))
    if recorded.refused:
        raise ValueError(f"{recorded.refused} runs were refused.")
    return recorded.accepted


def main() -> None:
    parser = argparse.ArgumentParser(description="Record the outcomes of a published comparison of models.")
    parser.add_argument("layout", choices=LAYOUTS)
    parser.add_argument("path", type=Path, help="the file, or the directory, of the layout")
    arguments = parser.parse_args()
    with Client() as client:
        print(f"{record(client, arguments.layout, arguments.path)} runs recorded.")


if __name__ == "__main__":
    main()
