"""The MCP tools do not reveal whether another tenant's record exists, whichever argument names it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from pytest_django import Settings

from tests.api.client import ID, archive_all, client_of, issue, listed, number, posted
from tests.isolation import api
from tests.trajectory_site.mcp_calls import call, message, query, send
from trajectories_mcp.contract import FILTERS, TRAJECTORY
from trajectories_mcp.query import TOOL

pytestmark = pytest.mark.abuse

HEAD = ("surface", "endpoint", "cases")
NAMES_NOTHING = {"show", "group_by", "limit", "phases_from", "credit"}
_RECORD_IDS = sorted(field for field in TRAJECTORY["properties"] if field.endswith("id"))
_ECHOED = {"id", "cursor"}
_NEW = re.compile(r'[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{4}-\d\d-\d\dT[\d:.]+Z|"revision": \d+|\[request \w+\]')


@pytest.fixture(params=[1, 10_000], ids=["archive", "hot"])
def both(request: pytest.FixtureRequest, settings: Settings, trajectories_settings: dict[str, Any]) -> None:
    """Every case twice: out of the hot cache, and mostly out of the archive."""
    settings.TRAJECTORIES = trajectories_settings | {"HOT_MAX_RECORDS": request.param}


@pytest.fixture
def clients(db: None) -> tuple[Client, Client]:
    """A tenant that has a record, and one that asks for it."""
    return client_of(issue("north")[1]), client_of(issue("south")[1])


@pytest.fixture
def known(clients: tuple[Client, Client], both: None) -> dict[str, api.Values]:
    """Values of every argument, once both have records."""
    north, south = clients
    posted(south, api.SOUTHS)
    posted(north, api.SOUTHS | {"id": number(8)})
    theirs = posted(north, api.NORTHS)
    archive_all()
    return api.values(theirs, listed(north, limit=1)["next_cursor"], token="")


def told(client: Client, tool: str, arguments: dict[str, Any], echoed: str | None) -> str:
    """Return everything a call receives, except the value it sent and what changes each time."""
    result = call(client, tool, arguments)
    text = json.dumps(result.get("structuredContent", result["content"]))
    return _NEW.sub("NEW", text if echoed is None else text.replace(echoed, "VALUE"))


def test_every_argument_is_in_the_matrix() -> None:
    assert TOOL.input_schema["properties"].keys() - NAMES_NOTHING == {*FILTERS, "id", "cursor"}


@pytest.mark.parametrize("name", sorted({*FILTERS, "id", "cursor"}))
def test_data_of_another_tenant_is_not_found(
    name: str, clients: tuple[Client, Client], known: dict[str, api.Values], tabulate: Callable[..., None]
) -> None:
    _, south = clients
    for show in ("runs", "stats") if name in FILTERS else (None,):
        asked = {"show": show} if show else {}
        answers = [
            told(south, "query", asked | {name: value}, value if name in _ECHOED else None) for value in known[name]
        ]
        assert answers[0] == answers[1]
        assert ID not in answers[0]
    tabulate("isolation", HEAD, "MCP", "br_trajectory_query")


@pytest.mark.parametrize("name", sorted({*FILTERS, "id", "cursor"}))
def test_the_same_question_gets_each_tenants_own_answer(
    name: str, clients: tuple[Client, Client], known: dict[str, api.Values]
) -> None:
    """Check that the matrix asks for rows that exist."""
    north, _ = clients
    answer = query(north, **{name: known[name].theirs})
    data = answer["untrusted_data"]
    ids = [run["id"] for run in data.get("runs", [data.get("run")])]
    assert ids == [number(8)] if name == "cursor" else ID in ids


@pytest.mark.parametrize("name", _RECORD_IDS)
def test_an_id_that_another_tenant_uses_can_be_recorded(
    name: str, clients: tuple[Client, Client], known: dict[str, api.Values], tabulate: Callable[..., None]
) -> None:
    north, south = clients
    before = listed(north)["data"]
    run = {"request_summary": "southern words", "phases": []}
    answers = [told(south, "record", run | {name: value}, None) for value in known[name]]
    assert answers[0] == answers[1]
    assert listed(north)["data"] == before
    tabulate("isolation", HEAD, "MCP", "br_trajectory_record")


def test_a_run_of_another_tenant_cannot_be_changed_and_is_404(
    clients: tuple[Client, Client], known: dict[str, api.Values], tabulate: Callable[..., None]
) -> None:
    north, south = clients
    before = listed(north)["data"]
    for more in ({}, {"revision": before[0]["revision"]}):
        changes = more | {"changes": {"request_summary": "southern words"}}
        answers = [told(south, "update", changes | {"id": id_}, id_) for id_ in known["id"]]
        assert answers[0] == answers[1]
        assert ID not in answers[0]
    assert listed(north)["data"] == before
    tabulate("isolation", HEAD, "MCP", "br_trajectory_update")


def test_the_tools_are_described_the_same_to_everybody(
    clients: tuple[Client, Client], known: dict[str, api.Values]
) -> None:
    descriptions = [send(client, message("tools/list")).json() for client in clients]
    assert descriptions[0] == descriptions[1]
    assert not re.search(rf"north|{ID}", str(descriptions))
