"""Where a client speaks to, with which key, and what of it can be seen."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import Any

import anyio
import httpx2
import pytest
from conftest import trajectory

from trajectories_sdk import AsyncClient, Client, Config
from trajectories_sdk.testing import InMemoryServer

CLIENTS: list[Callable[..., Client | AsyncClient]] = [Client, AsyncClient]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRAJSTORE_BASE_URL", raising=False)
    monkeypatch.delenv("TRAJSTORE_API_KEY", raising=False)


def test_without_anything_it_is_the_local_server_and_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    # Another vendor's product reads the first prefix, and the site's settings have the second.
    for prefix in ("TRAJECTORY", "TRAJECTORIES"):
        monkeypatch.setenv(f"{prefix}_BASE_URL", "https://other.example")
        monkeypatch.setenv(f"{prefix}_API_KEY", "of-another-product")
    assert Config.read() == Config("http://127.0.0.1:8000", None, 30.0, 4, {})


def test_arguments_stand_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAJSTORE_BASE_URL", "https://store.example/base/")
    monkeypatch.setenv("TRAJSTORE_API_KEY", "from-environment\n")
    assert (Config.read().base_url, Config.read().api_key) == ("https://store.example/base", "from-environment")
    given = Config.read(base_url="https://other.example", api_key="given")
    assert (given.base_url, given.api_key) == ("https://other.example", "given")


@pytest.mark.parametrize("make", CLIENTS)
def test_a_client_reads_the_environment_when_it_is_made(
    make: Callable[..., Client | AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAJSTORE_BASE_URL", "https://store.example")
    assert make().config.base_url == "https://store.example"


def test_a_configuration_does_not_change() -> None:
    headers = {"X-Team": "a"}
    config = Config(headers=headers)
    headers["X-Team"] = "b"
    assert config.headers == {"X-Team": "a"}
    with pytest.raises(FrozenInstanceError):
        config.timeout_s = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        config.headers["X-Team"] = "b"  # type: ignore[index]


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": "store.example"},
        {"base_url": "ftp://store.example"},
        {"base_url": "http://"},
        {"base_url": "http://store.example/?a=1"},
        {"base_url": "http://somebody:something@store.example"},
        {"timeout_s": 0},
        {"max_retries": -1},
        {"api_key": "two\nlines"},
        {"api_key": "ключ"},
    ],
    ids=str,
)
def test_an_invalid_setting_raises_at_once_and_quotes_no_key(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be") as raised:
        Client(**wrong)
    assert str(wrong.get("api_key")) not in str(raised.value)


@pytest.mark.parametrize("make", CLIENTS)
def test_the_key_and_headers_are_in_no_repr(make: Callable[..., Client | AsyncClient]) -> None:
    client = make(api_key="only-for-tests", headers={"X-Secret": "only-for-tests"})
    shown = f"{client!r} {client.config!r} {client.trajectories!r} {vars(client)!r}"
    assert "only-for-tests" not in shown
    assert "http://127.0.0.1:8000" in repr(client)


def sent(**options: Any) -> httpx2.Request:
    """A request of a client with these options."""
    seen: list[httpx2.Request] = []

    def keep(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(404)

    with Client(transport=httpx2.MockTransport(keep), max_retries=0, **options) as client, pytest.raises(Exception):  # noqa: B017, PT011
        client.trajectories.stats()
    return seen[0]


def test_a_request_sends_user_agent_key_and_request_id() -> None:
    request = sent(api_key="k", base_url="https://store.example/base")
    assert str(request.url) == "https://store.example/base/v1/agent/trajectories/stats"
    assert request.headers["Authorization"] == "Bearer k"
    assert request.headers["User-Agent"].startswith("trajectories-sdk/")
    assert len(request.headers["X-Request-Id"]) == 32
    assert "Authorization" not in sent().headers


def test_given_headers_are_kept_in_any_case() -> None:
    request = sent(headers={"x-request-id": "mine", "X-Team": "a", "user-agent": "ours"})
    assert (request.headers["X-Request-Id"], request.headers["X-Team"]) == ("mine", "a")
    assert request.headers.get_list("user-agent") == ["ours"]


def test_another_client_on_the_same_connections_has_its_own_options(server: InMemoryServer) -> None:
    client = server.client(headers={"X-Team": "a"})
    other = client.with_options(timeout_s=1, max_retries=0, headers={"X-Build": "7"})
    assert (other.config.timeout_s, other.config.max_retries) == (1, 0)
    assert (client.config.timeout_s, client.config.max_retries) == (30, 4)
    with other:
        other.trajectories.record(trajectory())
    client.trajectories.record(trajectory())
    first, second = server.requests
    assert (first.headers["x-team"], first.headers["x-build"]) == ("a", "7")
    assert "x-build" not in second.headers


def test_a_closed_client_sends_no_request() -> None:
    with Client(transport=httpx2.MockTransport(lambda request: httpx2.Response(200))) as client:
        pass
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.trajectories.stats()


def test_an_awaited_client_is_closed_by_its_context() -> None:
    async def use() -> AsyncClient:
        async with AsyncClient(transport=httpx2.MockTransport(lambda request: httpx2.Response(404))) as client:
            pass
        await client.aclose()
        with pytest.raises(RuntimeError, match="closed"):
            await client.trajectories.stats()
        return client

    anyio.run(use)


def test_a_forked_child_has_connections_of_its_own() -> None:
    client = Client()
    parent = client._driver.http()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, b"same" if client._driver.http() is parent else b"own")
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(read, 10) == b"own"
    assert client._driver.http() is parent
    client.close()
    os.close(read)
    os.close(write)
