"""The two ends of a slow client. A request while it comes in: when enough of it is there to give it to a thread, and what the thread then reads from;
and an answer that is not read.

Nothing here decides how a request is framed; that is for gunicorn's parser, which reads the same bytes. If the two should
differ, a thread waits for what does not come, within the bounds of ``Source``.
"""

from __future__ import annotations

import errno
import re
import socket
import threading
import time
from typing import Any

MAX_HEAD = 64 * 1024
"""Bytes of a head that are waited for. gunicorn's own limits are below and refuse what is longer, in their own words."""
MAX_BODY = 1024**2
"""Longer bodies are read by a thread, which first looks whether the caller may send one."""

MAX_CHUNKS = 1_000
"""More are followed by a thread: they cost more than their bytes, and here everybody waits."""

_CONTENT_LENGTH = re.compile(rb"\ncontent-length[ \t]*:[ \t]*(\d{1,18})[ \t]*\r", re.IGNORECASE)
_CHUNKED = re.compile(rb"\ntransfer-encoding[ \t]*:", re.IGNORECASE)
_EXPECT = re.compile(rb"\nexpect[ \t]*:", re.IGNORECASE)
_CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]{1,8}")


class Incoming:
    """The bytes of a request that have come, and whether they are enough to begin with it."""

    def __init__(self, data: bytes, deadline: float) -> None:
        self.data = bytearray()
        self.deadline = deadline
        self.is_enough = False
        self._searched = 0
        self._end = 0  # of the whole request, or of what is known of its chunks; 0 until the head is there
        self._is_chunked = False
        self._chunks = 0
        self.take(data)

    def take(self, piece: bytes) -> None:
        self.data += piece
        if not self._end:
            self._look_for_head()
        if self._is_chunked:
            self._follow_chunks()
        elif self._end:
            self.is_enough = len(self.data) >= self._end
        # Too long in any case; who is to say so is the parser, or the view.
        if len(self.data) > MAX_HEAD + MAX_BODY or (not self._end and len(self.data) > MAX_HEAD):
            self.is_enough = True

    def _look_for_head(self) -> None:
        begin = len(self.data) - len(self.data.lstrip(b"\r\n"))
        at = self.data.find(b"\r\n\r\n", max(begin, self._searched - 3))
        self._searched = len(self.data)
        if at < 0:
            return
        head = bytes(self.data[begin : at + 2])
        length = _CONTENT_LENGTH.search(head)
        announced = int(length[1]) if length else 0
        self._is_chunked = _CHUNKED.search(head) is not None
        # Of a long body, and of one whose sender waits to be asked for it, the head alone is enough.
        is_waited_for = announced <= MAX_BODY and not _EXPECT.search(head)
        self._is_chunked = self._is_chunked and is_waited_for
        self._end = at + 4 + (announced if is_waited_for and not self._is_chunked else 0)

    def _follow_chunks(self) -> None:
        while (line := self.data.find(b"\r\n", self._end, self._end + MAX_HEAD)) >= 0:
            size = _CHUNK_SIZE.match(self.data, self._end)
            self._chunks += 1
            if size is None or self._chunks > MAX_CHUNKS:  # not for here to refuse or to follow
                self.is_enough = True
                return
            if int(size[0], 16) == 0:  # what is behind it are trailers, which end as a head does
                self.is_enough = self.data.find(b"\r\n\r\n", line) >= 0
                return
            self._end = line + 2 + int(size[0], 16) + 2


class Source:
    """What the parser of a connection reads from: what has come, and behind it the socket, for which a thread must wait.

    Not all threads may do so at once, and none beyond the deadline of its request.
    """

    def __init__(self, sock: socket.socket, waits: threading.BoundedSemaphore) -> None:
        self._sock = sock
        self._waits = waits
        self._data = b""
        self._at = 0
        self._deadline = 0.0
        self._timeout: float | None = None

    def give(self, incoming: Incoming) -> None:
        self._data, self._at = bytes(incoming.data), 0
        self._deadline = incoming.deadline

    def rest(self) -> bytes:
        """What has come and was not read: the next request of a client that did not wait."""
        rest, self._data, self._at = self._data[self._at :], b"", 0
        return rest

    def gettimeout(self) -> float | None:
        return self._timeout

    def settimeout(self, timeout: float | None) -> None:
        """Of each wait; the deadline holds beside it."""
        self._timeout = timeout

    def recv(self, size: int) -> bytes:
        """At most ``size`` bytes; none at the end of the stream.

        Raises:
            TimeoutError: the deadline has passed.
            BlockingIOError: as many threads wait for a client as may.
        """
        if self._at < len(self._data):
            piece = self._data[self._at : self._at + size]
            self._at += len(piece)
            return piece
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("The request did not come in time.")
        try:
            return self._sock.recv(size, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return self._wait(size, remaining)

    def _wait(self, size: int, remaining: float) -> bytes:
        if not self._waits.acquire(blocking=False):
            # With a timeout gunicorn only drains what nobody wants to read; it then closes instead.
            raise TimeoutError if self._timeout is not None else BlockingIOError("Too many threads wait for clients.")
        try:
            self._sock.settimeout(remaining if self._timeout is None else min(remaining, self._timeout))
            return self._sock.recv(size)
        finally:
            self._sock.settimeout(None)
            self._waits.release()


class ClientSocket(socket.socket):
    """The socket of a client who may read slowly: not all threads may wait for that at once, and none without end."""

    @classmethod
    def of(cls, sock: socket.socket, waits: threading.BoundedSemaphore, timeout_s: float) -> ClientSocket:
        """The same connection; ``sock`` is no longer one. ``timeout_s``: without a byte taken."""
        made = cls(sock.family, sock.type, sock.proto, fileno=sock.detach())
        made._waits, made._timeout_s = waits, timeout_s
        return made

    _waits: threading.BoundedSemaphore
    _timeout_s: float

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """Raises BrokenPipeError where it may not wait, or has waited long enough: gunicorn then closes the connection."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self.send(rest, flags | socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                rest = rest[self._wait_and_send(rest) :]

    def _wait_and_send(self, data: memoryview) -> int:
        if not self._waits.acquire(blocking=False):
            raise BrokenPipeError(errno.EPIPE, "Too many threads wait for clients.")
        try:
            self.settimeout(self._timeout_s)
            return self.send(data)
        except TimeoutError:
            raise BrokenPipeError(errno.EPIPE, "The client has stopped reading.") from None
        finally:
            self.settimeout(None)
            self._waits.release()
