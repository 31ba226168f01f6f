"""``DELETE``: one trajectory, or what filters find."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import orjson
import pytest
from django.test import Client
from redis import Redis

from tests.api.client import (
    ID,
    NDJSON,
    PATH,
    archive_all,
    client_of,
    error,
    exported,
    ids,
    issue,
    number,
    post,
    posted,
    stats,
)
from tests.examples import body
from trajectories.api import responses
from trajectories.storage.store import get_store


@pytest.fixture
def admin(north: Client, redis_tier: Redis) -> Client:
    """A client of "north" that may delete there."""
    return client_of(issue("north", "admin")[1])


def deleted(client: Client, **parameters: Any) -> dict[str, Any]:
    response = client.delete(PATH, query_params=parameters)
    assert response.status_code == 200, response.content
    answer: dict[str, Any] = response.json()
    return answer


def test_one_is_deleted_and_is_nowhere_any_more(north: Client, admin: Client) -> None:
    posted(north, body(id=ID))
    posted(north, body(id=number(1)))
    archive_all()
    response = admin.delete(f"{PATH}/{ID}")
    assert response.status_code == 200
    answer = responses.DeletedTrajectory.model_validate_json(response.content)
    assert (str(answer.id), answer.removed.outbox, answer.removed.archive) == (ID, 1, 1)
    archive_all()
    assert ids(north) == [number(1)]
    assert stats(north)["count"] == 1
    assert len(exported(north)) == 1
    error(north.get(f"{PATH}/{ID}"), 404, "not_found")


def test_a_deleted_id_is_refused_alone_among_the_lines_of_a_body(north: Client, admin: Client) -> None:
    posted(north, body(id=ID))
    archive_all()
    admin.delete(f"{PATH}/{ID}")
    error(post(north, body(id=ID)), 409, "deleted")
    answer = post(north, b"\n".join(orjson.dumps(body(id=id_)) for id_ in (ID, number(1))), content_type=NDJSON).json()
    assert [result["status"] for result in answer["results"]] == [409, 201]
    assert answer["results"][0]["error"]["code"] == "deleted"
    assert ids(north) == [number(1)]


def test_repeating_is_answered_alike(north: Client, admin: Client) -> None:
    posted(north, body(id=ID))
    archive_all()
    assert [admin.delete(f"{PATH}/{ID}").status_code for _ in range(2)] == [200, 200]


def test_it_takes_a_key_with_the_scope_admin(north: Client, admin: Client) -> None:
    posted(north, body(id=ID))
    error(north.delete(f"{PATH}/{ID}"), 403, "scope_missing")
    error(north.delete(PATH, query_params={"project": "p"}), 403, "scope_missing")
    assert ids(north) == [ID]


def test_records_of_another_tenant_are_not_found(north: Client, south: Client, admin: Client) -> None:
    posted(south, body(id=ID, project="p"))
    archive_all()
    error(admin.delete(f"{PATH}/{ID}"), 404, "not_found")
    error(admin.delete(f"{PATH}/{number(9)}"), 404, "not_found")
    assert deleted(admin, project="p", dry_run=1)["count"] == 0
    assert ids(south) == [ID]


def test_a_part_that_is_away_is_named_and_the_record_is_not_shown_any_more(
    north: Client, admin: Client, without_tables: Callable[..., AbstractContextManager[None]]
) -> None:
    posted(north, body(id=ID))
    archive_all()
    ids(north)
    with without_tables("tombstone"):
        refused = error(admin.delete(f"{PATH}/{ID}"), 503, "deletion_incomplete")
        assert "the archive" in refused.message
        assert ids(north) == []
    assert admin.delete(f"{PATH}/{ID}").json()["removed"]["archive"] == 1


def test_filters_delete_the_records_that_the_dry_run_counted(north: Client, admin: Client) -> None:
    for of in range(3):
        posted(north, body(id=number(of), project="old"))
    posted(north, body(id=number(3), project="new"))
    archive_all()
    dry = deleted(admin, project="old", dry_run=1)
    responses.MatchingTrajectories.model_validate(dry)
    assert dry["count"] == 3
    assert len(ids(north)) == 4
    answer = deleted(admin, project="old", token=dry["token"])
    responses.DeletedTrajectories.model_validate(answer)
    assert (answer["deleted"], answer["has_more"], answer["removed"]["archive"]) == (3, False, 3)
    assert ids(north) == [number(3)]


def test_records_newer_than_the_dry_run_are_kept(north: Client, admin: Client) -> None:
    for of in range(3):
        posted(north, body(id=number(of), project="old"))
    archive_all()
    dry = deleted(admin, project="old", dry_run=1)
    posted(north, body(id=number(2), project="old", tags=["revised"]))
    posted(north, body(id=number(3), project="old"))
    archive_all()
    assert deleted(admin, project="old", token=dry["token"])["deleted"] == 2
    assert set(ids(north)) == {number(2), number(3)}


def test_without_a_filter_nothing_is_deleted(north: Client, admin: Client) -> None:
    posted(north, body(id=ID))
    archive_all()
    error(admin.delete(PATH), 403, "filter_required")
    error(admin.delete(PATH, query_params={"dry_run": "1"}), 403, "filter_required")
    assert ids(north) == [ID]


def test_a_token_is_of_its_filters_its_tenant_and_a_dry_run(north: Client, south: Client, admin: Client) -> None:
    posted(north, body(id=ID, project="old"))
    archive_all()
    token = deleted(admin, project="old", dry_run=1)["token"]
    theirs = deleted(client_of(issue("south", "admin")[1]), project="old", dry_run=1)["token"]
    for project, given in [("new", token), ("old", ""), ("old", "x:y:z"), ("old", theirs), ("old", token[:-1])]:
        error(admin.delete(PATH, query_params={"project": project, "token": given}), 409, "invalid_token")
    assert ids(north) == [ID]


def test_more_than_one_call_deletes_is_said(north: Client, admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trajectories.services.deletion.BATCH", 2)
    monkeypatch.setattr("trajectories.services.deletion.MATCHING_MAX", 2)
    for of in range(5):
        posted(north, body(id=number(of), project="old"))
    archive_all()
    token = deleted(admin, project="old", dry_run=1)["token"]
    answers: list[dict[str, Any]] = []
    while not answers or answers[-1]["has_more"]:
        answers.append(deleted(admin, project="old", token=token))
        archive_all()  # the tombstones, for which the next call waits
    assert [answer["deleted"] for answer in answers] == [2, 2, 1]
    assert not get_store().outbox.waiting(0, 1)
