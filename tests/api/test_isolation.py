"""Tenants: nothing of one is seen, counted, replaced or hinted at by another, in whichever tier it
is."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from django.test import Client

from tests.api.client import ID, PATH, archive_all, error, exported, ids, listed, number, post, posted, stats
from tests.examples import body


@pytest.fixture(params=[1, 10_000], ids=["archive", "hot"])
def both(request: pytest.FixtureRequest, settings: Any, trajectories_settings: dict[str, Any]) -> None:
    """Every test here twice: out of the hot cache, and mostly out of the archive."""
    settings.TRAJECTORIES = trajectories_settings | {"HOT_MAX_RECORDS": request.param}


pytestmark = pytest.mark.usefixtures("both")


@pytest.mark.parametrize("is_archived", [True, False])
def test_the_same_id_is_a_record_of_each_tenant(north: Client, south: Client, is_archived: bool) -> None:
    ours, theirs = posted(north, body(id=ID, project="ours")), posted(south, body(id=ID, project="theirs"))
    for client in (north, south):
        posted(client, body(id=number(1)))
    if is_archived:
        archive_all()
    assert north.get(f"{PATH}/{ID}").json() == ours
    assert south.get(f"{PATH}/{ID}").json() == theirs
    assert listed(north)["data"][1] == ours
    assert listed(south)["data"][1] == theirs


def test_a_known_id_of_another_tenant_is_new_here(north: Client, south: Client) -> None:
    assert post(north, body(id=ID)).status_code == 201
    archive_all()
    assert post(south, body(id=ID)).status_code == 201


def test_the_same_idempotency_key_is_another_record_for_another_tenant(north: Client, south: Client) -> None:
    ours, theirs = (post(client, body(), **{"Idempotency-Key": "k"}) for client in (north, south))
    assert (ours.status_code, theirs.status_code) == (201, 201)
    assert ours.json()["id"] != theirs.json()["id"]


def test_rows_of_another_tenant_are_answered_like_missing_ones(north: Client, south: Client) -> None:
    for of in (1, 2, 3):
        posted(north, body(id=number(of), project="p"))
    archive_all()
    there, nowhere = south.get(f"{PATH}/{number(1)}"), south.get(f"{PATH}/{ID}")
    assert error(there, 404, "not_found").message.replace(number(1), ID) == error(nowhere, 404, "not_found").message
    assert ids(south) == ids(south, project="p") == []
    found = stats(south)
    assert (found["count"], found["by_project"]) == (0, [])
    assert exported(south) == []


def test_a_cursor_of_another_tenant_shows_none_of_its_records(north: Client, south: Client) -> None:
    for of in (1, 2, 3):
        posted(north, body(id=number(of)))
        posted(south, body(id=number(10 + of)))
    archive_all()
    cursor = listed(north, limit=1)["next_cursor"]
    assert ids(south, cursor=cursor) == [number(12), number(11)]


def test_an_export_cannot_go_on_behind_a_record_of_another_tenant(north: Client, south: Client) -> None:
    posted(north, body(id=ID))
    archive_all()
    there = north.get(f"{PATH}/export", {"after": number(9)})
    theirs = south.get(f"{PATH}/export", {"after": ID})
    message = error(there, 404, "invalid_cursor").message
    assert error(theirs, 404, "invalid_cursor").message.replace(ID, number(9)) == message


def test_replacing_ones_own_leaves_the_others_untouched(north: Client, south: Client) -> None:
    theirs = posted(south, body(id=ID, project="theirs"))
    posted(north, body(id=ID))
    archive_all()
    for _ in range(2):
        posted(north, body(id=ID, project="ours", total_cost_usd=5))
        archive_all()
    assert south.get(f"{PATH}/{ID}").json() == theirs
    assert stats(south)["cost_usd"]["known"] == 0
    assert [orjson.loads(line) for line in exported(south)] == [theirs]


def test_exports_of_two_tenants_are_numbered_by_themselves(north: Client, south: Client) -> None:
    for of in (1, 2):
        posted(north, body(id=number(of)))
        posted(south, body(id=number(of)))
        archive_all()
    for client in (north, south):
        assert [orjson.loads(line)["id"] for line in exported(client)] == [number(1), number(2)]
        assert [orjson.loads(line)["id"] for line in exported(client, after=number(1))] == [number(2)]
