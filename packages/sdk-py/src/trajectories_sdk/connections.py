"""HTTP connections of one process."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable
from typing import Any, Generic, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import anyio.lowlevel
import httpx2

from trajectories_sdk.environment import open_client

Http = TypeVar("Http")


def blocking_http(base_url: str, transport: httpx2.BaseTransport | None) -> httpx2.Client:
    """Return an HTTP client, whatever the environment says."""
    if transport is not None:
        return httpx2.Client(transport=transport, trust_env=False)
    return open_client(httpx2.Client, httpx2.HTTPTransport, base_url)


def async_http(base_url: str, transport: httpx2.AsyncBaseTransport | None) -> httpx2.AsyncClient:
    """Like ``blocking_http``, for async code."""
    if transport is not None:
        return httpx2.AsyncClient(transport=transport, trust_env=False)
    return open_client(httpx2.AsyncClient, httpx2.AsyncHTTPTransport, base_url)


class Connections(Generic[Http]):
    """A connection pool that a forked child does not share.

    Two processes on one connection would read each other's responses. It has no lock, since a
    thread could hold it during a fork. Two first threads of a child may both create a pool; one is
    kept.
    """

    def __init__(self, make: Callable[[], Http]) -> None:
        self._make = make
        self._pid = os.getpid()
        self._http = make()
        self._inherited: list[Http] = []

    def __call__(self) -> Http:
        if self._pid != os.getpid():
            # Closing the old pool would shut down the parent's connections.
            self._inherited.append(self._http)
            self._http = self._make()
            self._pid = os.getpid()
        return self._http


class _LoopConnections(NamedTuple):
    """The pool of one event loop, its process, and the generator that closes it, if any."""

    http: httpx2.AsyncClient
    pid: int
    closer: AsyncGenerator[httpx2.AsyncClient] | None


class AsyncConnections:
    """A connection pool for each event loop of each process.

    A connection works in the loop that opened it only. A pool is closed at the end of its loop: the
    loop closes the generators that were started in it. It has no lock, as ``Connections``.
    """

    def __init__(self, make: Callable[[], httpx2.AsyncClient], *, is_owner: bool) -> None:
        """Args:
        is_owner: close a pool at the end of its loop. False for a transport of the caller, which
            all loops share.
        """
        self._make = make
        self._is_owner = is_owner
        self._is_closed = False
        self._by_loop: WeakKeyDictionary[Any, _LoopConnections] = WeakKeyDictionary()
        self._inherited: list[_LoopConnections] = []

    async def __call__(self) -> httpx2.AsyncClient:
        """Return the pool of the running loop.

        Raises:
            RuntimeError: the client was closed.
        """
        if self._is_closed:
            raise RuntimeError("This client is closed: create another AsyncClient")
        loop = anyio.lowlevel.current_token().native_token
        known = self._by_loop.get(loop)
        if known is not None and known.pid == os.getpid():
            return known.http
        if known is not None:  # closing it would shut down the parent's connections
            self._inherited.append(known)
        self._drop_ended()
        closer = self._pool(loop) if self._is_owner else None
        http = self._make() if closer is None else await anext(closer)
        opened = _LoopConnections(http, os.getpid(), closer)
        self._by_loop[loop] = opened
        return opened.http

    async def aclose(self) -> None:
        """Close the pool of the running loop. The other loops close theirs when they end."""
        self._is_closed = True
        loop = anyio.lowlevel.current_token().native_token
        known = self._by_loop.pop(loop, None)
        if known is not None and known.closer is not None:
            await known.closer.aclose()
        if not self._is_owner:  # this closes the transport of the caller
            await self._make().aclose()

    def _drop_ended(self) -> None:
        """Remove the pools of asyncio loops that were closed without closing their generators."""
        for reference in self._by_loop.keyrefs():
            loop = reference()
            if loop is not None and getattr(loop, "is_closed", bool)():
                self._by_loop.pop(loop, None)

    async def _pool(self, loop: object) -> AsyncGenerator[httpx2.AsyncClient]:
        http = self._make()
        try:
            yield http
        finally:
            self._by_loop.pop(loop, None)  # its connections refer to the loop
            await http.aclose()
