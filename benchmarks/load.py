"""A client that loads one route: requests in turn on each connection, or at a fixed rate."""

from __future__ import annotations

import re
import selectors
import socket
import time
from collections import deque
from typing import NamedTuple
from urllib.parse import urlsplit


class Target(NamedTuple):
    """A route, with the key of its tenant; an empty key sends none."""

    url: str
    path: str
    key: str = ""

    def request(self, body: bytes, content_type: str = "application/json") -> bytes:
        head = f"POST {self.path} HTTP/1.1\r\nHost: {urlsplit(self.url).netloc}\r\nContent-Type: {content_type}\r\n"
        head += f"Authorization: Bearer {self.key}\r\n" if self.key else ""
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Answers(NamedTuple):
    """The sorted seconds that each answer took, and those from the first request to the last
    answer."""

    took_s: list[float]
    elapsed_s: float

    @property
    def per_s(self) -> float:
        return len(self.took_s) / self.elapsed_s

    def ms(self, share: float) -> float:
        """Return a percentile in milliseconds; ``share`` from 0 to 1, exclusive."""
        return self.took_s[int(len(self.took_s) * share)] * 1e3


def send(target: Target, body: bytes, *, connections: int, seconds: float, per_s: float | None = None) -> Answers:
    """Send the same POST again and again.

    Without ``per_s`` each connection sends a request as soon as it has the answer to the last one,
    so a slow server is asked less. With it, requests fall due at fixed moments whatever the server
    does, and the time of an answer counts from that moment: a request that waits for a free
    connection counts as slow. All requests that fall due within ``seconds`` are sent.

    Raises:
        SystemExit: an answer is not a 201, or the server closes a connection.
    """
    address, request = urlsplit(target.url), target.request(body)
    selector, took = selectors.DefaultSelector(), []
    idle: deque[socket.socket] = deque()
    for _ in range(connections):
        connection = socket.create_connection((address.hostname, address.port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(connection, selectors.EVENT_READ)
        idle.append(connection)
    since: dict[socket.socket, float] = {}
    received: dict[socket.socket, bytes] = {}
    started = time.perf_counter()
    end, sent = started + seconds, 0
    while True:
        now = time.perf_counter()
        while idle and (due := started + sent / per_s if per_s else now) <= now and due < end:
            connection = idle.popleft()
            since[connection], received[connection] = due, b""
            connection.sendall(request)
            sent, now = sent + 1, time.perf_counter()
        due = started + sent / per_s if per_s else now
        if not since and due >= end:
            break
        wait_s = max(0.0, due - now) if idle and due < end else None
        for key, _ in selector.select(wait_s):
            connection = key.fileobj  # type: ignore[assignment]  # a socket was registered
            if _has_answer(target, connection, received):
                took.append(time.perf_counter() - since.pop(connection))
                idle.append(connection)
    elapsed_s = time.perf_counter() - started
    selector.close()
    for connection in idle:
        connection.close()
    return Answers(sorted(took), elapsed_s)


def _has_answer(target: Target, connection: socket.socket, received: dict[socket.socket, bytes]) -> bool:
    if not (data := connection.recv(65_536)):
        raise SystemExit(f"{target.path} closed a connection")
    received[connection] += data
    if not _is_whole(received[connection]):
        return False
    if not received[connection].startswith(b"HTTP/1.1 201"):
        raise SystemExit(f"{target.path} answered {received[connection][:500]!r}")
    return True


def _is_whole(data: bytes) -> bool:
    head, separator, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    # Without a length, the answer is chunked.
    return bool(separator) and (len(body) >= int(length[1]) if length else body.endswith(b"0\r\n\r\n"))
