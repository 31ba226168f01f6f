"""The scripts of docs/routing.md, on outcomes of which the truth is computed by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from django.core.management import call_command
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections

from examples.routing import held_out, outcomes, strategies
from examples.routing.strategies import Outcome
from tests.api.client import issue
from trajectories.domain.warnings import warnings_of
from trajectories.testing import IsolatedStore
from trajectories_sdk import Client

SWEBENCH = {
    # item: (repository, cheap is right, its cost in USD, strong is right, its cost)
    "t1": ("r1", True, 0.1, True, 1.0),
    "t2": ("r1", False, 0.1, True, 1.0),
    "t3": ("r1", False, 0.2, False, 2.0),
    "t4": ("r2", True, 0.1, False, 1.0),
    "t5": ("r2", False, 0.3, True, 1.0),
}
ROUTERARENA = {
    "plain": [("Kind_1", 1.0, 0.1), ("Kind_2", 0.4, 0.1), ("Other_kind_3", -0.1, 0.1)],
    "fancy": [("Kind_1", 0.0, 0.2), ("Kind_2", 1.0, 0.2), ("Other_kind_3", 0.0, 0.2)],
}


def write_swebench(path: Path) -> Path:
    """Write a file of the layout swebench-verified."""
    rows: list[dict[str, Any]] = []
    for item, (repository, cheap, cheap_usd, strong, strong_usd) in SWEBENCH.items():
        of_item = {"item": item, "repository": repository, "model_calls": 3}
        rows.append(of_item | {"model": "cheap", "resolved": cheap, "cost_usd": cheap_usd})
        rows.append(of_item | {"model": "strong", "resolved": strong, "cost_usd": strong_usd})
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


def write_routerarena(directory: Path) -> Path:
    """Write a directory of the layout routerarena."""
    directory.mkdir()
    for model, rows in ROUTERARENA.items():
        lines = [orjson.dumps({"query": query, "score": score, "cost_usd": usd}) for query, score, usd in rows]
        (directory / f"{model}.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    (directory / "model_cost.json").write_text("{}")
    return directory


@pytest.fixture
def client(store: IsolatedStore) -> Iterator[Client]:
    """A client of the store, in this process and on the connection of the test."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    transport = httpx2.WSGITransport(get_wsgi_application())
    with Client("http://localhost", issue()[1], transport=transport) as client:
        yield client
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


def export(source: str, output: Path, *options: str) -> Path:
    call_command("export_trajectories", "north", "--source", source, "--output", str(output), *options)
    return output


def report(client: Client, source: str, directory: Path) -> str:
    table = export(source, directory / "table.jsonl", "--format", "routing-table")
    lines = table.read_text().splitlines()
    return strategies.report(strategies.read_table(lines), client.trajectories.stats(source=source))


def test_the_cheapest_first_beats_the_best_model(client: Client, store: IsolatedStore, tmp_path: Path) -> None:
    assert outcomes.record(client, "swebench-verified", write_swebench(tmp_path / "outcomes.jsonl")) == 10
    store.deliver()
    assert report(client, "swebench-verified", tmp_path).splitlines() == [
        "5 items, 2 models.",
        "",
        "By the stats:",
        "  40.0 %      0.800 USD  cheap",
        "  60.0 %      6.000 USD  strong",
        "",
        "By the routing table (* no strategy is better and cheaper):",
        "  40.0 %      0.800 USD *cheap",
        "  80.0 %      4.800 USD *cheap, then strong",
        "  60.0 %      6.000 USD  strong",
        "  80.0 %      6.300 USD  strong, then cheap",
        "",
        "Best single model: strong: 60.0 % for 6.00 USD",
        "Cheapest first: cheap, then strong: 80.0 % for 4.80 USD",
        "Solved by any model: 80.0 %",
    ]
    decisions = export(
        "swebench-verified", tmp_path / "decisions.parquet", "--format", "decisions", "--file", "parquet"
    )
    assert held_out.report(decisions, decisions, "project").splitlines() == [
        "Chosen on 5 items, measured on 5:",
        "  60.0 %      6.000 USD  best model, strong",
        "  80.0 %      4.800 USD  best two, cheap, then strong",
        "  60.0 %      4.400 USD  best model by project",  # of r2 both solve one, and cheap costs less
    ]


def test_recording_outcomes_twice_changes_nothing(client: Client, store: IsolatedStore, tmp_path: Path) -> None:
    path = write_swebench(tmp_path / "outcomes.jsonl")
    for _ in range(2):
        outcomes.record(client, "swebench-verified", path)
        store.deliver()
    assert client.trajectories.stats().count == 10


def test_a_score_between_0_and_1_is_a_partial_success(client: Client, store: IsolatedStore, tmp_path: Path) -> None:
    assert outcomes.record(client, "routerarena", write_routerarena(tmp_path / "answers")) == 6
    store.deliver()
    lines = report(client, "routerarena", tmp_path).splitlines()
    assert lines[6:10] == [
        "By the routing table (* no strategy is better and cheaper):",
        "  50.0 %      0.300 USD *plain",
        "  33.3 %      0.600 USD  fancy",
        "  66.7 %      0.700 USD *plain, then fancy",
    ]
    assert lines[-2:] == ["Best single model: plain: 50.0 % for 0.30 USD", "Solved by any model: 66.7 %"]
    scores = {record.request_summary: record.metadata for record in client.trajectories.list(model="plain")}
    assert scores["Other_kind_3"] == {"score": -0.1}


def test_items_that_some_models_did_not_work_on_compare_nothing() -> None:
    both = {"a": Outcome(1, 0.1), "b": Outcome(0, 0.2)}
    assert strategies.complete({"1": both, "2": {"a": Outcome(1, 0.1)}}) == {"1": both}


def test_the_runs_do_not_contradict_themselves(tmp_path: Path) -> None:
    runs = [
        *outcomes.swebench_verified(write_swebench(tmp_path / "outcomes.jsonl")),
        *outcomes.routerarena(write_routerarena(tmp_path / "answers")),
    ]
    assert [warning for run in runs for warning in warnings_of(run)] == []
