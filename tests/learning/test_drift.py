"""Alerts over the API: dominance, changes of success, and recommendations that were not followed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from django.test import Client

from tests.api.client import posted
from tests.api.conftest import bound_host, north  # noqa: F401  fixtures
from tests.learning.runs import attempts, cells, many
from trajectories import metrics
from trajectories.api import learning_responses
from trajectories.domain.choice_sums import Key, PhaseCells, Sums
from trajectories.domain.choices import RECOMMENDATION
from trajectories.learning.drift import _by_type, _changes, _dominance, _OfType


def alerts(client: Client, **given: Any) -> dict[str, Any]:
    response = client.get("/v1/agent/alerts", given)
    assert response.status_code == 200, response.content
    learning_responses.Alerts.model_validate_json(response.content)
    found: dict[str, Any] = response.json()
    return found


def by_type(rows: Mapping[Key, Sums], since_us: int) -> list[_OfType]:
    return [*_by_type(PhaseCells("implement").plus(rows.items()), since_us)]


def test_a_model_that_takes_most_choices_is_an_alert_and_in_the_gauge(north: Client) -> None:  # noqa: F811
    for run in [*many("a", 18, 0), *many("b", 2, 0)]:
        posted(north, run)
    (found,) = alerts(north)["alerts"]
    assert (found["code"], found["model"], found["value"]) == ("model_dominates", "a", 0.9)
    assert metrics.registry.get_sample_value("trajectories_alerts", {"code": "model_dominates"}) == 1
    posted(north, attempts(("b", "success", 0.1)))
    for run in many("b", 5, 0):
        posted(north, run)
    assert alerts(north)["alerts"] == []
    assert metrics.registry.get_sample_value("trajectories_alerts", {"code": "model_dominates"}) == 0


def test_a_single_model_or_few_choices_dominate_nothing() -> None:
    assert list(_dominance("implement", by_type(cells({("a", None): (40, 40, 0.1)}), 0))) == []
    assert list(_dominance("implement", by_type(cells({("a", None): (9, 9, 0.1), ("b", None): (1, 1, 0.1)}), 0))) == []


@pytest.mark.parametrize(
    ("before", "now", "is_alert"),
    [
        ((90, 100), (25, 50), True),
        ((50, 100), (45, 50), True),
        ((90, 100), (43, 50), False),
        ((90, 100), (1, 5), False),
    ],
    ids=["fell", "rose", "same", "few"],
)
def test_success_outside_its_earlier_interval_is_an_alert(
    before: tuple[int, int], now: tuple[int, int], is_alert: bool
) -> None:
    rows = cells({("a", None): (*before, 0.1)}, week=1) | cells({("a", None): (*now, 0.1)}, week=5)
    found = list(_changes("implement", by_type(rows, 5)))
    assert bool(found) == is_alert
    if is_alert:
        assert (found[0].value, found[0].before) == (now[0] / now[1], before[0] / before[1])


def test_changes_are_in_the_order_of_types_those_without_one_first() -> None:
    typed = cells({("a", None): (90, 100, 0.1)}, week=1) | cells({("a", None): (25, 50, 0.1)}, week=5)
    rows = {key._replace(request_type=kind): sums for kind in ("feature", None) for key, sums in typed.items()}
    assert [one.request_type for one in _changes("implement", by_type(rows, 5))] == [None, "feature"]


def advised(recommended: str, used: str, outcome: str) -> dict[str, Any]:
    run = attempts((used, outcome, 0.1))
    run["phases"][0]["metadata"] = {RECOMMENDATION: {"id": "x", "model": recommended, "escalate_to": None}}
    return run


def test_recommendations_are_counted_as_followed_or_ignored_with_their_results(north: Client) -> None:  # noqa: F811
    for at in range(20):
        posted(north, advised("a", "a", "success" if at % 4 == 0 else "failure"))
    for at in range(24):
        posted(north, advised("a", "b", "failure" if at % 6 == 0 else "success"))
    found = alerts(north)
    (of_phase,) = found["recommendations"]
    assert (of_phase["followed"]["choices"], of_phase["followed"]["rate"]) == (20, 0.25)
    assert (of_phase["ignored"]["choices"], of_phase["ignored"]["rate"]) == (24, pytest.approx(20 / 24))
    assert {one["code"] for one in found["alerts"]} == {"recommendations_ignored", "recommendations_worse"}


def test_weeks_are_bounded(north: Client) -> None:  # noqa: F811
    response = north.get("/v1/agent/alerts", {"weeks": 53})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "weeks"
