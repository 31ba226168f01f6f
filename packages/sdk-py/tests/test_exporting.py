"""Exports: complete and verified, or not there."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from conftest import trajectory
from hypothesis import given, settings
from hypothesis import strategies as st

from trajectories_sdk import (
    APIConnectionError,
    Client,
    ExportBrokenError,
    Exported,
    ExportProgress,
    NotFoundError,
    ServiceUnavailableError,
)
from trajectories_sdk.exporting import MAX_REMEMBERED
from trajectories_sdk.testing import InMemoryServer

COUNT = 100


@pytest.fixture
def stored(server: InMemoryServer) -> bytes:
    """The expected export of everything."""
    server.client().trajectories.record_many(
        trajectory(request_summary=f"r{at}", project="a" if at % 2 else "b") for at in range(COUNT)
    )
    return whole(server)


def whole(server: InMemoryServer) -> bytes:
    file = io.BytesIO()
    server.client().trajectories.export_jsonl(file)
    return file.getvalue()


def ids(data: bytes) -> list[UUID]:
    return [UUID(json.loads(line)["id"]) for line in data.splitlines()]


def exported(data: bytes) -> Exported:
    return Exported(data.count(b"\n"), hashlib.sha256(data).hexdigest(), ids(data)[-1])


def exports(server: InMemoryServer) -> list[Any]:
    return [seen for seen in server.requests if seen.path.endswith("/export")]


def test_an_export_into_a_file_is_all_lines_and_their_hash(half: Any, stored: bytes) -> None:
    file = io.BytesIO()
    assert half.export_jsonl(file) == exported(stored)
    assert stored.count(b"\n") == COUNT
    assert file.getvalue() == stored


def test_an_export_under_a_name_is_there_when_it_is_complete(half: Any, stored: bytes, tmp_path: Path) -> None:
    assert half.export_jsonl(tmp_path / "out.jsonl") == exported(stored)
    assert half.export_jsonl(str(tmp_path / "out.jsonl")) == exported(stored)
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]
    assert (tmp_path / "out.jsonl").read_bytes() == stored


def test_records_can_be_iterated_in_the_order_in_which_they_came(half: Any, stored: bytes) -> None:
    assert [record.id for record in half.iter_export()] == ids(stored)
    assert [record.request_summary for record in half.iter_export(project="a")][:2] == ["r1", "r3"]


def test_an_export_of_nothing_is_an_empty_file(half: Any, tmp_path: Path) -> None:
    assert half.export_jsonl(tmp_path / "out.jsonl") == Exported(0, hashlib.sha256(b"").hexdigest(), None)
    assert (tmp_path / "out.jsonl").read_bytes() == b""


def test_an_export_can_continue_another(half: Any, stored: bytes, tmp_path: Path) -> None:
    before = half.export_jsonl(io.BytesIO())
    assert half.export_jsonl(io.BytesIO(), after=before.cursor) == Exported(
        0, hashlib.sha256(b"").hexdigest(), before.cursor
    )
    later = half.record(trajectory())
    assert [record.id for record in half.iter_export(after=str(before.cursor))] == [later.id]


# Cuts.


def test_an_export_resumes_automatically_after_each_cut(half: Any, server: InMemoryServer, stored: bytes) -> None:
    for after_bytes in (0, 1, 5_000, 4_000):
        server.cut_next_export(after_bytes=after_bytes)
    server.fail_next(503, times=2)
    file = io.BytesIO()
    assert half.export_jsonl(file) == exported(stored)
    assert file.getvalue() == stored
    lines = stored[:5_000].count(b"\n")
    assert [seen.query.get("after") for seen in exports(server)[-3:-1]] == [None, str(ids(stored)[lines - 1])]


def test_a_cut_does_not_show_in_an_iteration(half: Any, server: InMemoryServer, stored: bytes) -> None:
    server.cut_next_export(after_bytes=5_000)
    server.cut_next_export(after_bytes=0)
    assert [record.id for record in half.iter_export()] == ids(stored)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 12_000), max_size=4), st.booleans())
def test_wherever_it_is_cut_an_export_is_the_same(cuts: list[int], has_filter: bool) -> None:
    filters: Any = {"project": "a"} if has_filter else {}
    with InMemoryServer() as server:
        trajectories = server.client().trajectories
        trajectories.record_many(trajectory(project="a" if at % 3 else "b", error="é" * at) for at in range(40))
        expected = io.BytesIO()
        complete = trajectories.export_jsonl(expected, **filters)
        for cut in cuts:
            server.cut_next_export(after_bytes=cut)
        file = io.BytesIO()
        assert trajectories.export_jsonl(file, **filters) == complete
        assert file.getvalue() == expected.getvalue()


def test_an_end_without_an_end_line_is_a_cut(half: Any, server: InMemoryServer, stored: bytes) -> None:
    class EndsEarly(httpx2.BaseTransport):
        answers = 0

        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            self.answers += 1
            response = server.handle_request(request)
            if self.answers > 1:
                return response
            return httpx2.Response(200, content=response.read()[:5_000])

    client = server.client()
    through_proxy = Client(client.config.base_url, client.config.api_key, transport=EndsEarly())
    through_proxy._driver.sleep = lambda seconds: None
    file = io.BytesIO()
    assert through_proxy.trajectories.export_jsonl(file) == exported(stored)
    assert file.getvalue() == stored


def test_an_export_without_progress_gives_up(
    make_half: Callable[..., Any], server: InMemoryServer, stored: bytes
) -> None:
    for _ in range(10):
        server.cut_next_export(after_bytes=0)
    with pytest.raises(APIConnectionError):
        make_half(max_retries=2).export_jsonl(io.BytesIO())
    assert len(exports(server)) == 4  # and the one of the fixture


def test_an_export_with_progress_does_not_give_up(
    make_half: Callable[..., Any], server: InMemoryServer, stored: bytes
) -> None:
    for _ in range(20):
        server.cut_next_export(after_bytes=500)
    file = io.BytesIO()
    make_half(max_retries=1).export_jsonl(file)
    assert file.getvalue() == stored


def test_a_record_that_is_deleted_where_the_export_was_cut_ends_nothing(
    half: Any, server: InMemoryServer, stored: bytes
) -> None:
    server.cut_next_export(after_bytes=5_000)
    last = ids(stored[: stored.rindex(b"\n", 0, 5_000) + 1])[-5:]

    def delete(progress: ExportProgress) -> None:
        if progress.count and last:
            for _ in range(len(last)):
                server._store.delete(last.pop())

    file = io.BytesIO()
    assert half.export_jsonl(file, progress=delete) == exported(stored)
    assert file.getvalue() == stored


def test_where_all_that_is_remembered_is_deleted_no_line_comes_twice(server: InMemoryServer) -> None:
    client = server.client()
    count = MAX_REMEMBERED + 50
    client.trajectories.record_many(trajectory() for _ in range(count + 10))
    everything = whole(server)
    begin = sum(len(line) for line in everything.splitlines(keepends=True)[:count])
    server.cut_next_export(after_bytes=begin)

    def delete(progress: ExportProgress) -> None:
        if progress.count == count:
            for id_ in ids(everything)[:count]:
                server._store.delete(id_)

    with pytest.raises(NotFoundError) as raised:
        client.trajectories.export_jsonl(io.BytesIO(), progress=delete)
    assert raised.value.code == "invalid_cursor"


# Differences.


def answering(*bodies: bytes) -> Client:
    """A client whose exports are answered with these, one after another."""
    left = list(bodies)
    transport = httpx2.MockTransport(lambda request: httpx2.Response(200, content=left.pop(0)))
    client = Client(transport=transport, max_retries=0)
    client._driver.sleep = lambda seconds: None
    return client


LINE = b'{"id":"29243fa3-f296-5e3b-9266-7052b77cbfe9","request_summary":"x","phases":[],"recorded_at":"2026-01-05T00:00:00Z","revision":1}\n'


def end(count: int, sha256: str) -> bytes:
    return (
        json.dumps({"end": {"count": count, "cursor": None, "sha256": sha256}}, separators=(",", ":")).encode() + b"\n"
    )


GOOD_END = end(1, hashlib.sha256(LINE).hexdigest())
BROKEN = {
    "a line too few": end(2, hashlib.sha256(LINE + LINE).hexdigest()),
    "another byte": end(1, hashlib.sha256(LINE.replace(b'"x"', b'"y"')).hexdigest()),
    "an end that cannot be read": b'{"end":{"count":1}}\n',
    "a line behind the end": GOOD_END + LINE,
    "two ends": GOOD_END + GOOD_END,
    "a line that is no record": b"<html>\n" + GOOD_END,
    "a record without an id": b'{"request_summary":"x"}\n' + GOOD_END,
    "an empty line": b"\n" + GOOD_END,
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_mismatch_is_an_error_and_leaves_no_file(name: str, tmp_path: Path) -> None:
    client = answering(LINE + BROKEN[name])
    with pytest.raises(ExportBrokenError):
        client.trajectories.export_jsonl(tmp_path / "out.jsonl")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ExportBrokenError):
        list(answering(LINE + BROKEN[name]).trajectories.iter_export())


def test_the_same_lines_with_their_own_end_are_good() -> None:
    assert answering(LINE + GOOD_END).trajectories.export_jsonl(io.BytesIO()).count == 1


def test_the_end_of_a_response_behind_a_cut_is_of_that_response_alone() -> None:
    other = LINE.replace(b"bfe9", b"bfe0")
    file = io.BytesIO()
    client = answering(LINE + b'{"id":"2924', other + end(1, hashlib.sha256(other).hexdigest())).with_options(
        max_retries=1
    )
    assert client.trajectories.export_jsonl(file) == exported(LINE + other)
    of_both = end(2, hashlib.sha256(LINE + other).hexdigest())
    with pytest.raises(ExportBrokenError):
        answering(LINE, other + of_both).with_options(max_retries=1).trajectories.export_jsonl(io.BytesIO())


# Parts that an earlier process has left.


def broken_off(server: InMemoryServer, path: Path, *, after_bytes: int = 5_000, **filters: Any) -> Path:
    """The part of an export that was cut and not gone on with."""
    server.cut_next_export(after_bytes=after_bytes)
    with pytest.raises(APIConnectionError):
        server.client(max_retries=0).trajectories.export_jsonl(path, **filters)
    (part,) = path.parent.glob("*.part")
    assert not path.exists()
    return part


def test_a_later_call_resumes_where_the_earlier_one_stopped(
    half: Any, server: InMemoryServer, stored: bytes, tmp_path: Path
) -> None:
    part = broken_off(server, tmp_path / "out.jsonl")
    kept = part.read_bytes()
    assert stored.startswith(kept)
    assert half.export_jsonl(tmp_path / "out.jsonl") == exported(stored)
    assert exports(server)[-1].query["after"] == str(ids(kept)[-1])
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]
    assert (tmp_path / "out.jsonl").read_bytes() == stored


@pytest.mark.parametrize("tail", [b'{"id":"2924', b"\x00" * 50, b"\x00" * 50 + b"\n" + LINE, b"\n", LINE[:-1]])
def test_half_a_line_at_the_end_of_a_part_is_dropped(
    half: Any, server: InMemoryServer, stored: bytes, tmp_path: Path, tail: bytes
) -> None:
    part = broken_off(server, tmp_path / "out.jsonl")
    part.write_bytes(part.read_bytes() + tail)
    assert half.export_jsonl(tmp_path / "out.jsonl") == exported(stored)
    assert (tmp_path / "out.jsonl").read_bytes() == stored


def test_a_part_of_other_filters_is_left_alone(
    half: Any, server: InMemoryServer, stored: bytes, tmp_path: Path
) -> None:
    part = broken_off(server, tmp_path / "out.jsonl", project="b")
    assert half.export_jsonl(tmp_path / "out.jsonl") == exported(stored)
    assert part.exists()


def test_one_may_begin_again_in_place_of_going_on(
    half: Any, server: InMemoryServer, stored: bytes, tmp_path: Path
) -> None:
    broken_off(server, tmp_path / "out.jsonl")
    assert half.export_jsonl(tmp_path / "out.jsonl", resume=False) == exported(stored)
    assert "after" not in exports(server)[-1].query
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


def test_an_export_that_fails_leaves_the_earlier_file_as_it_was(
    make_half: Callable[..., Any], server: InMemoryServer, stored: bytes, tmp_path: Path
) -> None:
    (tmp_path / "out.jsonl").write_bytes(b"earlier")
    server.fail_next(503)
    with pytest.raises(ServiceUnavailableError):
        make_half(max_retries=0).export_jsonl(tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_bytes() == b"earlier"


# The rest.


def test_progress_tells_lines_bytes_and_how_often_it_went_on(half: Any, server: InMemoryServer, stored: bytes) -> None:
    server.cut_next_export(after_bytes=5_000)
    told: list[ExportProgress] = []
    half.export_jsonl(io.BytesIO(), progress=told.append)
    assert told[0] == ExportProgress(0, 0, 0)
    assert told[-1] == ExportProgress(COUNT, len(stored), 1)
    assert [one.count for one in told] == sorted(one.count for one in told)


def test_an_exception_of_the_progress_callback_ends_the_export(half: Any, stored: bytes, tmp_path: Path) -> None:
    def stop(progress: ExportProgress) -> None:
        if progress.count:
            raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        half.export_jsonl(tmp_path / "out.jsonl", progress=stop)
    assert not (tmp_path / "out.jsonl").exists()


def test_a_text_file_is_refused_at_once(half: Any, server: InMemoryServer) -> None:
    with pytest.raises(TypeError, match="binary"):
        half.export_jsonl(io.StringIO())
    assert exports(server) == []


def test_an_after_that_is_no_id_is_refused_at_once(half: Any, server: InMemoryServer) -> None:
    with pytest.raises(ValueError, match="UUID"):
        half.export_jsonl(io.BytesIO(), after="nonsense")
    with pytest.raises(NotFoundError):
        half.export_jsonl(io.BytesIO(), after=uuid4())


def test_an_iteration_that_is_left_closes_its_connection(server: InMemoryServer, stored: bytes) -> None:
    closed = []

    class Watched(httpx2.BaseTransport):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            response = server.handle_request(request)
            inner = response.stream

            class Stream(httpx2.SyncByteStream):
                def __iter__(self) -> Any:
                    return iter(inner)  # type: ignore[arg-type]

                def close(self) -> None:
                    closed.append(True)

            return httpx2.Response(200, stream=Stream())

    client = Client("http://store.example", server.client().config.api_key, transport=Watched())
    records = client.trajectories.iter_export()
    next(records)
    assert not closed
    records.close()  # type: ignore[attr-defined]
    del records
    assert closed
