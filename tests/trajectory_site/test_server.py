"""How the web server stops, and how it replaces its workers."""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from granian import Granian

from tests.api.client import PATH
from tests.processes import Process, Site, Web, children, wait_until
from trajectory_site import server
from trajectory_site.servers import free_port

REQUEST = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
SLOW_POST = b"POST %b HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: %b\r\nContent-Type: application/json\r\n"


def address_of(web: Web) -> tuple[str, int]:
    port = urlsplit(web.url).port
    assert port
    return "127.0.0.1", port


def test_a_request_in_flight_is_answered_before_the_server_stops(site: Site) -> None:
    web = site.web()
    body = b'{"request_summary":"x","phases":[]}'
    head = SLOW_POST % (PATH.encode(), str(web.http.headers["Authorization"]).encode())
    with socket.create_connection(address_of(web), timeout=30) as connection:
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body[:10])
        # A second request, so that the worker has accepted the first for certain.
        assert web.http.get("/health/live").is_success
        os.kill(web.pid, signal.SIGTERM)
        wait_until(lambda: "Shutting down" in web.output, what="the server has the signal")
        connection.sendall(body[10:])
        with connection.makefile("rb") as file:
            assert file.readline().startswith(b"HTTP/1.1 201 ")
    assert web.wait() == 0


@pytest.mark.parametrize("attempt", range(3))
def test_a_busy_server_ends_at_the_first_signal(site: Site, attempt: int) -> None:
    web = site.web()
    with ExitStack() as stack:
        for _ in range(20):
            connection = stack.enter_context(socket.create_connection(address_of(web), timeout=30))
            connection.sendall(REQUEST)
        os.kill(web.pid, signal.SIGTERM)
        assert web.wait(20) == 0  # less than the time after which the server kills its workers


def test_a_killed_worker_is_replaced(site: Site) -> None:
    web = site.web()
    (worker,) = children(web.pid)
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: children(web.pid) not in ([worker], []), what="another worker")
    web.wait_for(web._answers, "the new worker answers")


def test_a_server_on_the_unspecified_ipv6_address_answers_ipv6_and_ipv4(site: Site, tmp_path: Path) -> None:
    with suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        port = free_port()
        arguments = [sys.executable, "-m", "trajectory_site.server", "--host", "::", "--port", str(port)]
        server = Process(arguments, site.environment, tmp_path / "log")
        try:
            for host in ("[::1]", "127.0.0.1"):
                server.wait_for(lambda host=host: answers(f"http://{host}:{port}/health"), f"{host} answers")  # type: ignore[misc]
        finally:
            server.kill()
        return
    pytest.skip("this machine has no IPv6")


def answers(url: str) -> bool:
    with suppress(httpx2.TransportError):
        return httpx2.get(url, trust_env=False).is_success
    return False


def test_sighup_replaces_the_workers(site: Site) -> None:
    web = site.web()
    before = set(children(web.pid))
    os.kill(web.pid, signal.SIGHUP)
    wait_until(lambda: children(web.pid) and not before & set(children(web.pid)), what="the old worker has ended")
    web.wait_for(web._answers, "the new worker answers")


@pytest.mark.parametrize(("given", "expected"), [(None, "3"), ("6", "6")])
def test_the_workers_share_the_memory_of_the_hot_cache(
    given: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAJECTORIES_WEB_PROCESSES", given or "")
    if given is None:
        monkeypatch.delenv("TRAJECTORIES_WEB_PROCESSES")
    monkeypatch.setattr(sys, "argv", ["serve", "--workers", "3"])
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "unused")
    served: list[str] = []
    monkeypatch.setattr(Granian, "serve", lambda self: served.append(os.environ["TRAJECTORIES_WEB_PROCESSES"]))
    server.main()
    assert served == [expected]
