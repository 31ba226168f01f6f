"""Each answer has an id under which the log knows its request."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import cast
from unittest.mock import patch

import orjson
import pytest
from django.db import DatabaseError
from django.http import StreamingHttpResponse
from django.test import Client

from tests.api.client import JSON, NDJSON, PATH, archive_all, client_of, number, post
from tests.examples import body
from trajectories.api.request_ids import RequestIdFilter
from trajectories.exceptions import TrajectoriesError
from trajectories.services import reads

HEADER = "X-Request-Id"
ANSWERS = {
    "record": ("POST", PATH, JSON, 201),
    "record_many": ("POST", PATH, NDJSON, 200),
    "bad record": ("POST", PATH, "text/plain", 415),
    "list": ("GET", PATH, "", 200),
    "unknown parameter": ("GET", f"{PATH}?colour=red", "", 400),
    "stats": ("GET", f"{PATH}/stats", "", 200),
    "readiness": ("GET", f"{PATH}/readiness", "", 200),
    "export": ("GET", f"{PATH}/export", "", 200),
    "unknown id": ("GET", f"{PATH}/{number(1)}", "", 404),
    "nothing here": ("GET", f"{PATH}/", "", 404),
    "wrong method": ("PUT", PATH, "", 405),
    "document": ("GET", "/v1/openapi.json", "", 200),
    "live": ("GET", "/health/live", "", 200),
    "metrics": ("GET", "/metrics", "", 404),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_callers_id_comes_back_on_every_answer(name: str, north: Client) -> None:
    method, path, content_type, status = ANSWERS[name]
    data = '{"request_summary":"x","phases":[]}' if method == "POST" else ""
    response = north.generic(method, path, data, content_type, headers={HEADER: "Build-7.3_a"})
    assert response.status_code == status
    assert response[HEADER] == "Build-7.3_a"


def test_an_answer_to_an_anonymous_request_has_one_too(db: None) -> None:
    response = client_of("unknown").get(PATH)
    assert response.status_code == 401
    assert len(response[HEADER]) == 32


@pytest.mark.parametrize("given", ["", "a b", "a" * 65, "id=1", "ключ", "a\u2028b", "<script>"])
def test_an_id_that_is_no_short_token_is_replaced(given: str, north: Client) -> None:
    first, second = (north.get(PATH, headers={HEADER: given})[HEADER] for _ in range(2))
    assert len(first) == 32
    assert first.isalnum()
    assert first != second


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Lines as the site writes them, with its filter."""
    handler = logging.StreamHandler(stream := io.StringIO())
    handler.addFilter(RequestIdFilter())
    handler.setFormatter(logging.Formatter("[%(request_id)s] %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    yield stream
    logging.getLogger().removeHandler(handler)


def test_an_internal_error_is_found_by_the_id_of_its_answer(
    north: Client, log: io.StringIO, caplog: pytest.LogCaptureFixture
) -> None:
    with patch.object(reads, "stats_json", side_effect=RuntimeError("lost")):
        response = north.get(f"{PATH}/stats")
    assert response.status_code == 500
    id_ = response[HEADER]
    assert (
        f"[{id_}] trajectories.api.exception_handler: Internal error on GET {PATH}/stats (request {id_})"
        in log.getvalue()
    )
    assert any(f"(request {id_})" in message for message in caplog.messages)


def test_lines_of_django_name_the_request_that_they_are_about(north: Client, log: io.StringIO) -> None:
    north.get(f"{PATH}/{number(1)}", headers={HEADER: "mine"})
    assert f"[mine] django.request: Not Found: {PATH}/{number(1)}" in log.getvalue()
    logging.getLogger("elsewhere").warning("of no request")
    assert "[-] elsewhere: of no request" in log.getvalue()


def test_an_export_that_breaks_off_is_found_by_its_id(
    north: Client, log: io.StringIO, without_tables: Callable[..., AbstractContextManager[None]]
) -> None:
    lines = [orjson.dumps(body(id=number(of))) for of in range(150)]
    post(north, b"\n".join(lines), content_type=NDJSON)
    archive_all()
    response = cast(StreamingHttpResponse, north.get(f"{PATH}/export", headers={HEADER: "mine"}))
    stream = cast("Iterator[bytes]", response.streaming_content)
    next(stream)
    with without_tables("trajectory"), pytest.raises((DatabaseError, TrajectoriesError)):
        list(stream)
    assert "[mine] trajectories.api.views: An export breaks off (request mine):" in log.getvalue()


def test_the_document_names_the_header_of_every_answer(client: Client) -> None:
    document = client.get("/v1/openapi.json").json()
    answers = [
        answer
        for path in document["paths"].values()
        for operation in path.values()
        for answer in operation["responses"].values()
    ]
    assert answers
    assert all(HEADER in answer["headers"] for answer in answers)
