"""A client starts whatever the environment says, and works in every event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio
import pytest
from conftest import send_all, trajectory

from trajectories_sdk import APIConnectionError, AsyncClient, Client, NotFoundError, environment
from trajectories_sdk.testing import API_KEY, InMemoryServer

ID = "0c4f0a4e-55a5-4f0d-9f0a-1d2f3a4b5c6d"
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")


class _NotFound(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    connections: set[Any]

    def do_GET(self) -> None:
        self.server.seen.append(self.client_address)  # type: ignore[attr-defined]
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def http_server() -> Iterator[ThreadingHTTPServer]:
    """An HTTP server that answers 404 and keeps connections alive."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _NotFound) as server:
        server.daemon_threads = True
        server.block_on_close = False
        server.seen = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def base_url(http_server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{http_server.server_port}"


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    environment.reset_warnings()


def asked(client: Client) -> None:
    """Send a request, which the server answers."""
    with pytest.raises(NotFoundError):
        client.trajectories.retrieve(ID)


@pytest.mark.parametrize("make", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:1"),
        ("all_proxy", "socks4://127.0.0.1:1"),
        ("HTTP_PROXY", "gopher://secret:word@proxy"),
        ("HTTPS_PROXY", "http://[::1"),
        ("SSL_CERT_FILE", "/nowhere/ca.pem"),
        ("SSLKEYLOGFILE", "/nowhere/keys"),
    ],
)
def test_an_unusable_variable_is_ignored_and_named_once(
    make: Callable[..., Any],
    name: str,
    value: str,
    base_url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv(name, value)
    if name == "SSLKEYLOGFILE":  # httpx2 reads it only with certificates of the environment
        monkeypatch.setenv("SSL_CERT_DIR", str(Path(__file__).parent))
    for _ in range(2):
        client = make(base_url, max_retries=0)
        if isinstance(client, Client):
            asked(client)
            client.close()
        else:
            asyncio.run(_asked(client))
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"{name} is ignored")
    assert "secret" not in caplog.text


def test_a_usable_proxy_is_used_despite_an_unusable_one(base_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", base_url)
    with Client("http://store.invalid", max_retries=0) as client:
        asked(client)  # the proxy answers


def test_an_exempt_host_is_reached_directly(base_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
    with Client(base_url, max_retries=0) as client:
        asked(client)


def test_the_background_starts_where_no_directory_can_be_written(
    server: InMemoryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRAJSTORE_SPOOL_DIR", str(tmp_path / "file" / "spool"))
    with Client(api_key=API_KEY, transport=server) as client, caplog.at_level(logging.WARNING):
        client.trajectories.enqueue(trajectory())
        send_all(client.queue)
    assert "kept in memory" in caplog.text
    assert len(server.records) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("TRAJSTORE_BASE_URL", "store.example"), ("TRAJSTORE_API_KEY", "ключ"), ("TRAJSTORE_BASE_URL", "http://[")],
)
def test_an_invalid_setting_in_the_environment_is_logged_and_raises_nothing(
    name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(name, value)
    client = Client(spool_dir=tmp_path)
    assert name in caplog.text
    assert "ключ" not in caplog.text
    assert client.config.api_key is None
    assert (client.config.base_url == "http://trajstore-base-url.invalid") == (name == "TRAJSTORE_BASE_URL")
    client.close()


# --- Event loops


async def _asked(client: AsyncClient) -> None:
    with pytest.raises(NotFoundError):
        await client.trajectories.retrieve(ID)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_one_client_works_in_one_event_loop_after_the_other(base_url: str, backend: str) -> None:
    client = AsyncClient(base_url, max_retries=0)
    for _ in range(3):
        anyio.run(_asked, client, backend=backend)
    anyio.run(client.aclose, backend=backend)
    with pytest.raises(RuntimeError, match="closed"):
        anyio.run(_asked, client, backend=backend)


def test_one_client_works_in_the_loops_of_many_threads_at_once(base_url: str) -> None:
    client = AsyncClient(base_url, max_retries=0)
    barrier = threading.Barrier(4)
    failures: list[BaseException] = []

    async def both() -> None:
        await _asked(client)
        await anyio.to_thread.run_sync(barrier.wait)
        await _asked(client)

    def work() -> None:
        try:
            asyncio.run(both())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_loop_keeps_its_connection_and_closes_it_at_its_end(http_server: ThreadingHTTPServer, base_url: str) -> None:
    client = AsyncClient(base_url, max_retries=0)
    http_server.seen.clear()  # type: ignore[attr-defined]

    async def twice() -> Any:
        await _asked(client)
        await _asked(client)
        return await client._connections()

    first = asyncio.run(twice())
    assert first.is_closed
    asyncio.run(twice())
    ports = http_server.seen  # type: ignore[attr-defined]
    assert (ports[0] == ports[1], ports[1] == ports[2], ports[2] == ports[3]) == (True, False, True)
    assert len(client._connections._by_loop) == 0


def test_the_pool_of_a_loop_that_was_only_closed_is_dropped(base_url: str) -> None:
    client = AsyncClient(base_url, max_retries=0)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(_asked(client))
    pool = loop.run_until_complete(client._connections())
    loop.run_until_complete(pool.aclose())
    loop.close()
    asyncio.run(_asked(client))
    assert len(client._connections._by_loop) == 0


def test_an_unreachable_proxy_is_an_error_of_the_call_only(base_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with Client(base_url, max_retries=0) as client, pytest.raises(APIConnectionError):
        client.trajectories.retrieve(ID)
