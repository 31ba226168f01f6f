"""Items of which the outcome of several models is known, read from lines of JSON.

Layouts of a line, one item and model each:
    ``routing-table``: an export of this name, with item, request_type, project, phase, model, score
        and cost_usd.
    others: ``item`` (or ``query``), ``model``, and ``score`` from 0 to 1 or ``resolved``; optional
        are ``cost_usd``, ``repository`` (or ``project``) and ``request_type``.

A directory is read file by file; lines without ``model`` have that of the file's name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from trajectories.exceptions import InvalidInput


class Outcome(NamedTuple):
    """The result of a model on an item; ``score`` is from 0 to 1, None costs are unknown."""

    score: float
    cost_usd: float | None


class Item(NamedTuple):
    """A task, and the outcome of each model."""

    name: str
    request_type: str | None
    project: str | None
    phase: str
    outcomes: Mapping[str, Outcome]


def read_items(path: Path) -> list[Item]:
    """Return the items that every model worked on, in the order of the file.

    Raises:
        InvalidInput: the file cannot be read, a line has none of the layouts, or fewer than two
            models share an item.
    """
    found: dict[str, tuple[dict[str, Any], dict[str, Outcome]]] = {}
    for place, row in _rows(path):
        try:
            name = str(row.get("item", row.get("query")))
            score = float(row["score"]) if "score" in row else float(row["resolved"])
            cost = row.get("cost_usd")
            outcome = Outcome(score, None if cost is None else float(cost))
            found.setdefault(name, (row, {}))[1][str(row["model"])] = outcome
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(
                f"{place}: a line needs item, model and score (or resolved), got {sorted(row)}."
            ) from error
    models = {model for _, outcomes in found.values() for model in outcomes}
    items = [
        Item(
            name,
            row.get("request_type"),
            row.get("project", row.get("repository")),
            row.get("phase", "implement"),
            outcomes,
        )
        for name, (row, outcomes) in found.items()
        if outcomes.keys() == models
    ]
    if len(models) < 2 or not items:
        raise InvalidInput(f"{path} has no item that at least two models worked on; {len(models)} models were found.")
    return items


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
        for file in files:
            for number, line in enumerate(file.read_bytes().splitlines(), 1):
                row = orjson.loads(line)
                if not isinstance(row, dict):
                    raise InvalidInput(f"{file.name}:{number}: a line must be an object.")
                yield f"{file.name}:{number}", {"model": file.stem} | row
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.") from error
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"{path} has a line that is no JSON: {error}.") from error
