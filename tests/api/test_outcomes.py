"""Late outcomes over HTTP, and in exports."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from django.test import Client

from tests.api.client import ID, JSON, NDJSON, archive_all, client_of, error, exported, issue, number, posted, stats
from tests.examples import body, phase
from trajectories.api import responses
from trajectories.storage.store import get_store

OUTCOMES = "/v1/agent/outcomes"
MERGED = {"name": "merged", "value": True}


def post_outcome(client: Client, fields: Any, *, id_: str | None = ID, content_type: str = JSON, **headers: str) -> Any:
    path = OUTCOMES if id_ is None else f"/v1/agent/trajectories/{id_}/outcomes"
    data = fields if isinstance(fields, bytes) else orjson.dumps(fields)
    return client.post(path, data, content_type=content_type, headers=headers)


def test_an_outcome_is_in_the_record_and_in_the_list_of_outcomes(north: Client) -> None:
    posted(north, body(id=ID))
    first = post_outcome(north, MERGED | {"evidence": {"pr": "12"}})
    assert first.status_code == 201, first.content
    outcome = responses.StoredOutcome.model_validate_json(first.content)
    assert (outcome.name, outcome.value, outcome.source) == ("merged", True, None)
    assert post_outcome(north, MERGED | {"evidence": {"pr": "12"}}).status_code == 200
    listed = north.get(f"/v1/agent/trajectories/{ID}/outcomes").json()
    assert listed == {"data": [first.json()]}
    record = north.get(f"/v1/agent/trajectories/{ID}")
    responses.StoredTrajectory.model_validate_json(record.content)
    assert record.json()["outcomes"] == listed["data"]
    assert posted(north, record.json())["outcomes"] == listed["data"], "a record can be posted back"
    changed = north.patch(f"/v1/agent/trajectories/{ID}", b'{"project":"p"}', content_type="application/json")
    assert changed.json()["outcomes"] == listed["data"]


def test_the_source_is_that_of_the_key_during_a_database_outage(bound_host: None, without_tables: Any) -> None:
    client = client_of(issue(source="ci")[1])
    assert post_outcome(client, MERGED).json()["source"] == "ci"
    get_store()._parts.clear()  # forget the keys of the process
    with without_tables("apikey"):
        assert post_outcome(client, MERGED | {"name": "late"}).json()["source"] == "ci"
    refused = error(post_outcome(client, MERGED | {"source": "me"}), 400, "invalid_input")
    assert refused.param == "source"


def test_a_header_or_a_field_is_the_idempotency_key(north: Client) -> None:
    assert post_outcome(north, MERGED, **{"Idempotency-Key": "k"}).status_code == 201
    assert post_outcome(north, MERGED | {"idempotency_key": "k"}).status_code == 200
    error(post_outcome(north, MERGED | {"value": False}, **{"Idempotency-Key": "k"}), 409, "idempotency_conflict")


def test_outcomes_by_reference_come_one_or_many_at_once(north: Client) -> None:
    posted(north, body(id=ID, external_refs={"commit": "abc"}))
    by_reference = MERGED | {"reference": {"commit": "abc"}}
    assert post_outcome(north, by_reference, id_=None).status_code == 201
    lines = [MERGED | {"trajectory_id": ID}, {"name": "x"}, by_reference]
    answer = post_outcome(north, b"\n".join(map(orjson.dumps, lines)), id_=None, content_type=NDJSON)
    found = responses.RecordedOutcomeLines.model_validate_json(answer.content)
    assert [line.status for line in found.results] == [201, 400, 200]
    assert (found.accepted, found.refused) == (2, 1)
    archive_all()
    assert len(north.get(f"/v1/agent/trajectories/{ID}/outcomes").json()["data"]) == 2


def test_the_errors_of_refused_outcomes_are_full_for_the_first_hundred_at_most_and_then_short(north: Client) -> None:
    many = {f"k{number}": 1 for number in range(7)}
    lines = [orjson.dumps(MERGED | {"trajectory_id": ID, "evidence": many})] * 900
    answer = post_outcome(north, b"\n".join(lines), id_=None, content_type=NDJSON)
    errors = [result["error"] for result in answer.json()["results"]]
    full = [error for error in errors if "details" in error]
    assert len(full) == 100
    assert full == errors[:100]
    assert not [error for error in errors[100:] if len(error["message"]) > 60]
    assert len(answer.content) < 48 * 2**10 + 900 * 180


@pytest.mark.parametrize(
    ("fields", "id_"),
    [
        (MERGED, None),
        (MERGED | {"reference": {"a": "b"}}, ID),
        (MERGED | {"trajectory_id": number(3)}, ID),
        (MERGED | {"reference": {"a": "b"}, "trajectory_id": ID}, None),
        (MERGED | {"reference": {"a": "b", "c": "d"}}, None),
    ],
    ids=["no target", "address and reference", "two ids", "id and reference", "two references"],
)
def test_an_outcome_has_one_target(north: Client, fields: Any, id_: str | None) -> None:
    error(post_outcome(north, fields, id_=id_), 400, "invalid_input")


def test_an_outcome_over_the_limit_is_413(north: Client) -> None:
    error(post_outcome(north, MERGED | {"evidence": {"log": "x" * 17_000}}), 413, "body_too_large")


def test_a_deleted_run_takes_no_outcome(bound_host: None) -> None:
    client = client_of(issue(scopes="record read admin")[1])
    posted(client, body(id=ID))
    client.delete(f"/v1/agent/trajectories/{ID}")
    error(post_outcome(client, MERGED), 409, "deleted")


def test_another_tenant_sees_and_changes_nothing(north: Client, south: Client) -> None:
    posted(north, body(id=ID, external_refs={"commit": "abc"}))
    post_outcome(north, MERGED)
    error(south.get(f"/v1/agent/trajectories/{ID}/outcomes"), 404, "not_found")
    assert post_outcome(south, MERGED | {"name": "theirs"}).status_code == 201
    assert post_outcome(south, MERGED | {"reference": {"commit": "abc"}}, id_=None).status_code == 201
    archive_all()
    assert [one["name"] for one in north.get(f"/v1/agent/trajectories/{ID}/outcomes").json()["data"]] == ["merged"]
    assert stats(south)["late_outcomes"] == []


def test_exports_have_outcomes_with_their_times_and_rewards_by_name(north: Client) -> None:
    phases = [phase(phase_id="1", phase_name="implement"), phase(phase_id="2", phase_name="test")]
    posted(north, body(id=ID, phases=phases))
    for fields in ({"value": False}, {"value": True, "phase_id": "2", "at": "2026-01-05T10:00:00Z"}):
        post_outcome(north, {"name": "kept"} | fields)
    archive_all()
    (record,) = map(orjson.loads, exported(north))
    assert [one["value"] for one in record["outcomes"]] == [False, True]
    plain = [orjson.loads(line) for line in exported(north, format="decisions")]
    assert [[one["value"] for one in row["outcomes"]] for row in plain] == [[False], [False, True]]
    assert plain[1]["outcomes"][1]["at"] == "2026-01-05T10:00:00Z"
    rewarded = [orjson.loads(line) for line in exported(north, format="decisions", reward_outcome="kept")]
    assert [(row["reward"], row["reward_rule"]) for row in rewarded] == [(0.0, "outcome:kept"), (1.0, "outcome:kept")]
    unknown = [orjson.loads(line) for line in exported(north, format="decisions", reward_outcome="other")]
    assert [row["reward"] for row in unknown] == [None, None]
