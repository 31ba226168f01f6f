"""PATCH: what is answered to a merge patch, and ETags; and POST of a record that lacks stored
phases."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from django.http import HttpResponse
from django.middleware.gzip import GZipMiddleware
from django.test import Client, RequestFactory
from pytest_django import Settings

from tests.api.client import (
    ID,
    JSON,
    MERGE_PATCH,
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
    update,
)
from tests.examples import CAMEL, REFERENCE, body, phase
from trajectories.api import responses
from trajectories.api.throttling import _expected_bytes
from trajectories.domain.record import SERVER_FIELDS_BYTES

PHASES = [phase(phase_id="1", model="a"), phase(phase_name="test", phase_id="2")]


@pytest.fixture
def stored(north: Client) -> dict[str, Any]:
    return posted(north, REFERENCE | {"id": ID, "phases": PHASES})


def patched(client: Client, changes: Any, **headers: str) -> dict[str, Any]:
    """The stored record of a patch that must be accepted."""
    response = update(client, ID, changes, **headers)
    assert response.status_code == 200, response.content
    responses.StoredTrajectory.model_validate_json(response.content)
    record: dict[str, Any] = response.json()
    return record


@pytest.mark.parametrize("content_type", [MERGE_PATCH, JSON, "Application/Merge-Patch+JSON; charset=utf-8"])
def test_a_patch_is_answered_with_the_whole_record_as_it_is_then_read(
    north: Client, stored: dict[str, Any], content_type: str
) -> None:
    response = update(north, ID, {"tests_passed": False, "project": None}, content_type=content_type)
    assert response.status_code == 200
    record = response.json()
    assert (record["tests_passed"], "project" in record, record["phases"]) == (False, False, PHASES)
    assert record["recorded_at"] == stored["recorded_at"]
    assert record["revision"] > stored["revision"]
    read = north.get(f"{PATH}/{ID}")
    assert (read.content, read["ETag"]) == (response.content, response["ETag"])
    archive_all()
    assert exported(north) == [response.content + b"\n"]


def test_one_phase_is_changed_and_one_appended_without_sending_the_others(
    north: Client, stored: dict[str, Any]
) -> None:
    changes = [{"phase_id": "2", "outcome": "failure"}, {"phase_id": "3", "phase_name": "fix"}]
    record = patched(north, {"phases": changes})
    assert record["phases"] == [PHASES[0], PHASES[1] | {"outcome": "failure"}, phase(phase_name="fix", phase_id="3")]
    assert stats(north)["phases"]["count"] == 3
    assert patched(north, {"phases": changes}) == record


def test_an_update_of_nothing_known_is_404_and_of_a_deleted_id_409(north: Client, stored: dict[str, Any]) -> None:
    for id_ in (number(3), "nonsense"):
        error(update(north, id_, {}), 404, "not_found")
    client_of(issue(scopes="admin")[1]).delete(f"{PATH}/{ID}")
    error(update(north, ID, {}), 409, "deleted")
    assert ids(north) == []


def test_every_problem_of_a_patch_is_reported_with_its_path(north: Client, stored: dict[str, Any]) -> None:
    changes = {"request_summary": None, "phases": [{"phase_id": "2", "cost_usd": -1}, {}], "projct": "p"}
    refused = error(update(north, ID, changes), 400, "invalid_input")
    assert refused.details is not None
    assert sorted(problem.path for problem in refused.details) == [
        "phases[0].cost_usd",
        "phases[1]",
        "projct",
        "request_summary",
    ]
    assert north.get(f"{PATH}/{ID}").json() == stored


@pytest.mark.parametrize("content_type", [NDJSON, "text/plain", "application/json-patch+json"])
def test_another_content_type_is_refused(north: Client, stored: dict[str, Any], content_type: str) -> None:
    refused = error(update(north, ID, {}, content_type=content_type), 415, "unsupported_media_type")
    assert MERGE_PATCH in refused.message


def test_a_merge_patch_is_no_record(north: Client) -> None:
    error(post(north, body(), content_type=MERGE_PATCH), 415, "unsupported_media_type")


def test_limits_are_those_of_a_record(north: Client, settings: Settings, trajectories_settings: dict[str, Any]) -> None:
    posted(north, body(id=ID))
    settings.TRAJECTORIES = trajectories_settings | {"MAX_RECORD_BYTES": 1_000}
    error(update(north, ID, {"error": "e" * (1_001 + SERVER_FIELDS_BYTES)}), 413, "body_too_large")
    patched(north, {"error": "e" * 800})
    error(update(north, ID, {"metadata": {"a": "e" * 800}}), 413, "record_too_large")
    assert len(north.get(f"{PATH}/{ID}").content) < 1_000 + SERVER_FIELDS_BYTES


def test_an_update_of_unknown_length_needs_room_in_the_limit_of_bytes() -> None:
    request = RequestFactory().generic("PATCH", f"{PATH}/{ID}")
    request.META.pop("CONTENT_LENGTH", None)
    assert _expected_bytes(request) == 1


# Revisions.


def test_an_etag_is_the_revision_in_quotes_on_every_answer_with_one_record(north: Client) -> None:
    answers = [post(north, body(id=ID)), post(north, body(id=ID, project="p")), update(north, ID, {"project": "q"})]
    answers.append(north.get(f"{PATH}/{ID}"))
    assert [answer["ETag"] for answer in answers] == [f'"{answer.json()["revision"]}"' for answer in answers]
    assert len({answer["ETag"] for answer in answers}) == 3
    assert not north.get(PATH).has_header("ETag")


def test_an_update_with_if_match_needs_an_unchanged_record(north: Client) -> None:
    old = post(north, body(id=ID))["ETag"]
    new = update(north, ID, {"project": "p"}, **{"If-Match": old})["ETag"]
    refused = error(update(north, ID, {"project": "q"}, **{"If-Match": old}), 412, "revision_mismatch")
    assert (refused.type, refused.param) == ("conflict_error", "If-Match")
    assert new.strip('"') in refused.message
    assert north.get(f"{PATH}/{ID}").json()["project"] == "p"
    for matching in ("*", f'"1", {new}', f"W/{new}"):
        assert update(north, ID, {"project": "p"}, **{"If-Match": matching}).status_code == 200


@pytest.mark.parametrize("etag", ['"x"', '""', f'"{"1" * 30}"', '"1"'])
def test_an_etag_of_something_else_matches_nothing(north: Client, stored: dict[str, Any], etag: str) -> None:
    error(update(north, ID, {}, **{"If-Match": etag}), 412, "revision_mismatch")


@pytest.mark.parametrize("etag", ["", "1764028800000000", "'1'"])
def test_an_if_match_that_is_no_etag_is_refused_with_an_example(
    north: Client, stored: dict[str, Any], etag: str
) -> None:
    refused = error(update(north, ID, {}, **{"If-Match": etag}), 400, "invalid_input")
    assert refused.param == "If-Match"
    assert '"1764028800000000"' in refused.message


def test_an_if_match_of_too_many_etags_is_refused(north: Client, stored: dict[str, Any]) -> None:
    refused = error(update(north, ID, {}, **{"If-Match": ",".join(['"1"'] * 2_000)}), 400, "invalid_input")
    assert refused.message == "If-Match may have 4096 characters, got 7999."


def test_the_etag_of_a_compressed_answer_matches_too(north: Client) -> None:
    post(north, body(id=ID, error="e" * 1_000))
    request = RequestFactory(headers={"Accept-Encoding": "gzip"}).get(f"{PATH}/{ID}")
    answer = north.get(f"{PATH}/{ID}")
    compressed = GZipMiddleware(lambda request: HttpResponse()).process_response(request, answer)
    assert compressed["ETag"].startswith("W/")
    patched(north, {"project": "p"}, **{"If-Match": compressed["ETag"]})


# Whole records that lack phases.


def test_a_record_without_its_stored_phases_is_409_with_advice(north: Client, stored: dict[str, Any]) -> None:
    refused = error(post(north, body(id=ID, tests_passed=True)), 409, "phases_would_be_dropped")
    assert (refused.type, refused.param) == ("conflict_error", "phases")
    assert all(word in refused.message for word in ("Send all phases", "PATCH", "?replace=1"))
    assert north.get(f"{PATH}/{ID}").json() == stored
    replaced = north.post(f"{PATH}?replace=1", orjson.dumps(body(id=ID)), content_type=JSON)
    assert (replaced.status_code, replaced.json()["phases"]) == (200, [])
    error(north.post(f"{PATH}?replace=yes", b"{}", content_type=JSON), 400, "invalid_parameter")


def test_lines_that_lack_phases_fail_alone(north: Client, stored: dict[str, Any]) -> None:
    lines = b"\n".join(map(orjson.dumps, [body(id=ID), body(id=number(1)), body(id=ID, phases=[*PHASES, phase()])]))
    answer = responses.RecordedLines.model_validate_json(post(north, lines, content_type=NDJSON).content)
    assert [result.status for result in answer.results] == [409, 201, 200]
    first = answer.results[0].error
    assert first is not None
    assert (first.code, first.param) == ("phases_would_be_dropped", "phases")
    again = north.post(f"{PATH}?replace=1", lines, content_type=NDJSON)
    assert [result["status"] for result in again.json()["results"]] == [200] * 3


def test_the_cli_may_post_a_run_with_fewer_phases(north: Client) -> None:
    assert len(posted(north, CAMEL)["phases"]) == 2
    assert len(posted(north, CAMEL | {"phases": CAMEL["phases"][:1]})["phases"]) == 1
