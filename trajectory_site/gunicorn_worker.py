"""The thread worker of gunicorn, that no slow client keeps from its work, and with an end that cuts nobody off."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import suppress
from functools import partial
from selectors import EVENT_READ
from typing import Any

from gunicorn.http import get_parser
from gunicorn.http2 import negotiation
from gunicorn.workers.gthread import ThreadWorker

from trajectories.api import request_ids
from trajectory_site.receiving import ClientSocket, Incoming, Source

MAX_INCOMING_BYTES = 64 * 1024**2
"""Of all requests that are coming in to a process; beyond it, the one that has taken longest goes."""
_PIECE = 64 * 1024
_LINGER_S = 2.0
_MAX_DRAIN = 64 * 1024
"""As gunicorn has them, for a client that still sends when it has been answered: closed at once it might not see the answer."""
_MIN_AGE_S = 1.0
"""Younger connections are not closed to make room for others: a burst is no attack."""
_ERROR = {
    "type": "invalid_request_error",
    "code": "request_timeout",
    "message": "The request did not come in whole within the time that it may take.",
}


def receive_timeout_s() -> float:
    """How long a request may take to come in, from the environment."""
    return float(os.environ.get("RECEIVE_TIMEOUT_S", "30"))


class PatientWorker(ThreadWorker):  # type: ignore[misc]
    """Receives requests in its event loop, and gives them to a thread only when they are there.

    gunicorn's own worker has a thread wait for each client, without end once it has sent a byte: as many slow clients as there
    are threads, and nobody else is answered. Under TLS or HTTP/2 of gunicorn's own, this worker does as that one.
    """

    def init_process(self) -> None:
        self._closing: dict[Any, float] = {}  # connections that were answered, and when they are closed at the latest
        self._incoming: dict[Any, None] = {}  # connections, in the order in which they began
        self._incoming_bytes = 0
        self._timeout_s = receive_timeout_s()
        # One thread in four never waits for a client.
        self._waits = threading.BoundedSemaphore(max(1, self.cfg.threads - max(1, self.cfg.threads // 4)))
        super().init_process()

    def enqueue_req(self, conn: Any) -> None:
        """Called in the event loop, of a connection that is new or on which something has come."""
        if self.cfg.is_ssl or negotiation.prior_knowledge_allowed(self.cfg, conn.client):
            super().enqueue_req(conn)
            return
        if conn.parser is None:
            conn.sock = ClientSocket.of(conn.sock, self._waits, self._timeout_s)
            conn.source = Source(conn.sock, self._waits)
            conn.parser = get_parser(self.cfg, conn.source, conn.client)
            conn.initialized = True
            conn.close = partial(self._close, conn)
        # Of a client that did not wait for an answer the parser may have the next request already.
        rest = conn.parser.unreader.take_buffered()
        conn.incoming = Incoming(rest, time.monotonic() + self._timeout_s)
        self._incoming[conn] = None
        self._incoming_bytes += len(rest)
        conn.sock.setblocking(False)
        if not self._receive(conn):
            self.poller.register(conn.sock, EVENT_READ, partial(self._on_readable, conn))

    def finish_request(self, conn: Any, fs: Any) -> None:
        if conn.parser is not None and hasattr(conn, "source"):
            unreader = conn.parser.unreader
            unreader.unread(unreader.take_buffered() + conn.source.rest())
        super().finish_request(conn, fs)

    def murder_pending(self) -> None:
        """Close what has taken too long, and what has taken longest where there is no room; called on each turn of the loop."""
        super().murder_pending()
        now = time.monotonic()
        while self._incoming:
            conn = next(iter(self._incoming))
            age = self._timeout_s - (conn.incoming.deadline - now)
            is_over = age > self._timeout_s or (not self.alive and not conn.incoming.data and age > _MIN_AGE_S)
            is_full = self.nr_conns >= self.worker_connections and age > _MIN_AGE_S
            if not (is_over or is_full or self._incoming_bytes > MAX_INCOMING_BYTES):
                break
            self._give_up(conn)
        while self._closing and next(iter(self._closing.values())) < now:
            self._end(next(iter(self._closing)))

    def _on_readable(self, conn: Any, sock: Any) -> None:
        self.poller.unregister(sock)
        if not self._receive(conn):
            self.poller.register(sock, EVENT_READ, partial(self._on_readable, conn))

    def _receive(self, conn: Any) -> bool:
        """Take what has come. Whether the connection was given to a thread, or closed."""
        while not conn.incoming.is_enough:
            try:
                piece = conn.sock.recv(_PIECE)
            except BlockingIOError:
                return False
            except OSError:
                piece = b""
            if not piece:
                break
            conn.incoming.take(piece)
            self._incoming_bytes += len(piece)
        self._forget(conn)
        if conn.incoming.data:  # of one that has ended early the view says that it broke off
            conn.source.give(conn.incoming)
            super().enqueue_req(conn)
        else:
            self.nr_conns -= 1
            conn.close()
        return True

    def _forget(self, conn: Any) -> None:
        del self._incoming[conn]
        self._incoming_bytes -= len(conn.incoming.data)

    def _give_up(self, conn: Any) -> None:
        self.poller.unregister(conn.sock)
        self._forget(conn)
        if conn.incoming.data:
            id_ = request_ids.new_id()
            self.log.info("A request did not come in whole in time (request %s)", id_)
            with suppress(OSError):
                conn.sock.send(_timed_out(id_))
        self.nr_conns -= 1
        conn.close(graceful=bool(conn.incoming.data))

    def _close(self, conn: Any, graceful: bool = False) -> None:
        """In place of a connection's own, which has the event loop wait for a client to close its side."""
        with suppress(OSError):
            if not graceful:
                conn.sock.close()
                return
            conn.sock.shutdown(socket.SHUT_WR)
            conn.sock.setblocking(False)
            self.poller.register(conn.sock, EVENT_READ, partial(self._drain, conn))
            self._closing[conn] = time.monotonic() + _LINGER_S
            conn.to_drain = _MAX_DRAIN
            self.nr_conns += 1  # the end of the process waits for it too

    def _drain(self, conn: Any, sock: Any) -> None:
        try:
            piece = sock.recv(_PIECE)
        except OSError:
            piece = b""
        conn.to_drain -= len(piece)
        if not piece or conn.to_drain <= 0:
            self._end(conn)

    def _end(self, conn: Any) -> None:
        self.poller.unregister(conn.sock)
        del self._closing[conn]
        self.nr_conns -= 1
        conn.sock.close()


def _timed_out(id_: str) -> bytes:
    body = json.dumps({"error": _ERROR})
    head = f"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}{request_ids.HEADER}: {id_}\r\nConnection: close\r\n\r\n{body}".encode()


class DrainingWorker(PatientWorker):
    """Told to stop, it first takes the connections that wait to be accepted, and closes its listeners at once.

    gunicorn's own worker leaves them waiting until it has finished everything else, and closing then resets them; that is
    its open issue 3397. Nobody comes between the last look and the closing: see ``gunicorn_conf.when_ready``.
    """

    def set_accept_enabled(self, enabled: bool) -> None:
        super().set_accept_enabled(enabled)
        if not self.alive:
            for listener in self.sockets:
                while self._accepts(listener):
                    pass
                listener.close()

    def _accepts(self, listener: object) -> bool:
        before: int = self.nr_conns
        self.accept(listener)
        return bool(self.nr_conns > before)
