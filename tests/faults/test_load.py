"""A request that a server read and dropped counts as cut; one that it never read does not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx2
import pytest

from tests.faults.load import JSON, PATH, TracedPost

BODY = b'{"phases":[]}'


def close_unread(connection: socket.socket) -> None:
    connection.recv(1, socket.MSG_PEEK)  # it has arrived


def end_and_close_unread(connection: socket.socket) -> None:
    """As hyper closes an idle connection: the client may see the end of the stream first."""
    connection.recv(1, socket.MSG_PEEK)
    connection.shutdown(socket.SHUT_WR)


def drop_the_request(connection: socket.socket) -> None:
    read_request(connection)


def break_off_in_the_headers(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Le")


def break_off_in_the_body(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 10\r\n\r\nhalf")


def read_request(connection: socket.socket) -> None:
    received = b""
    while not received.endswith(BODY):
        received += connection.recv(65_536)


@contextmanager
def server(end: Callable[[socket.socket], None]) -> Iterator[str]:
    """Yield the address of a server that answers a first request and closes during the second."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                read_request(connection)
                connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
                end(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize(
    ("end", "was_unread"),
    [
        (close_unread, True),
        (end_and_close_unread, True),
        (drop_the_request, False),
        (break_off_in_the_headers, False),
        (break_off_in_the_body, False),
    ],
)
def test_only_an_unread_request_counts_as_unread(
    end: Callable[[socket.socket], None], was_unread: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not was_unread:
        monkeypatch.setattr(TracedPost, "RESET_S", 0.1)  # no reset comes
    with server(end) as url, httpx2.Client(trust_env=False, timeout=30) as http:
        post = TracedPost(http)
        assert post(url, PATH, BODY, JSON).is_success
        with pytest.raises(httpx2.TransportError):
            post(url, PATH, BODY, JSON)
        assert post.was_unread is was_unread
