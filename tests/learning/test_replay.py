"""Replay of recorded outcomes over the API: what is read, what is drawn, and that it learns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import orjson
import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from tests.api.client import JSON, archive_all, exported, posted
from tests.api.conftest import bound_host, north  # noqa: F401  fixtures
from trajectories.exceptions import InvalidInput
from trajectories.learning.full_feedback import Item, Outcome, read_items
from trajectories.learning.regret_chart import regret_svg
from trajectories.learning.replay import Plan, Replayed, Rules, Table, as_json, attempts_of, from_json, replay, report


def items(count: int = 30) -> list[Item]:
    """Return items on which the cheap model solves half, and the strong one the other half too."""
    return [
        Item(f"item {at}", "bugfix", "web", "implement", {"cheap": Outcome(at % 2, 0.01), "strong": Outcome(1.0, 1.0)})
        for at in range(count)
    ]


def test_a_plan_uses_the_second_model_only_after_a_failure() -> None:
    first, second = items(2)
    plan = Plan("cheap", "strong")
    assert attempts_of(first, plan) == [("cheap", 0, 0.01), ("strong", 1.0, 1.0)]
    assert attempts_of(second, plan) == [("cheap", 1, 0.01)]


def test_the_table_has_every_action_in_hindsight() -> None:
    table = Table(items())
    assert table.best_single == Plan("strong")
    assert table.cheap_first == Plan("cheap", "strong")
    assert [*table.results[Plan("cheap")]] == pytest.approx([0.5, 0.3])
    assert [*table.results[Plan("cheap", "strong")]] == pytest.approx([1.0, 15.3])
    assert table.best_value(Rules()) == pytest.approx(1 - 0.1 * 0.51)
    assert table.regret(table.best_single, Rules()) == pytest.approx(1 - 0.051 - 0.9)
    assert table.regret(table.cheap_first, Rules()) == 0
    assert table.best_value(Rules(allow_escalation=False)) == pytest.approx(0.9)


def test_the_loop_over_the_api_learns_the_plan_that_pays(north: Client) -> None:  # noqa: F811
    def api(path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        response = north.post(path, body, content_type=JSON)
        assert response.status_code in (200, 201), response.content
        answer: dict[str, Any] = response.json()
        return answer

    table = Table(items())
    found = replay(api, table, Rules(), seed=1, runs=60)
    kept = json.loads(json.dumps(as_json(found, table, Rules())))
    assert from_json(kept, table, Rules(), 60) == found
    first, *others = items()
    for other, rules in ((table, Rules(explore=0.5)), (Table([first._replace(name="another"), *others]), Rules())):
        with pytest.raises(ValueError, match="it is of"):
            from_json(kept, other, rules, 60)
    assert found.final == {"bugfix": Plan("cheap", "strong")}
    assert found.final_result == table.results[Plan("cheap", "strong")]
    assert len(found.regret) == 60
    assert found.regret[-1] < 5  # actions at random lose 10
    said = report(table, [found], Rules())
    assert "100.0 %        15.3 USD    51%  seed 1: cheap, then strong" in said
    stored = north.get("/v1/agent/trajectories", {"limit": 1}).json()["data"][0]
    assert stored["policy"] == "replay@1"
    assert 0 < stored["phases"][0]["selection_probability"] <= 1


def test_a_routing_table_is_read_back(north: Client, tmp_path: Path) -> None:  # noqa: F811
    for model, outcome in (("a", "success"), ("b", "failure")):
        phase = {"phase_name": "implement", "model": model, "outcome": outcome, "cost_usd": 0.5}
        posted(north, {"request_summary": "Fix it", "request_type": "bugfix", "phases": [phase]})
    archive_all()
    path = tmp_path / "table.jsonl"
    path.write_bytes(b"".join(exported(north, format="routing-table")))
    (found,) = read_items(path)
    assert (found.request_type, found.phase) == ("bugfix", "implement")
    assert found.outcomes == {"a": Outcome(1.0, 0.5), "b": Outcome(0.0, 0.5)}


def test_lines_of_outcomes_and_directories_of_models_are_read(tmp_path: Path) -> None:
    lines = [{"item": "x", "repository": "r", "model": model, "resolved": model == "a"} for model in "ab"]
    path = tmp_path / "outcomes.jsonl"
    path.write_bytes(b"\n".join(map(orjson.dumps, lines)))
    assert read_items(path) == [Item("x", None, "r", "implement", {"a": Outcome(1.0, None), "b": Outcome(0.0, None)})]
    folder = tmp_path / "models"
    folder.mkdir()
    for model, score in (("a", 0.5), ("b", 1.0)):
        (folder / f"{model}.jsonl").write_bytes(orjson.dumps({"query": "q_1", "score": score, "cost_usd": 0.1}))
    assert read_items(folder)[0].outcomes["a"] == Outcome(0.5, 0.1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"item": "x"}', "outcomes.jsonl:1: a line needs item, model and score"),
        ("{", "no JSON"),
        ('{"item": "x", "model": "a", "score": 1}', "1 models were found"),
    ],
    ids=["field", "json", "one"],
)
def test_a_file_that_cannot_be_replayed_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "outcomes.jsonl"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=message):
        read_items(path)


@pytest.mark.django_db
def test_the_command_does_not_repeat_seeds_whose_results_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, results, svg = tmp_path / "outcomes.jsonl", tmp_path / "results", tmp_path / "regret.svg"
    lines = [
        {"item": item.name, "request_type": "bugfix", "project": "web", "model": model, **outcome._asdict()}
        for item in items(4)
        for model, outcome in item.outcomes.items()
    ]
    data.write_bytes(b"\n".join(map(orjson.dumps, lines)))
    table = Table(read_items(data))
    results.mkdir()
    for seed, plan in ((1, Plan("cheap", "strong")), (2, Plan("strong"))):
        earned = table.results[plan]
        one = Replayed(seed, [0.5, 1.0 * seed], earned, {"bugfix": plan}, earned, earned)
        (results / f"{seed}.json").write_text(json.dumps(as_json(one, table, Rules())))
    given = ["north", "--data", str(data), "--runs", "2", "--results", str(results), "--url", "http://127.0.0.1:9"]
    call_command("replay", *given, "--replays", "2", "--svg", str(svg))
    said = capsys.readouterr().out
    assert "1 of 2: cheap, then strong" in said
    assert "mean regret 1.5" in said
    assert len(ElementTree.fromstring(svg.read_text()).findall("{http://www.w3.org/2000/svg}polyline")) == 5
    with pytest.raises(CommandError, match=r"1.json is not a result of these items, rules and --runs 3"):
        call_command("replay", *given[:3], "--runs", "3", *given[5:])
    with pytest.raises(CommandError, match=r"does not answer"):
        call_command("replay", *given, "--seed", "3")


@pytest.mark.django_db
def test_the_command_refuses_an_address_that_does_not_answer(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.jsonl"
    path.write_bytes(b"\n".join(orjson.dumps({"item": "x", "model": m, "score": 1, "cost_usd": 1}) for m in "ab"))
    with pytest.raises(CommandError, match=r"The store at http://127.0.0.1:9 does not answer"):
        call_command("replay", "north", "--data", str(path), "--url", "http://127.0.0.1:9")


def test_the_regret_curve_is_an_svg_with_a_line_for_each_replay() -> None:
    text = regret_svg([[0.0, 1.0, 1.5], [0.0, 2.0, 2.5]], "Regret <of> two", {"always <a>": 1.0})
    root = ElementTree.fromstring(text)
    lines = root.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 4
    last = [line.attrib["points"].split()[-1] for line in lines]
    assert last[2] == f"{720 - 16:.1f},40.0"  # the baseline has the highest regret: 3 after three runs
    (band,) = root.findall("{http://www.w3.org/2000/svg}polygon")
    assert len(band.attrib["points"].split()) == 6
    assert "always <a>" in [text.text for text in root.findall("{http://www.w3.org/2000/svg}text")]
    title = root.find("{http://www.w3.org/2000/svg}title")
    assert title is not None
    assert title.text == "Regret <of> two"
