"""A client's text comes back unchanged and typed as data; error messages cannot act as code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from django.test import Client

from tests.api.client import (
    ID,
    JSON,
    NDJSON,
    PATH,
    archive_all,
    client_of,
    exported,
    issue,
    listed,
    post,
    posted,
    update,
)
from tests.examples import body
from tests.text.injections import INJECTIONS, MODELS, filled, texts
from tests.text.markup import Markup
from trajectories.api import responses
from trajectories.api.openapi import openapi
from trajectories.api.views import PARQUET_TYPE
from trajectories.domain.text import escaped
from trajectories.urls.api import api_urlpatterns


@pytest.fixture
def client(db: None) -> Client:
    return client_of(issue()[1])


@pytest.mark.parametrize("dialect", MODELS)
@pytest.mark.parametrize("name", INJECTIONS)
def test_a_text_comes_back_as_it_was_sent(
    name: str, dialect: str, client: Client, record_property: Callable[[str, Any], None]
) -> None:
    sent = filled(dialect, INJECTIONS[name])
    answer = post(client, sent)
    assert answer.status_code == 201, answer.content
    assert (answer["Content-Type"], answer["X-Content-Type-Options"]) == (JSON, "nosniff")
    stored = answer.json()
    if dialect == "canonical":
        assert {
            key: value
            for key, value in stored.items()
            if key not in ("id", "recorded_at", "revision", "derived", "warnings")
        } == sent
    assert (
        texts(stored).count(INJECTIONS[name]) >= texts(sent).count(INJECTIONS[name]) - 2
    )  # of some the dialect keeps one
    archive_all()
    assert client.get(f"{PATH}/{stored['id']}").json() == stored
    for warning in stored.pop("warnings", ()):
        assert warning["message"] == escaped(warning["message"])
    assert listed(client)["data"] == [stored]
    assert [orjson.loads(line) for line in exported(client)] == [stored]
    record_property("text", ("API", name))


def refusals(client: Client, text: str) -> dict[str, Any]:
    """Requests that are refused and whose refusal may name what was sent."""
    return {
        "unknown key": post(client, body(**{text: 1})),
        "key in free data": post(client, body(metadata={text: 2**60})),
        "key of a map": post(client, body(external_refs={text: 1})),
        "unknown parameter": client.get(PATH, {text: "x"}),
        "filter": client.get(PATH, {"since": text}),
        "outcome": client.get(f"{PATH}/stats", {"outcome": text}),
        "cursor": client.get(PATH, {"cursor": text}),
        "limit": client.get(PATH, {"limit": text}),
        "after": client.get(f"{PATH}/export", {"after": text}),
        "id": client.get(f"{PATH}/{quote(text, safe='')}"),
        "address": client.get(f"/v1/{quote(text, safe='')}"),
        "method": client.generic("P" + text[:3], PATH),
    }


@pytest.mark.parametrize("name", INJECTIONS)
def test_a_refusal_is_json_that_nothing_takes_for_a_page_and_its_message_cannot_act(
    name: str, client: Client, record_property: Callable[[str, Any], None]
) -> None:
    for where, answer in refusals(client, INJECTIONS[name]).items():
        assert 400 <= answer.status_code < 500, (where, answer.content)
        assert (answer["Content-Type"], answer["X-Content-Type-Options"]) == (JSON, "nosniff"), where
        error = responses.ErrorBody.model_validate_json(answer.content).error
        for message in (error.message, *(problem.message for problem in error.details or ())):
            assert message == escaped(message), where
        record_property("text", ("error bodies", name))


def test_a_refused_line_of_ndjson_tells_a_message_that_cannot_act(client: Client) -> None:
    line = orjson.dumps(body(metadata={"\x9b2J\u202e": 2**60}))
    result = post(client, line, content_type=NDJSON).json()["results"][0]
    assert result["error"]["message"] == escaped(result["error"]["message"])
    assert "\\u202e" in result["error"]["message"]


HIDDEN = "spec\u2764\ufe0f\u200d\u034f\u115f\ufe0f\U000e0100\u202e"
SHOWN = "spec\u2764" + HIDDEN[5:].encode("unicode_escape").decode()


def with_phases(*phases: dict[str, Any]) -> dict[str, Any]:
    return body(id=ID, phases=[{"phase_name": HIDDEN} | one for one in phases])


STORED = with_phases({"phase_id": HIDDEN}, {})
WITHOUT_ID = with_phases({"phase_id": "a"}, {})
WITHOUT_NAME = with_phases({"phase_id": HIDDEN}, {"phase_name": "code"})
TWICE = with_phases({"phase_id": HIDDEN}, {"phase_id": HIDDEN})


@pytest.mark.parametrize(
    ("stored", "refused"),
    [
        (STORED, lambda client: post(client, WITHOUT_ID).json()),
        (STORED, lambda client: post(client, WITHOUT_NAME).json()),
        (STORED, lambda client: post(client, orjson.dumps(WITHOUT_NAME), content_type=NDJSON).json()["results"][0]),
        (STORED, lambda client: update(client, ID, {"phases": [{"phase_id": f"a{HIDDEN}"}]}).json()),
        (TWICE, lambda client: update(client, ID, {"phases": [{"phase_id": HIDDEN}]}).json()),
    ],
    ids=["dropped id", "dropped name", "dropped name of a line", "unknown id", "ambiguous id"],
)
def test_a_recorded_text_in_an_error_hides_nothing(
    stored: dict[str, Any], refused: Callable[[Client], Any], client: Client
) -> None:
    posted(client, stored)
    message = refused(client)["error"]["message"]
    assert SHOWN in message
    assert not set(HIDDEN[5:]) & set(message)


def test_a_recorded_text_in_a_warning_hides_nothing(client: Client) -> None:
    (warning,) = posted(client, body(request_type=f"A{HIDDEN}"))["warnings"]
    assert SHOWN in warning["message"]
    assert not set(HIDDEN[5:]) & set(warning["message"])


@pytest.mark.parametrize("name", INJECTIONS)
def test_the_docs_page_takes_nothing_of_its_address_for_more_than_text(
    name: str, client: Client, record_property: Callable[[str, Any], None]
) -> None:
    text = INJECTIONS[name]
    harmless, shown = (client.get("/docs/", {"lang": given}).content.decode() for given in ("harmless", text))
    assert Markup(shown).elements == Markup(harmless).elements
    script = client.get("/docs/", {"script": "", "lang": text, "version": text})
    assert (script["Content-Type"], script["X-Content-Type-Options"]) == ("application/javascript", "nosniff")
    for part in ("<script", "<img", "'", '"', "\u202e", "\x1b", "\x9b", "\u2028"):
        assert part not in script.content.decode().partition("openapi.json?")[2].partition('",')[0], part
    record_property("text", ("docs page", name))


def test_no_answer_is_a_spreadsheet() -> None:
    """A text that a spreadsheet takes for a formula is only dangerous where one opens it: there
    must be no CSV."""
    operations = [one for methods in openapi(api_urlpatterns)["paths"].values() for one in methods.values()]
    answers = [answer for one in operations for answer in one["responses"].values()]
    assert {kind for answer in answers for kind in answer["content"]} == {JSON, NDJSON, PARQUET_TYPE}


def test_an_id_that_is_none_is_answered_without_naming_it(client: Client) -> None:
    assert client.get(f"{PATH}/{quote('<script>')}").json()["error"]["param"] == "id"
    assert client.get(f"{PATH}/{ID}").status_code == 404
