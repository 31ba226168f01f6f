"""The end of a web process."""

from __future__ import annotations

import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from urllib.parse import urlsplit

from tests.processes import Site, children, wait_until

REQUEST = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


def test_connections_that_wait_to_be_accepted_are_answered_before_a_stopped_server_ends(site: Site) -> None:
    web = site.web()
    (worker,) = children(web.pid)
    address = ("127.0.0.1", urlsplit(web.url).port)
    with ExitStack() as stack:
        # It looks at its listener again only when it has been told to stop.
        os.kill(worker, signal.SIGSTOP)
        waiting = [stack.enter_context(socket.create_connection(address, timeout=30)) for _ in range(20)]
        for connection in waiting:
            connection.sendall(REQUEST)
        os.kill(web.pid, signal.SIGTERM)
        wait_until(lambda: "Handling signal: term" in web.output, what="its master has heard it")
        os.kill(worker, signal.SIGCONT)
        answers = list(stack.enter_context(ThreadPoolExecutor(len(waiting))).map(read_to_its_end, waiting))
    assert {answer.split(b"\r\n")[0] for answer in answers} == {b"HTTP/1.1 200 OK"}
    assert web.wait() == 0


def read_to_its_end(connection: socket.socket) -> bytes:
    # Closed at once, as clients do: the server waits a little for that.
    with connection, connection.makefile("rb") as file:
        return file.read()
