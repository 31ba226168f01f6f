"""A server in memory, and both halves of the SDK behind one blocking surface, so that each test holds for both."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import anyio.from_thread
import pytest

from trajectory_sdk import AsyncClient, Client
from trajectory_sdk.testing import InMemoryServer


class Blocking:
    """``AsyncClient.trajectories`` as if it were blocking: what is awaited is awaited, what is iterated becomes a list."""

    def __init__(self, client: AsyncClient, portal: anyio.from_thread.BlockingPortal) -> None:
        self._client = client
        self._portal = portal

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args, **named: self._portal.call(self._settled, name, args, named)

    async def _settled(self, name: str, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        outcome = getattr(self._client.trajectories, name)(*args, **named)
        if isinstance(outcome, Awaitable):
            return await outcome
        return [item async for item in outcome]


@pytest.fixture
def server() -> Iterator[InMemoryServer]:
    with InMemoryServer() as server:
        yield server


@pytest.fixture
def client(server: InMemoryServer) -> Client:
    return server.client()


@pytest.fixture(params=["sync", "asyncio", "trio"])
def make_half(request: pytest.FixtureRequest, server: InMemoryServer) -> Iterator[Callable[..., Any]]:
    """``trajectories`` of a client with these options, of each half in turn."""
    if request.param == "sync":
        yield lambda **options: server.client(**options).trajectories
        return
    with anyio.from_thread.start_blocking_portal(request.param) as portal:
        yield lambda **options: Blocking(server.async_client(**options), portal)


@pytest.fixture
def half(make_half: Callable[..., Any]) -> Any:
    """``trajectories`` of a client, of each half in turn."""
    return make_half()


def trajectory(**fields: Any) -> Any:
    """The smallest body, with ``fields``. Any, since not all that tests send is what the types allow."""
    return {"request_summary": "Add auth", "phases": []} | fields


async def slowly(items: Any) -> AsyncIterator[Any]:
    """``items`` out of an asynchronous iterable."""
    for item in items:
        yield item


__all__ = ["AsyncIterable", "Blocking", "slowly", "trajectory"]
