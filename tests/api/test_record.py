"""POST: what is answered to good bodies and bad ones."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import orjson
import pytest
from django.test import Client

from tests.api.client import ID, JSON, NDJSON, PATH, archive_all, error, exported, ids, listed, post, posted, update
from tests.examples import CAMEL, REFERENCE, body, phase
from trajectories.api import responses
from trajectories.domain.record import SERVER_FIELDS_BYTES
from trajectories.services import quotas

# One record.


def test_the_reference_body_is_answered_as_it_was_sent_with_its_stamps(north: Client) -> None:
    response = post(north, REFERENCE)
    assert response.status_code == 201
    record = response.json()
    responses.StoredTrajectory.model_validate_json(response.content)
    assert {key: record[key] for key in REFERENCE} == REFERENCE
    assert set(record) - set(REFERENCE) == {"id", "recorded_at", "revision", "derived", "warnings"}


def test_the_stored_record_is_where_location_says(north: Client) -> None:
    response = post(north, body())
    assert response["Location"] == f"{PATH}/{response.json()['id']}"
    found = north.get(response["Location"])
    assert found.content == response.content


def test_a_known_id_is_answered_200_and_a_new_one_201(north: Client) -> None:
    assert post(north, body(id=ID)).status_code == 201
    assert post(north, body(id=ID)).status_code == 200
    changed = post(north, body(id=ID, project="p"))
    assert changed.status_code == 200
    assert [record["project"] for record in listed(north)["data"]] == ["p"]


def test_the_cli_gets_json_with_an_id_for_its_own_body(north: Client) -> None:
    first, second = post(north, CAMEL), post(north, CAMEL | {"totalCost": 0.03})
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"]
    assert second.json()["total_cost_usd"] == 0.03


def test_an_exported_record_can_be_posted_back(north: Client) -> None:
    first = post(north, body(id=ID, project="p"))
    back = post(north, first.content)
    assert back.status_code == 200
    assert back.content == first.content


@pytest.mark.parametrize("header", ["Idempotency-Key", "X-Idempotency-Key"])
def test_an_idempotency_key_makes_a_repeat_the_same_record(north: Client, header: str) -> None:
    first, again = (post(north, body(), **{header: "k1"}) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.content == first.content
    assert post(north, body(), **{header: "k2"}).json()["id"] != first.json()["id"]


def test_both_names_of_the_idempotency_key_mean_the_same(north: Client) -> None:
    one, other = (post(north, body(), **{name: "k"}) for name in ("Idempotency-Key", "X-Idempotency-Key"))
    assert one.json()["id"] == other.json()["id"]


def test_an_idempotency_key_has_a_length(north: Client) -> None:
    assert post(north, body(), **{"Idempotency-Key": "k" * 255}).status_code == 201
    refused = error(post(north, body(), **{"Idempotency-Key": "k" * 256}), 400, "invalid_input")
    assert refused.param == "Idempotency-Key"


@pytest.mark.parametrize("content_type", [JSON, "APPLICATION/JSON", "application/json; charset=utf-8"])
def test_the_content_type_may_be_written_in_every_way(north: Client, content_type: str) -> None:
    assert post(north, body(), content_type=content_type).status_code == 201


# Many records.


def ndjson(*lines: bytes) -> bytes:
    return b"\n".join(lines)


def test_a_bad_line_fails_alone_with_its_number_its_status_and_its_error(north: Client) -> None:
    good = orjson.dumps(body(id=ID))
    response = post(north, ndjson(good, b"", b"{", orjson.dumps(body(project=7)), good), content_type=NDJSON)
    assert response.status_code == 200
    answer = responses.RecordedLines.model_validate_json(response.content)
    assert (answer.accepted, answer.refused) == (2, 2)
    assert [(result.line, result.status) for result in answer.results] == [(1, 201), (3, 400), (4, 400), (5, 200)]
    assert [str(result.id) for result in answer.results if result.id] == [ID, ID]
    first, broken, wrong, again = answer.results
    assert broken.error is not None
    assert wrong.error is not None
    assert (broken.error.code, wrong.error.param) == ("invalid_json", "project")
    assert first.revision == again.revision
    assert ids(north) == [ID]


def test_lines_may_end_as_on_windows_and_the_last_needs_no_end(north: Client) -> None:
    line = orjson.dumps(body())
    answer = post(north, line + b"\r\n" + line, content_type=NDJSON).json()
    assert (answer["accepted"], answer["refused"]) == (2, 0)


def test_a_request_of_bad_lines_only_is_still_answered_line_by_line(north: Client) -> None:
    response = post(north, b"{\n[]\n", content_type=NDJSON)
    assert response.status_code == 200
    assert (response.json()["accepted"], response.json()["refused"]) == (0, 2)
    assert ids(north) == []


def test_an_empty_ndjson_request_is_nothing(north: Client) -> None:
    assert post(north, b"", content_type=NDJSON).json() == {"accepted": 0, "refused": 0, "results": []}


@pytest.mark.parametrize(("length", "most"), [(1, 1_000), (256, 1_333), (950, 10_000)])
def test_a_request_may_have_a_thousand_lines_and_one_more_for_each_kib(north: Client, length: int, most: int) -> None:
    blank = b" " * (length - 1) + b"\n"  # counts, and costs nothing
    assert post(north, blank * most, content_type=NDJSON).json()["results"] == []
    lines = ndjson(orjson.dumps(body(request_summary="x"))) + blank * (most + 3)
    error(post(north, lines, content_type=NDJSON), 413, "too_many_lines")
    assert ids(north) == []


def test_lines_after_many_problems_are_not_read_and_can_be_sent_again(north: Client) -> None:
    bad = orjson.dumps(body(**{f"own_{number}": 1 for number in range(499)}))
    good = [orjson.dumps(body(id=str(uuid4()))) for _ in range(2)]
    answer = post(north, ndjson(good[0], *[bad] * 20, good[1], b"", bad), content_type=NDJSON).json()
    assert (answer["accepted"], answer["refused"]) == (1, 22)
    first, *refused, unread, also = answer["results"]
    assert (first["line"], first["status"]) == (1, 201)
    assert {(one["status"], one["error"]["code"]) for one in refused} == {(400, "invalid_input")}
    assert [(one["line"], one["status"], one["error"]["code"]) for one in (unread, also)] == [
        (22, 429, "not_read"),
        (24, 429, "not_read"),
    ]
    assert len(ids(north)) == 1
    assert post(north, ndjson(good[1]), content_type=NDJSON).json()["accepted"] == 1


# Bad requests.


@pytest.mark.parametrize("data", [b"", b"{", b"nonsense", b'{"request_summary": "\xff", "phases": []}', b"{}}"])
def test_malformed_json_is_reported_as_such(north: Client, data: bytes) -> None:
    refused = error(post(north, data), 400, "invalid_json")
    assert refused.type == "invalid_request_error"
    assert "JSON" in refused.message


def test_every_problem_of_a_body_is_reported_with_its_path(north: Client) -> None:
    refused = error(post(north, {"phases": [{"cost_usd": -1}], "projct": "p"}), 400, "invalid_input")
    assert refused.details is not None
    assert [problem.path for problem in refused.details] == [
        "request_summary",
        "phases[0].phase_name",
        "phases[0].cost_usd",
        "projct",
    ]
    assert refused.param == "request_summary"


@pytest.mark.parametrize("value", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_a_number_that_is_none_is_refused(north: Client, value: bytes) -> None:
    refused = error(
        post(north, b'{"request_summary":"x","phases":[],"total_cost_usd":%b}' % value), 400, "invalid_input"
    )
    assert refused.param == "total_cost_usd"


def test_a_refused_key_with_odd_characters_comes_back_as_json(north: Client) -> None:
    refused = error(post(north, body(**{'a"\\\n\0é': 1})), 400, "invalid_input")
    assert refused.param == 'a"\\\n\0é'


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json"],
)
def test_another_content_type_is_refused(north: Client, content_type: str) -> None:
    refused = error(post(north, body(), content_type=content_type), 415, "unsupported_media_type")
    assert NDJSON in refused.message


@pytest.mark.parametrize("whole", ["1000.0", "1e3", "10000e-1"])
@pytest.mark.parametrize(
    "sent",
    [
        '{"request_summary":"x","phases":[],"total_phases":%s}',
        '{"request":"x","phases":[],"outcome":{"success":true,"phasesTotal":%s}}',
    ],
)
def test_a_whole_number_with_a_fraction_or_an_exponent_is_an_integer(north: Client, sent: str, whole: str) -> None:
    response = post(north, (sent % whole).encode())
    assert response.status_code == 201
    assert b'"total_phases":1000,' in response.content


@pytest.mark.parametrize("content_type", [JSON, NDJSON])
def test_a_byte_order_mark_before_the_body_is_ignored(north: Client, content_type: str) -> None:
    response = post(north, b"\xef\xbb\xbf" + orjson.dumps(body(id=ID)), content_type=content_type)
    assert response.status_code in (200, 201)
    assert ids(north) == [ID]


def test_a_parameter_that_post_does_not_know_is_refused(north: Client) -> None:
    response = north.post(f"{PATH}?dry_run=1", orjson.dumps(body()), content_type=JSON)
    assert error(response, 400, "unknown_parameter").param == "dry_run"
    assert ids(north) == []


# Limits.


@pytest.fixture
def limits(settings: Any, trajectories_settings: dict[str, Any]) -> None:
    settings.TRAJECTORIES = trajectories_settings | {
        "MAX_RECORD_BYTES": 1_000,
        "MAX_REQUEST_BYTES": 5_000 + SERVER_FIELDS_BYTES,
    }


def of_length(length: int) -> bytes:
    return orjson.dumps(body(error="e" * (length - len(orjson.dumps(body(error=""))))))


def test_one_body_over_the_limit_is_too_large(north: Client, limits: None) -> None:
    assert post(north, of_length(1_000)).status_code == 201
    too_long = 1_001 + SERVER_FIELDS_BYTES
    refused = error(post(north, of_length(too_long)), 413, "body_too_large")
    assert f"{too_long - 1} bytes" in refused.message


def test_a_request_over_the_limit_is_too_large_and_stores_nothing(north: Client, limits: None) -> None:
    error(post(north, ndjson(*[of_length(900)] * 45), content_type=NDJSON), 413, "body_too_large")
    assert ids(north) == []


def test_a_line_over_the_limit_fails_alone(north: Client, limits: None) -> None:
    response = post(north, ndjson(of_length(1_001 + SERVER_FIELDS_BYTES), of_length(1_000)), content_type=NDJSON)
    large, good = responses.RecordedLines.model_validate_json(response.content).results
    assert (large.status, good.status) == (413, 201)
    assert large.error is not None
    assert large.error.code == "record_too_large"


def test_the_limit_is_not_djangos(north: Client, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10
    assert post(north, body()).status_code == 201


def test_a_full_outbox_takes_nothing_and_says_when_to_come_again(
    north: Client, settings: Any, trajectories_settings: dict[str, Any]
) -> None:
    settings.TRAJECTORIES = trajectories_settings | {"OUTBOX_MAX_BYTES": 200_000}
    before = posted(north, body())
    line = orjson.dumps(body(error="e" * 20_000))
    error(post(north, ndjson(*[line] * 50), content_type=NDJSON), 503, "outbox_full")
    assert ids(north) == [before["id"]]


@pytest.fixture
def full(
    north: Client, settings: Any, trajectories_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """A record of a tenant that has reached its quota of bytes."""
    monkeypatch.setattr(quotas, "_in_thread", lambda look: None)
    settings.TRAJECTORIES = trajectories_settings | {"QUOTA_BYTES": {"*": 1_000}}
    return body(id=posted(north, body(error="e" * 1_000))["id"], error="e" * 1_000)


def test_a_full_tenant_may_post_a_shorter_version_and_no_longer_one(north: Client, full: dict[str, Any]) -> None:
    error(post(north, body()), 403, "quota_exceeded")
    longer = error(post(north, full | {"error": "e" * 1_001}), 403, "quota_exceeded")
    changed = error(update(north, full["id"], {"error": "e" * 1_001}), 403, "quota_exceeded")
    assert longer.message == changed.message
    assert post(north, full | {"error": "f" * 1_000}).status_code == 200
    assert post(north, full | {"error": "short"}).status_code == 200


def test_a_line_of_a_full_tenant_is_refused_alone_if_another_is_accepted(north: Client, full: dict[str, Any]) -> None:
    new, shorter = orjson.dumps(body(id=str(uuid4()))), orjson.dumps(full | {"error": "e" * 999})
    error(post(north, ndjson(new, new), content_type=NDJSON), 403, "quota_exceeded")
    answer = post(north, ndjson(new, shorter), content_type=NDJSON).json()
    assert (answer["accepted"], answer["refused"]) == (1, 1)
    refused, accepted = answer["results"]
    assert (refused["status"], refused["error"]["code"]) == (403, "quota_exceeded")
    assert (accepted["status"], accepted["id"]) == (200, full["id"])


def test_many_bad_lines_get_a_result_each_and_the_first_hundred_a_full_one(north: Client) -> None:
    lines = [b"{}"] * 500 + [orjson.dumps(body())] + [b'{"request_summary": "%b", "phases": 1}' % (b"x" * 20)] * 500
    response = post(north, ndjson(*lines), content_type=NDJSON)
    answer = responses.RecordedLines.model_validate_json(response.content)
    assert (answer.accepted, answer.refused) == (1, 1_000)
    assert [result.line for result in answer.results] == list(range(1, 1_002))
    errors = [result.error for result in answer.results if result.error]
    assert all(error.details and error.message.startswith("request_summary: ") for error in errors[:100])
    assert all(error.code == "invalid_input" and error.message for error in errors)
    assert not any(error.details or error.param or len(error.message) > 60 for error in errors[100:])
    # As long as the results of as many accepted lines, but for what the first hundred say.
    assert len(response.content) < 1_000 * 170 + 100 * 500


@pytest.mark.parametrize("address", [PATH, "/v1/agent/outcomes"])
@pytest.mark.parametrize("line", [b"{}", b"1", b"{", b"[]", b'{"a":1}'])
def test_a_later_bad_line_is_answered_with_no_more_than_the_contract_requires_and_sixty_characters(
    north: Client, address: str, line: bytes
) -> None:
    results = north.post(address, ndjson(*[line] * 1_000), content_type=NDJSON).json()["results"]
    assert len(results) == 1_000
    sizes = [len(orjson.dumps(result)) for result in results]
    required = {"line": 1_000, "status": 400, "error": results[0]["error"] | {"message": ""}}
    for key in ("param", "details"):
        required["error"].pop(key, None)
    assert max(sizes[100:]) <= len(orjson.dumps(required)) + 60 <= 163
    assert sum(sizes[:100]) <= 48 * 2**10


def test_the_errors_of_bad_lines_have_a_limit_of_bytes_too(north: Client) -> None:
    wrong: Any = ["\0"] * 100
    for number in range(60):
        wrong = {f"{number}": wrong}
    line = orjson.dumps(body(metadata=wrong))
    response = post(north, ndjson(*[line] * 97), content_type=NDJSON)
    results = response.json()["results"]
    assert [len(results[at]["error"].get("details", ())) for at in (0, 96)] == [10, 0]
    assert len(response.content) < 64 * 2**10


def test_a_bad_line_tells_its_first_ten_problems(north: Client) -> None:
    line = {"request_summary": "x", "phases": [{"phase_name": "spec", "cost_usd": -1}] * 50}
    (result,) = post(north, orjson.dumps(line), content_type=NDJSON).json()["results"]
    assert len(result["error"]["details"]) == 10
    assert "49 more" in result["error"]["message"]


# Warnings.

CONTRADICTORY: dict[str, Any] = body(id=ID, outcome="success", tests_passed=False)


def codes(answer: Any) -> list[str]:
    return [warning["code"] for warning in answer.get("warnings", ())]


def test_a_contradiction_is_stored_and_reported_for_its_record_only(north: Client) -> None:
    posted_ = post(north, CONTRADICTORY)
    assert (posted_.status_code, codes(posted_.json())) == (201, ["outcome_contradicts_check"])
    assert north.get(f"{PATH}/{ID}").content == posted_.content
    archive_all()
    (exported_,) = exported(north)
    for record in (listed(north)["data"][0], orjson.loads(exported_)):
        assert "warnings" not in record
        assert record["derived"] == posted_.json()["derived"]


def test_a_record_without_a_contradiction_has_no_warnings(north: Client) -> None:
    assert "warnings" not in post(north, body()).json()


def test_a_line_is_answered_with_its_warnings(north: Client) -> None:
    answer = post(north, ndjson(orjson.dumps(body()), orjson.dumps(CONTRADICTORY)), content_type=NDJSON)
    fine, warned = answer.json()["results"]
    responses.RecordedLines.model_validate_json(answer.content)
    assert "warnings" not in fine
    assert (warned["status"], codes(warned)) == (201, ["outcome_contradicts_check"])


def test_warnings_of_many_lines_are_cut(north: Client) -> None:
    phases = [phase(parent_phase_id="none")] * 30
    lines = [orjson.dumps(body(phases=phases))] * 101
    *_, before, last = post(north, ndjson(*lines), content_type=NDJSON).json()["results"]
    assert [len(result["warnings"]) for result in (before, last)] == [10, 10]
    assert before["warnings"][0]["message"].startswith(last["warnings"][0]["message"])
    assert len(last["warnings"][0]["message"]) == 60 < len(before["warnings"][0]["message"])
