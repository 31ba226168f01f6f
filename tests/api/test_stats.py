"""GET of stats: the figures of all that matches, out of every tier, and the window that they are
of."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from django.test import Client

from tests.api.client import PATH, archive_all, number, posted, stats, update
from tests.examples import REFERENCE, body, in_phase, phase
from trajectories import persistence
from trajectories.storage.store import get_store

WithoutTables = Callable[..., AbstractContextManager[None]]


def figures(client: Client, **parameters: Any) -> dict[str, Any]:
    """Without the window, which says when it was asked."""
    found = stats(client, **parameters)
    del found["window"]
    return found


def post_some(client: Client) -> None:
    posted(client, REFERENCE | {"id": number(1)})
    posted(client, in_phase(model="m", cost_usd=0.1, outcome="success") | {"id": number(2), "project": "p"})
    posted(
        client, body(id=number(3), phases=[phase(outcome="skipped"), phase(phase_name="verify")], tests_passed=False)
    )
    posted(client, body(id=number(4), total_cost_usd=0, total_duration_ms=0.25))


@pytest.mark.parametrize("held", [1, 2, 3])
def test_figures_do_not_depend_on_the_tiers_that_count(
    north: Client, settings: Any, trajectories_settings: dict[str, Any], held: int
) -> None:
    post_some(north)
    expected = figures(north)
    settings.TRAJECTORIES = trajectories_settings | {"HOT_MAX_RECORDS": held}
    # Below the hot cache all of it waits in the outbox, then all is archived, then one record waits again.
    assert figures(north) == expected
    archive_all()
    assert figures(north) == expected
    posted(north, REFERENCE | {"id": number(1)})
    assert figures(north) == expected


def test_a_revision_replaces_its_predecessor_in_the_figures(
    north: Client, settings: Any, trajectories_settings: dict[str, Any]
) -> None:
    settings.TRAJECTORIES = trajectories_settings | {"HOT_MAX_RECORDS": 1}
    post_some(north)
    archive_all()
    update(north, number(1), {"total_cost_usd": 1})
    found = stats(north)
    assert (found["count"], found["cost_usd"]["sum"]) == (4, 1.1)


def test_nothing_recorded_is_nothing_known(north: Client) -> None:
    found = stats(north)
    assert (found["count"], found["cost_usd"]["mean"], found["success_rate"]["rate"]) == (0, None, None)


def test_the_window_states_the_records_behind_the_figures(north: Client) -> None:
    record = posted(north, body())
    window = stats(north, since="2026-01-01T01:00:00+01:00", until="2100-01-01T00:00:00Z")["window"]
    assert (window["from"], window["to"]) == ("2026-01-01T00:00:00.000000Z", "2100-01-01T00:00:00.000000Z")
    assert window["as_of"] >= record["recorded_at"]
    assert stats(north)["window"]["from"] is None


def test_since_is_in_the_window_and_until_is_not(north: Client) -> None:
    at = posted(north, body())["recorded_at"]
    assert stats(north, since=at)["count"] == 1
    assert stats(north, until=at)["count"] == 0


@pytest.mark.usefixtures("redis_tier")
def test_the_window_is_complete_when_every_tier_has_answered(north: Client) -> None:
    persistence.rebuild(get_store())
    posted(north, body())
    assert stats(north)["window"]["complete"] is True


def test_while_the_archive_is_away_the_figures_are_of_the_rest_and_say_so(
    north: Client, settings: Any, trajectories_settings: dict[str, Any], without_tables: WithoutTables
) -> None:
    settings.TRAJECTORIES = trajectories_settings | {"HOT_MAX_RECORDS": 1}
    post_some(north)
    archive_all()
    assert stats(north)["window"]["tiers"] == ["hot", "archive"]
    with without_tables("trajectory"):
        found = stats(north, until="2100-01-01")  # a new question, which is not answered from memory
    assert (found["count"], found["window"]["tiers"], found["window"]["complete"]) == (1, ["hot"], False)


# Credit and series.


def test_the_credit_rule_is_a_parameter_and_a_setting(
    north: Client, settings: Any, trajectories_settings: dict[str, Any]
) -> None:
    posted(north, body(id=number(1), phases=[phase(phase_name="code", outcome="success")], tests_passed=False))

    def shown(**parameters: str) -> tuple[str, float]:
        found = stats(north, **parameters)
        return found["credit_rule"], found["by_phase"][0]["credited_success_rate"]["rate"]

    assert shown() == shown(credit="checks") == ("checks", 0)
    assert shown(credit="phase_outcome") == ("phase_outcome", 1)
    settings.TRAJECTORIES = trajectories_settings | {"CREDIT_RULE": "phase_outcome"}
    assert shown() == ("phase_outcome", 1)
    assert shown(credit="run_outcome") == ("run_outcome", 0)


def test_a_series_has_the_totals_of_each_day(north: Client) -> None:
    posted(north, body(id=number(1), started_at="2026-01-05T12:00:00Z", outcome="success", total_cost_usd=1))
    posted(north, body(id=number(2), started_at="2026-01-06T12:00:00Z", outcome="failure", total_cost_usd=3))
    found = stats(north, bucket="day")
    assert [(day["start"], day["count"], day["cost_usd"]["sum"]) for day in found["series"]] == [
        ("2026-01-05", 1, 1),
        ("2026-01-06", 1, 3),
    ]
    assert len(stats(north, bucket="week", outcome="success")["series"]) == 1
    assert "series" not in stats(north)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("credit", "credit must be one of checks, phase_outcome, run_outcome, got 'best'."),
        ("bucket", "bucket must be one of day, week, got 'best'."),
    ],
)
def test_an_unknown_rule_or_bucket_is_refused(north: Client, name: str, message: str) -> None:
    response = north.get(f"{PATH}/stats", {name: "best"})
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["message"], error["param"]) == (message, name)
