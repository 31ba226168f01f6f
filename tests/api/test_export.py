"""GET of exports: whole or visibly cut, and to be gone on with."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, cast

import orjson
import pytest
from django.db import Error as DatabaseError
from django.http import StreamingHttpResponse
from django.test import Client

from tests.api.client import ID, NDJSON, PATH, archive_all, error, exported, number, post, posted
from tests.examples import body
from trajectories.exceptions import TrajectoriesError
from trajectories.services.ingest import record_many
from trajectories.storage.store import get_store

WithoutTables = Callable[..., AbstractContextManager[None]]


@pytest.fixture
def impatient(settings: Any, trajectories_settings: dict[str, Any]) -> None:
    settings.TRAJECTORIES = trajectories_settings | {"EXPORT_WAIT_S": 0.05}


def post_some(client: Client, count: int = 3) -> list[dict[str, Any]]:
    return [posted(client, body(id=number(of), project=f"p{of % 2}")) for of in range(1, count + 1)]


def end_of(lines: list[bytes]) -> dict[str, Any]:
    """The closing line, held against the lines before it."""
    end: dict[str, Any] = orjson.loads(lines[-1])["end"]
    assert end["count"] == len(lines) - 1
    assert end["sha256"] == hashlib.sha256(b"".join(lines[:-1])).hexdigest()
    return end


# Whole exports.


def test_an_export_has_every_record_as_it_is_stored_oldest_first(north: Client) -> None:
    records = post_some(north)
    archive_all()
    lines = exported(north)
    assert [orjson.loads(line) for line in lines] == records
    assert lines[0] == north.get(f"{PATH}/{records[0]['id']}").content + b"\n"


def test_the_end_line_counts_and_signs_the_lines_before_it(north: Client) -> None:
    records = post_some(north)
    archive_all()
    lines = exported(north, end="1")
    assert lines[:-1] == exported(north, end="0") == exported(north)
    assert end_of(lines)["cursor"] == records[-1]["id"]


def test_an_export_of_nothing_ends_too(north: Client) -> None:
    assert exported(north) == []
    assert end_of(exported(north, end="1"))["cursor"] is None


def test_an_export_of_more_than_a_page_is_whole(north: Client) -> None:
    lines = [orjson.dumps(body(id=number(of))) for of in range(250)]
    post(north, b"\n".join(lines), content_type=NDJSON)
    archive_all()
    found = exported(north, end="1")
    end_of(found)
    assert [orjson.loads(line)["id"] for line in found[:-1]] == [number(of) for of in range(250)]


def test_a_revised_record_keeps_its_place_in_the_export(north: Client) -> None:
    post_some(north)
    archive_all()
    revised = posted(north, body(id=number(1), project="new"))
    archive_all()
    lines = exported(north)
    assert len(lines) == 3
    assert orjson.loads(lines[0]) == revised


def test_posting_an_export_back_changes_no_byte_of_it(north: Client) -> None:
    post_some(north)
    archive_all()
    before = exported(north, end="1")
    assert post(north, b"".join(before[:-1]), content_type=NDJSON).json()["accepted"] == 3
    archive_all()
    assert exported(north, end="1") == before


def test_filters_choose_the_exported_records(north: Client) -> None:
    post_some(north)
    archive_all()
    lines = exported(north, project="p1", end="1")
    assert [orjson.loads(line)["id"] for line in lines[:-1]] == [number(1), number(3)]
    end_of(lines)


@pytest.mark.parametrize("end", ["2", "true", ""])
def test_an_end_that_is_no_flag_is_refused_by_name(north: Client, end: str) -> None:
    assert error(north.get(f"{PATH}/export", {"end": end}), 400, "invalid_parameter").param == "end"


# Going on.


def test_an_export_resumes_behind_the_clients_last_line(north: Client) -> None:
    post_some(north, 5)
    archive_all()
    whole = exported(north)
    for have in range(1, 6):
        rest = exported(north, after=number(have), end="1")
        assert whole[:have] + rest[:-1] == whole
        assert end_of(rest)["cursor"] == number(5)


def test_the_cursor_of_one_export_begins_the_next(north: Client) -> None:
    post_some(north)
    archive_all()
    cursor = end_of(exported(north, end="1"))["cursor"]
    assert exported(north, after=cursor) == []
    assert end_of(exported(north, after=cursor, end="1"))["cursor"] == cursor
    later = posted(north, body())
    archive_all()
    assert [orjson.loads(line) for line in exported(north, after=cursor)] == [later]


def test_one_may_go_on_behind_a_record_that_the_filter_does_not_take(north: Client) -> None:
    post_some(north, 4)
    archive_all()
    assert [orjson.loads(line)["id"] for line in exported(north, after=number(2), project="p1")] == [number(3)]


@pytest.mark.parametrize(("after", "status"), [("nonsense", 400), ("", 400), (ID, 404)])
def test_an_after_that_is_no_exported_record_is_refused_by_name(north: Client, after: str, status: int) -> None:
    assert error(north.get(f"{PATH}/export", {"after": after}), status, "invalid_cursor").param == "after"


# Not before everything is there.


@pytest.mark.usefixtures("impatient")
def test_an_export_that_would_lack_acknowledged_records_is_refused(north: Client) -> None:
    post_some(north)
    error(north.get(f"{PATH}/export"), 503, "export_behind")
    archive_all()
    assert len(exported(north)) == 3


@pytest.mark.usefixtures("impatient")
def test_an_export_does_not_wait_for_rows_of_other_tenants(north: Client, south: Client) -> None:
    post_some(north)
    archive_all()
    post_some(south)
    assert len(exported(north)) == 3


def test_an_export_waits_for_records_in_flight(north: Client) -> None:
    post_some(north, 1)
    rows = get_store().outbox.waiting(0, 10)
    archive_all()
    record_many(get_store(), "north", [orjson.dumps(body(id=number(1)))])
    on_its_way = get_store().outbox.waiting(rows[-1].n, 10)
    # The relay of another thread finds the row in the archive.
    relay = threading.Timer(0.1, lambda: get_store().outbox.settle([row.n for row in on_its_way]))
    relay.start()
    assert len(exported(north)) == 1
    relay.join()


def test_an_export_that_cannot_begin_is_an_error_and_no_broken_stream(
    north: Client, without_tables: WithoutTables
) -> None:
    post_some(north)
    archive_all()
    with without_tables("trajectory"):
        error(north.get(f"{PATH}/export"), 503, "archive_unavailable")


def test_an_export_that_breaks_off_raises_so_that_the_server_cuts_the_connection(
    north: Client, without_tables: WithoutTables
) -> None:
    lines = [orjson.dumps(body(id=number(of))) for of in range(150)]
    post(north, b"\n".join(lines), content_type=NDJSON)
    archive_all()
    response = cast(StreamingHttpResponse, north.get(f"{PATH}/export", {"end": "1"}))
    stream = cast("Iterator[bytes]", response.streaming_content)
    first = next(stream)
    assert b'"end"' not in first
    with without_tables("trajectory"), pytest.raises((DatabaseError, TrajectoriesError)):
        list(stream)
