"""List, retrieve, stats and deletion."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from conftest import trajectory

from trajectories_sdk import BadRequestError, Client, ConflictError, NotFoundError
from trajectories_sdk.testing import InMemoryServer


@pytest.fixture
def stored(client: Client) -> list[str]:
    """Summaries, newest first; every other one of the project "a"."""
    bodies = (trajectory(request_summary=f"r{at}", project="a" if at % 2 else "b") for at in range(10))
    client.trajectories.record_many(bodies)
    return [f"r{at}" for at in reversed(range(10))]


def test_iterating_yields_all_pages_newest_first(half: Any, stored: list[str], server: InMemoryServer) -> None:
    before = len(server.requests)
    assert [record.request_summary for record in half.list(limit=3)] == stored
    assert len(server.requests) - before == 4


def test_filters_go_with_each_page(half: Any, stored: list[str]) -> None:
    assert [record.request_summary for record in half.list(limit=2, project="a")] == stored[::2]


def test_nothing_is_asked_before_the_iteration_and_no_page_too_many(
    client: Client, stored: list[str], server: InMemoryServer
) -> None:
    found, before = client.trajectories.list(limit=3), len(server.requests)
    assert len(server.requests) == before
    assert [record.request_summary for record in islice(found, 3)] == stored[:3]
    assert len(server.requests) == before + 1


def test_each_iteration_sends_a_new_request(client: Client, stored: list[str]) -> None:
    found = client.trajectories.list()
    assert len(list(found)) == 10
    client.trajectories.record(trajectory())
    assert len(list(found)) == 11


def test_pages_tell_where_to_go_on(client: Client, stored: list[str]) -> None:
    first = next(client.trajectories.list(limit=4).pages())
    assert (len(first.data), first.has_more, first.complete, first.tiers) == (4, True, True, ["hot"])
    rest = client.trajectories.list(limit=4, cursor=first.next_cursor)
    assert [record.request_summary for record in rest] == stored[4:]


def test_a_server_that_gives_the_same_cursor_again_is_not_asked_for_ever() -> None:
    page = {"data": [], "next_cursor": "c", "has_more": True, "tiers": [], "complete": True}
    client = Client(transport=httpx2.MockTransport(lambda request: httpx2.Response(200, json=page)))
    assert len(list(client.trajectories.list().pages())) == 2


def test_values_of_python_are_filters(half: Any, server: InMemoryServer) -> None:
    at = datetime(2026, 1, 5, tzinfo=UTC)
    half.record(trajectory(build_passed=True, total_cost_usd=0.5, started_at=at))
    half.record(trajectory(build_passed=False))
    found = list(
        half.list(build_passed=True, min_cost_usd=0.25, started_since=at, started_until=at + timedelta(seconds=1))
    )
    assert len(found) == 1
    assert server.requests[-1].query["started_since"] == "2026-01-05T00:00:00Z"
    assert server.requests[-1].query["build_passed"] == "true"


def test_a_filter_that_is_none_is_left_out(half: Any, stored: list[str]) -> None:
    assert len(list(half.list(project=None, outcome=None))) == 10


def test_a_filter_that_the_server_does_not_know_is_its_error(half: Any) -> None:
    with pytest.raises(BadRequestError) as raised:
        list(half.list(colour="red"))
    assert (raised.value.code, raised.value.param) == ("unknown_parameter", "colour")


def test_a_record_is_found_by_its_id(half: Any) -> None:
    recorded = half.record(trajectory())
    assert half.retrieve(recorded.id) == recorded
    assert half.retrieve(str(recorded.id)) == recorded


def test_an_unknown_id_is_not_found(half: Any) -> None:
    with pytest.raises(NotFoundError) as raised:
        half.retrieve(uuid4())
    assert raised.value.param == "id"


@pytest.mark.parametrize("id_", ["", "..", "a/b", "?", "stats", "export"])
def test_an_invalid_id_is_not_found_and_reaches_no_other_endpoint(half: Any, server: InMemoryServer, id_: str) -> None:
    for call in (half.retrieve, half.delete):
        with pytest.raises(NotFoundError):
            call(id_)
    assert server.requests == []


def test_stats_cover_the_records_that_the_filters_match(half: Any) -> None:
    phase = {
        "phase_name": "spec",
        "model": "m",
        "model_selection_method": "thompson",
        "cost_usd": 0.5,
        "outcome": "success",
    }
    half.record(trajectory(project="a", phases=[phase, {"phase_name": "design", "outcome": "skipped"}]))
    half.record(trajectory(project="b", phases=[]))
    stats = half.stats(project="a")
    assert (stats.count, stats.cost_usd.sum, stats.phases.skip_rate) == (1, 0.5, 0.5)
    group = stats.by_phase_model[0]
    assert {(one.phase, one.model, one.selection_method) for one in stats.by_phase_model} == {
        ("spec", "m", "thompson-sampling"),
        ("design", None, None),
    }
    assert group.count == 1
    assert stats.window.from_ is None


def test_deleting_takes_a_dry_run_its_token_and_the_same_filters(half: Any, stored: list[str]) -> None:
    dry = half.delete_matching(dry_run=True, project="a")
    assert dry.count == 5
    with pytest.raises(ConflictError):
        half.delete_matching(token=dry.token, project="b")
    deleted = half.delete_matching(token=dry.token, project="a")
    assert (deleted.deleted, deleted.has_more) == (5, False)
    assert len(list(half.list())) == 5


def test_a_newer_servers_fields_and_words_are_kept(make_half: Callable[..., Any]) -> None:
    newer = {
        "id": str(uuid4()),
        "request_summary": "x",
        "phases": [{"phase_name": "spec", "outcome": "paused", "energy_wh": 3}],
        "outcome": "pending",
        "energy_wh": 5,
        "recorded_at": "2026-01-05T00:00:00Z",
        "revision": 1,
    }
    client = Client(transport=httpx2.MockTransport(lambda request: httpx2.Response(200, json=newer)))
    record = client.trajectories.retrieve(uuid4())
    assert (record.outcome, record.phases[0].outcome) == ("pending", "paused")
    assert json.loads(record.model_dump_json(exclude_none=True)) == newer
