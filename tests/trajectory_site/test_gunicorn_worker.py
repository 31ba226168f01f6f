"""The end of a web process."""

from __future__ import annotations

import os
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from urllib.parse import urlsplit

import pytest

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


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the kernel lets them in until the listener is closed")
def test_a_stopped_server_lets_nobody_in_whom_it_would_not_answer(site: Site) -> None:
    web = site.web()
    (worker,) = children(web.pid)
    address = ("127.0.0.1", urlsplit(web.url).port)
    # It would close its listener, and reset who has connected meanwhile.
    os.kill(worker, signal.SIGSTOP)
    os.kill(web.pid, signal.SIGTERM)
    wait_until(lambda: "Handling signal: term" in web.output, what="its master has heard it")
    wait_until(lambda: not lets_in(address), what="nobody is let in")
    os.kill(worker, signal.SIGCONT)
    assert web.wait() == 0


def test_a_server_that_takes_new_workers_lets_people_in(site: Site) -> None:
    web = site.web()
    before = set(children(web.pid))
    os.kill(web.pid, signal.SIGHUP)
    wait_until(lambda: not before <= set(children(web.pid)), what="the worker of before has ended")
    assert lets_in(("127.0.0.1", urlsplit(web.url).port))
    assert all(web.http.get("/health/live").status_code == 200 for _ in range(20))


def lets_in(address: tuple[str, int | None]) -> bool:
    with suppress(TimeoutError), socket.create_connection(address, timeout=0.3):
        return True
    return False


def read_to_its_end(connection: socket.socket) -> bytes:
    # Closed at once, as clients do: the server waits a little for that.
    with connection, connection.makefile("rb") as file:
        return file.read()
