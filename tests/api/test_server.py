"""Behaviour that only a real server shows: bodies that are not read whole, that come in chunks or
slowly, and streams that are cut."""

from __future__ import annotations

import http.client
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import httpx2
import orjson
import pytest

from tests.api.client import JSON, NDJSON, PATH, number
from tests.examples import body
from tests.processes import Site, Web, wait_until
from trajectories.api import responses
from trajectories.domain.record import SERVER_FIELDS_BYTES

MIB = 1024**2


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """One server for all: starting it takes longer than what is tested on it."""
    site = Site.make(tmp_path_factory.mktemp("server") / "site", {})
    try:
        yield site.web()
    finally:
        site.close()


class Wire:
    """An HTTP connection on which a test says every byte itself."""

    def __init__(self, web: Web) -> None:
        url = httpx2.URL(web.url)
        assert url.port
        self.socket = socket.create_connection((url.host, url.port), timeout=20)
        self._authorization = web.http.headers["Authorization"]

    def begin(self, **headers: Any) -> None:
        """The head of a POST."""
        given = {"Host": "127.0.0.1", "Authorization": self._authorization, "Content-Type": JSON} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        lines = [f"POST {PATH} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items()), "", ""]
        self.send("\r\n".join(lines).encode())

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def chunk(self, data: bytes) -> None:
        self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def answer(self) -> tuple[int, Any]:
        response = http.client.HTTPResponse(self.socket, method="POST")
        response.begin()
        return response.status, orjson.loads(response.read())


@contextmanager
def wire(web: Web) -> Iterator[Wire]:
    connection = Wire(web)
    with closing(connection.socket):
        yield connection


def is_too_large(answer: tuple[int, Any]) -> bool:
    status, error = answer
    return status == 413 and responses.ErrorBody.model_validate(error).error.code == "body_too_large"


@pytest.mark.parametrize("body_", [b"x" * 100, b"x" * 60_000, iter([b"x"] * 20)], ids=["small", "large", "chunked"])
def test_a_refusal_that_leaves_the_body_unread_closes_its_connection(web: Web, body_: Any) -> None:
    url = httpx2.URL(web.url)
    connection = http.client.HTTPConnection(url.host, url.port or 0, timeout=20)
    with closing(connection):
        # The server may close before the last chunk is sent.
        with suppress(BrokenPipeError):
            connection.request("POST", PATH, body_, {"Authorization": "Bearer not.known", "Content-Type": JSON})
        response = connection.getresponse()
        assert (response.status, response.getheader("Connection")) == (401, "close")
        assert response.read()


def test_a_body_that_was_read_keeps_its_connection(web: Web) -> None:
    for data, status in ((orjson.dumps(body()), 201), (b"{", 400)):
        with wire(web) as connection:
            for _ in range(3):
                connection.begin(Content_Length=len(data))
                connection.send(data)
                assert connection.answer()[0] == status


@pytest.mark.parametrize(
    ("content_type", "length"), [(JSON, MIB + SERVER_FIELDS_BYTES + 1), (NDJSON, 16 * MIB + 1), (NDJSON, 10**15)]
)
def test_a_body_over_the_limit_is_refused_before_it_is_sent(web: Web, content_type: str, length: int) -> None:
    with wire(web) as connection:
        connection.begin(Content_Type=content_type, Content_Length=length)
        assert is_too_large(connection.answer())


def test_a_body_at_the_limit_is_accepted(web: Web) -> None:
    fill = MIB - len(orjson.dumps(body(error="")))
    assert web.http.post(PATH, json=body(error="e" * fill)).status_code == 201


def test_a_client_that_sends_all_of_a_large_body_gets_its_answer_too(web: Web) -> None:
    # On a connection of its own, which the server closes behind what it has not read.
    with httpx2.Client(base_url=web.url, headers=web.http.headers, trust_env=False) as client:
        answer = client.post(PATH, content=b"x" * 3 * MIB, headers={"Content-Type": JSON})
    assert is_too_large((answer.status_code, answer.json()))


def test_a_chunked_body_is_accepted(web: Web) -> None:
    data = orjson.dumps(body(id=number(1)))
    with wire(web) as connection:
        connection.begin(Transfer_Encoding="chunked")
        connection.chunk(data[:10])
        connection.chunk(data[10:])
        connection.chunk(b"")
        status, record = connection.answer()
    assert (status, record["id"]) == (201, number(1))


def test_chunked_ndjson_is_accepted(web: Web) -> None:
    lines = (orjson.dumps(body(id=number(of))) + b"\n" for of in range(10, 13))
    answer = web.http.post(PATH, content=lines, headers={"Content-Type": NDJSON})
    assert answer.json()["accepted"] == 3


def test_chunks_that_break_off_inside_a_line_take_nothing_of_that_line(web: Web) -> None:
    # The server cannot distinguish the end of a chunked body from a broken connection: docs/security.md.
    with wire(web) as connection:
        connection.begin(Content_Type=NDJSON, Transfer_Encoding="chunked")
        connection.chunk(orjson.dumps(body(project="broken off"))[:-1])
        connection.socket.shutdown(socket.SHUT_WR)
        status, answer = connection.answer()
    assert (status, answer["accepted"], answer["refused"]) == (200, 0, 1)
    assert web.http.get(PATH, params={"project": "broken off"}).json()["data"] == []


def test_a_body_in_chunks_is_answered_once_it_is_over_the_limit(web: Web) -> None:
    with wire(web) as connection:
        connection.begin(Transfer_Encoding="chunked")
        for _ in range(17):
            connection.chunk(b" " * (MIB // 16))
        # Not ended: the answer must not wait for that.
        assert is_too_large(connection.answer())


def test_a_slow_body_is_accepted_and_delays_no_other_client(web: Web) -> None:
    data = orjson.dumps(body(id=number(3)))
    with wire(web) as slow:
        slow.begin(Content_Length=len(data))
        slow.send(data[:10])
        assert web.http.post(PATH, json=body(id=number(2))).status_code == 201
        slow.send(data[10:])
        status, record = slow.answer()
    assert (status, record["id"]) == (201, number(3))


def test_a_body_that_breaks_off_leaves_nothing_behind(web: Web) -> None:
    line = orjson.dumps(body(project="broken off"))
    with wire(web) as connection:
        connection.begin(Content_Type=NDJSON, Content_Length=10 * len(line))
        connection.send(line + b"\n" + line)
        connection.socket.shutdown(socket.SHUT_WR)
        status, error = connection.answer()
    assert (status, responses.ErrorBody.model_validate(error).error.code) == (400, "body_incomplete")
    assert web.http.get(PATH, params={"project": "broken off"}).json()["data"] == []


def test_an_export_that_breaks_off_ends_without_its_final_chunk(site: Site) -> None:
    web, worker = site.web(), site.worker()
    for part in range(3):
        lines = [orjson.dumps(body(id=number(100 * part + of), error="e" * 100_000)) for of in range(100)]
        assert (
            web.http.post(PATH, content=b"\n".join(lines), headers={"Content-Type": NDJSON}).json()["accepted"] == 100
        )
    archived(site, 300)
    worker.stop()

    with web.http.stream("GET", f"{PATH}/export", params={"end": "1"}) as export:
        received = export.iter_bytes()
        assert next(received)
        # 30 MB do not fit into the buffers between here and there, so the server is in the middle.
        with closing(sqlite3.connect(site.data_dir / "db.sqlite3")) as archive:
            archive.execute("ALTER TABLE trajectories_trajectory RENAME TO lost")
        with pytest.raises(httpx2.RemoteProtocolError):
            for _ in received:
                pass


def archived(site: Site, count: int) -> None:
    with closing(sqlite3.connect(site.data_dir / "db.sqlite3")) as archive:
        rows = "SELECT 1 FROM trajectories_trajectory"
        wait_until(lambda: len(archive.execute(rows).fetchall()) == count, what=f"{count} records are archived")
