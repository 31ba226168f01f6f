"""GET of readiness, and its command: whether the runs of a tenant are worth training on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from io import StringIO
from typing import Any
from uuid import UUID

import orjson
import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from pytest_django import Settings

from tests.api.client import PATH, archive_all, error, number, posted
from tests.training.ready_runs import good_run
from trajectories.api.training_responses import Readiness
from trajectories.domain.query import Query
from trajectories.services import reads
from trajectories.storage.store import get_store
from trajectories.training import readiness as training

WithoutTables = Callable[..., AbstractContextManager[None]]


def readiness(client: Client, **parameters: Any) -> dict[str, Any]:
    response = client.get(f"{PATH}/readiness", parameters)
    assert response.status_code == 200, response.content
    Readiness.model_validate_json(response.content)
    found: dict[str, Any] = response.json()
    return found


def figures(client: Client) -> dict[str, Any]:
    """Return an answer without what depends on the tiers and the time."""
    return {name: value for name, value in readiness(client).items() if name not in ("as_of", "complete")}


def test_the_answer_does_not_depend_on_the_tiers(
    north: Client, settings: Settings, trajectories_settings: dict[str, Any]
) -> None:
    for at in range(4):
        posted(north, good_run(at, id=number(at + 1)))
    expected = figures(north)
    assert (expected["runs"], expected["ready"]) == (4, False)
    settings.TRAJECTORIES = trajectories_settings | {"HOT_MAX_RECORDS": 2}
    assert figures(north) == expected
    archive_all()
    assert figures(north) == expected


def test_filters_choose_the_runs_and_max_runs_takes_the_newest(north: Client) -> None:
    for at in range(4):
        posted(north, good_run(at, id=number(at + 1)))
    assert readiness(north, project="project-1")["runs"] == 1
    found = readiness(north, max_runs=3)
    assert (found["runs"], found["complete"]) == (3, False)
    assert found["projects"] == 3


@pytest.mark.parametrize("limit", ["runs", "size", "phases"])
def test_an_answer_measures_a_sample_and_the_command_all(
    north: Client, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    for at in range(5):
        posted(north, good_run(at, id=number(at + 1)))
    archive_all()
    newest = reads.list_(get_store(), "north", Query(), after=None, limit=2).records
    phases = [len(orjson.loads(record.body)["phases"]) for record in newest]
    of_three = {"runs": 3, "size": sum(len(record.body) for record in newest) + 1, "phases": sum(phases) + 1}
    monkeypatch.setattr(training, "_PAGE", 2)
    monkeypatch.setattr(training, "SAMPLE", training.SAMPLE._replace(**{limit: of_three[limit]}))
    found = readiness(north, max_runs=1_000_000)
    assert (found["runs"], found["matching"], found["complete"]) == (3, 5, False)
    assert found["note"].startswith("Only the newest 3 of 5 matching runs are measured. manage.py readiness")
    (runs,) = (check for check in found["checks"] if check["code"] == "runs")
    assert runs["value"] == 5
    assert runs["message"].startswith("About 5 of 5 runs, by the 3 that are measured, have both a cost")
    code, said = said_by("north")
    assert (code, said[:16]) == (1, "5 runs measured.")
    code, said = said_by("north", "--max-runs", "2")
    assert said.splitlines()[0] == "2 of 5 runs measured. Not all runs are measured."


def test_a_number_of_runs_that_passes_is_that_of_all_runs(
    north: Client, settings: Settings, trajectories_settings: dict[str, Any]
) -> None:
    for at in range(4):
        posted(north, good_run(at, id=number(at + 1)))
    settings.TRAJECTORIES = trajectories_settings | {"READINESS": {"runs": 4}}
    found = readiness(north, max_runs=3)
    (runs,) = (check for check in found["checks"] if check["code"] == "runs")
    assert (found["runs"], found["runs_with_cost_and_tools"], runs["passed"]) == (3, 3, True)
    assert readiness(north)["note"] is None


def test_thresholds_are_settings(north: Client, settings: Settings, trajectories_settings: dict[str, Any]) -> None:
    for at in range(4):
        posted(north, good_run(at))
    settings.TRAJECTORIES = trajectories_settings | {"READINESS": {"runs": 4}}
    assert readiness(north)["ready"]


@pytest.mark.parametrize("given", ["0", "1000001", "-1", "x", "1.5", "²", "9" * 30])
def test_a_wrong_number_of_runs_is_refused(north: Client, given: str) -> None:
    refused = error(north.get(f"{PATH}/readiness", {"max_runs": given}), 400, "invalid_parameter")
    assert refused.message == f"max_runs must be between 1 and 1000000, got {given}."


def test_runs_below_an_unavailable_archive_are_503(
    north: Client, settings: Settings, trajectories_settings: dict[str, Any], without_tables: WithoutTables
) -> None:
    posted(north, good_run(1))
    archive_all()
    settings.TRAJECTORIES = trajectories_settings | {"HOT_MAX_RECORDS": 1}
    posted(north, good_run(2))
    assert readiness(north)["runs"] == 2
    with without_tables("trajectory"):
        error(north.get(f"{PATH}/readiness"), 503, "archive_unavailable")


# The command.


@pytest.fixture
def recorded(north: Client) -> None:
    for at in range(4):
        posted(north, good_run(at, id=str(UUID(int=at + 1))))


def said_by(*arguments: str) -> tuple[int, str]:
    out = StringIO()
    try:
        call_command("readiness", *arguments, stdout=out)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue()
    return 0, out.getvalue()


@pytest.mark.usefixtures("recorded")
def test_the_command_names_a_remedy_and_exits_with_1(settings: Settings, trajectories_settings: dict[str, Any]) -> None:
    code, said = said_by("north")
    assert code == 1
    assert "FAILED  runs" in said
    assert "- 4 of 4 runs have both a cost above 0 and tools: record at least 500 runs" in said
    settings.TRAJECTORIES = trajectories_settings | {"READINESS": {"runs": 4}}
    code, said = said_by("north")
    assert (code, "FAILED" in said) == (0, False)


@pytest.mark.usefixtures("recorded")
def test_the_command_has_the_filters_of_the_api() -> None:
    _, said = said_by("north", "--json", "--request-type", "bugfix", "--min-cost-usd", "0.01")
    assert orjson.loads(said)["runs"] == 1
    with pytest.raises(CommandError, match="--min-cost-usd: min_cost_usd must be a number"):
        said_by("north", "--min-cost-usd", "x")
    with pytest.raises(CommandError, match="There is no tenant 'missing'"):
        said_by("missing")
    with pytest.raises(CommandError, match="--max-runs must be at least 1, got 0"):
        said_by("north", "--max-runs", "0")
