"""Stats, command line, SDK and MCP tools name the model whose work passes its tests."""

from __future__ import annotations

import json
import os
from typing import Any

import anyio
import httpx2
import pytest

from tests.processes import run_python
from tests.sdk import pipeline
from tests.sdk.served import ServedStore
from tests.sdk.ways import COMMAND
from trajectories_mcp.query import query
from trajectories_sdk import AsyncClient, Client

RUNS: list[Any] = list(pipeline.runs())
BY_HAND = pipeline.by_hand(RUNS, "bugfix")


@pytest.fixture(scope="module")
def key(served_store: ServedStore) -> str:
    """A key of the tenant that has the runs."""
    key = served_store.key()
    with Client(served_store.url, key) as client:
        assert client.trajectories.record_many(RUNS).accepted == pipeline.RUNS
    return key


def test_the_fixture_ranks_the_models_by_their_quality() -> None:
    assert sorted(BY_HAND, key=BY_HAND.__getitem__, reverse=True) == list(pipeline.QUALITY)
    for model, rate in BY_HAND.items():
        assert rate == pytest.approx(pipeline.QUALITY[model], abs=0.03)


def best(groups: list[dict[str, Any]], rate: str) -> str:
    return str(max(groups, key=lambda group: group[rate]["low"])["model"])


def test_stats_show_credited_success_next_to_the_phase_outcome(served_store: ServedStore, key: str) -> None:
    found = httpx2.get(
        f"{served_store.url}/v1/agent/trajectories/stats",
        params={"request_type": "bugfix"},
        headers={"Authorization": f"Bearer {key}"},
    ).json()
    groups = [group for group in found["by_phase_model"] if group["phase"] == "implement"]
    assert found["credit_rule"] == "checks"
    assert {group["model"]: group["credited_success_rate"]["rate"] for group in groups} == BY_HAND
    assert {group["success_rate"]["rate"] for group in groups} == {1}
    assert best(groups, "credited_success_rate") == "careful"
    # By its own outcome, the worst model looks best, since it ran most often.
    assert best(groups, "success_rate") == "hasty"
    assert max(groups, key=lambda group: group["value_per_dollar"])["model"] == "careful"


def test_the_sdk_has_both_rates_a_series_and_the_credit_of_each_phase(served_store: ServedStore, key: str) -> None:
    with Client(served_store.url, key) as client:
        found = client.trajectories.stats(request_type="bugfix", bucket="day")
        by_outcome = client.trajectories.stats(request_type="bugfix", credit="phase_outcome")
        sent_back = next(run for run in RUNS if run["feedback_loops"] and run["tests_passed"])
        shown = client.trajectories.retrieve(sent_back["id"])
    groups = {group.model: group for group in found.by_phase_model if group.phase == "implement"}
    assert {model: group.credited_success_rate.rate for model, group in groups.items()} == BY_HAND
    assert {group.credited_success_rate.rate for group in by_outcome.by_phase_model if group.phase == "implement"} == {
        1
    }
    assert sum(day.count for day in found.series or ()) == found.count
    assert shown.derived is not None
    credit = [(one.outcome, one.source) for one in shown.derived.credit.phases]
    assert credit[1:4:2] == [("failure", "feedback_loop"), ("success", "tests_passed")]
    review = next(group for group in found.skips if group.phase == "review")
    assert (review.ran.runs + review.skipped.runs, bool(review.skipped.runs)) == (found.count, True)


def test_the_command_line_shows_both_rates(served_store: ServedStore, key: str) -> None:
    environment = os.environ | {"TRAJSTORE_BASE_URL": served_store.url, "TRAJSTORE_API_KEY": key}
    arguments = [str(COMMAND), "stats", "--request-type", "bugfix", "--bucket", "week"]
    done = run_python(arguments, environment)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("implement ")]
    shown = {row[1]: (row[4], row[6]) for row in rows if row[1] in BY_HAND}
    assert shown == {model: (f"{rate * 100:.1f}%", "100.0%") for model, rate in BY_HAND.items()}
    assert "CREDITED" in done.stdout
    assert "2026-03-02" in done.stdout
    assert any(line.split()[:2] == ["review", "bugfix"] for line in done.stdout.splitlines())


def test_the_mcp_tool_tells_credited_success_and_says_so(served_store: ServedStore, key: str) -> None:
    async def ask(**arguments: Any) -> dict[str, Any]:
        async with AsyncClient(served_store.url, key) as client:
            answer = await query(client, {"show": "stats", "request_type": "bugfix"} | arguments)
            return dict(json.loads(answer.model_dump_json()))

    found = anyio.run(lambda: ask(phase="implement"))
    stats = found["untrusted_data"]["stats"]
    assert stats["groups"][0]["model"] == "careful"
    assert {group["model"]: group["success_rate"]["rate"] for group in stats["groups"]} == pytest.approx(BY_HAND)
    assert {group["success_rate_by_phase_outcome"]["rate"] for group in stats["groups"]} == {1}
    assert stats["credit_rule"] == "checks"
    assert "credit rule checks" in found["summary"]
    assert stats["totals"]["cost_per_success_usd"] > 0
    skips = anyio.run(lambda: ask(group_by="skips"))["untrusted_data"]["stats"]["groups"]
    review = next(group for group in skips if group["phase"] == "review")
    assert review["skipped"]["runs"] > 0
    assert review["ran"]["success_rate"]["low"] is not None
