"""The two clients."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio.to_thread
import httpx2

from trajectory_sdk.background import Background, BackgroundQueue
from trajectory_sdk.config import DEFAULT_MAX_RETRIES, DEFAULT_TIMEOUT_S, Config
from trajectory_sdk.connections import Connections
from trajectory_sdk.resources import AsyncTrajectories, Trajectories
from trajectory_sdk.spool import Spool
from trajectory_sdk.transport import AsyncDriver, Driver


class Client:
    """A client of the store, blocking and safe for threads and forks. Make one for the process and keep it.

    Args:
        base_url: where the store is; else ``TRAJECTORY_BASE_URL``, else ``http://127.0.0.1:8000``.
        api_key: else ``TRAJECTORY_API_KEY``; without either none is sent.
        timeout_s: seconds for each wait: to connect, to send, for the next part of an answer.
        max_retries: how often a call that failed is tried again, where that may help.
        headers: sent with every request.
        transport: in place of plain HTTP connections, such as ``httpx2.HTTPTransport(proxy=…)``; closed with the client.
        spool_dir: a directory on a file system of this machine, where the background queue keeps what waits; else
            ``TRAJECTORY_SPOOL_DIR``, else one of the user's.

    Raises:
        ValueError: an argument makes no sense.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        max_retries: int = DEFAULT_MAX_RETRIES,
        headers: Mapping[str, str] | None = None,
        transport: httpx2.BaseTransport | None = None,
        spool_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        self.config = Config.read(
            base_url=base_url, api_key=api_key, timeout_s=timeout_s, max_retries=max_retries, headers=headers
        )
        self.spool_dir = None if spool_dir is None else Path(spool_dir)
        self._driver = Driver(Connections(lambda: httpx2.Client(transport=transport)))
        self._owns_connections = True
        self._background = Background(self.config, transport, Spool.of(self.config, self.spool_dir))

    @property
    def queue(self) -> BackgroundQueue:
        """The background queue of this client, and of all that ``with_options`` makes of it."""
        return self._background.queue

    @property
    def trajectories(self) -> Trajectories:
        """What can be done with trajectories."""
        return Trajectories(self)

    def with_options(
        self,
        *,
        timeout_s: float | None = None,
        max_retries: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Self:
        """Another client on the same connections: what is given here is different, for as long as this one is open.

        ``headers`` come on top of those that there are.
        """
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.config = _with_options(self.config, timeout_s, max_retries, headers)
        other._owns_connections = False
        return other

    def close(self) -> None:
        """Send what the queue has, as far as ``BackgroundQueue.close`` says, and close the connections. Closing again does nothing."""
        if self._owns_connections:
            self._background.close()
            self._driver.http().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.config!r})"


class AsyncClient:
    """As ``Client``, awaited, under asyncio and trio. One belongs to one event loop.

    Args:
        base_url, api_key, timeout_s, max_retries, headers, spool_dir: as those of ``Client``.
        transport: in place of plain HTTP connections, such as ``httpx2.AsyncHTTPTransport(proxy=…)``; closed with the client.

    Raises:
        ValueError: an argument makes no sense.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        max_retries: int = DEFAULT_MAX_RETRIES,
        headers: Mapping[str, str] | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
        spool_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        self.config = Config.read(
            base_url=base_url, api_key=api_key, timeout_s=timeout_s, max_retries=max_retries, headers=headers
        )
        self.spool_dir = None if spool_dir is None else Path(spool_dir)
        self._driver = AsyncDriver(Connections(lambda: httpx2.AsyncClient(transport=transport)))
        self._owns_connections = True
        self._background = Background(self.config, transport, Spool.of(self.config, self.spool_dir))

    @property
    def queue(self) -> BackgroundQueue:
        """As ``Client.queue``. Its calls block: ``await anyio.to_thread.run_sync(client.queue.flush)``.

        Raises:
            TypeError: the client's ``transport`` only awaits, and the queue has a thread.
        """
        return self._background.queue

    @property
    def trajectories(self) -> AsyncTrajectories:
        """What can be done with trajectories."""
        return AsyncTrajectories(self)

    def with_options(
        self,
        *,
        timeout_s: float | None = None,
        max_retries: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Self:
        """As ``Client.with_options``."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.config = _with_options(self.config, timeout_s, max_retries, headers)
        other._owns_connections = False
        return other

    async def aclose(self) -> None:
        """As ``Client.close``."""
        if self._owns_connections:
            await anyio.to_thread.run_sync(self._background.close)
            await self._driver.http().aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.config!r})"


def _with_options(
    config: Config, timeout_s: float | None, max_retries: int | None, headers: Mapping[str, str] | None
) -> Config:
    return replace(
        config,
        timeout_s=config.timeout_s if timeout_s is None else timeout_s,
        max_retries=config.max_retries if max_retries is None else max_retries,
        headers={**config.headers, **(headers or {})},
    )
