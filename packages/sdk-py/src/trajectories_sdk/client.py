"""The blocking client and the async client."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio.to_thread
import httpx2

from trajectories_sdk import advising
from trajectories_sdk.adjustments import Adjustments
from trajectories_sdk.advice_resources import AsyncEvaluations, AsyncRecommendations, Evaluations, Recommendations
from trajectories_sdk.async_resources import AsyncTrajectories
from trajectories_sdk.background import BackgroundQueue
from trajectories_sdk.client_queue import Background
from trajectories_sdk.config import DEFAULT_MAX_RETRIES, DEFAULT_TIMEOUT_S, Config
from trajectories_sdk.connections import AsyncConnections, Connections, async_http, blocking_http
from trajectories_sdk.models import Alerts
from trajectories_sdk.outcomes import AsyncOutcomes, Outcomes
from trajectories_sdk.resources import Trajectories
from trajectories_sdk.resuming import InterruptedRuns
from trajectories_sdk.spool import Spool
from trajectories_sdk.transport import AsyncDriver, Driver
from trajectories_sdk.warning_log import WarningLog


class Client:
    """A blocking client of the store, safe for threads and forks. Create one per process and reuse
    it.

    Args:
        base_url: address of the store. Default: ``TRAJSTORE_BASE_URL``, then
            ``http://127.0.0.1:8000``.
        api_key: default: ``TRAJSTORE_API_KEY``. Without either, no key is sent.
        timeout_s: seconds for each wait: to connect, to send, to read a part of the response.
        max_retries: number of retries of a failed call, where a retry may help.
        headers: sent with every request.
        transport: replaces plain HTTP connections, for example ``httpx2.HTTPTransport(proxy=…)``.
            Closed with the client.
        spool_dir: local directory in which the background queue stores waiting records. Default:
            ``TRAJSTORE_SPOOL_DIR``, then a directory of the user.

    Raises:
        ValueError: an argument is invalid.
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
        self._driver = Driver(Connections(lambda: blocking_http(self.config.base_url, transport)))
        self._owns_connections = True
        self._adjustments = Adjustments()
        self._warning_log = WarningLog()
        self._interrupted = InterruptedRuns()
        self._background = Background(
            self.config, transport, Spool.of(self.config, self.spool_dir), self._adjustments, self._warning_log
        )

    @property
    def queue(self) -> BackgroundQueue:
        """Return the background queue, shared with all clients that ``with_options`` makes from
        this one."""
        return self._background.queue

    @property
    def trajectories(self) -> Trajectories:
        """Return the operations on trajectories."""
        return Trajectories(self)

    @property
    def outcomes(self) -> Outcomes:
        """Return the operations on late outcomes."""
        return Outcomes(self)

    @property
    def recommendations(self) -> Recommendations:
        """Return the operations on recommendations."""
        return Recommendations(self)

    @property
    def evaluations(self) -> Evaluations:
        """Return the operations on evaluations of policies."""
        return Evaluations(self)

    def alerts(self, *, weeks: int | None = None) -> Alerts:
        """Return what has changed in the choices and their success.

        Args:
            weeks: length of the period that is compared with everything before it, 1 to 52; 4 by
                default.
        """
        return self._driver.run(advising.alerts(self.config, weeks))

    def with_options(
        self,
        *,
        timeout_s: float | None = None,
        max_retries: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Self:
        """Return a client with other options on the same connections. It works until this client is
        closed.

        ``headers`` are added to the existing ones.
        """
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.config = _with_options(self.config, timeout_s, max_retries, headers)
        other._owns_connections = False
        return other

    def close(self) -> None:
        """Flush the queue as ``BackgroundQueue.close`` does, and close the connections.

        Closing again does nothing.
        """
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
    """Async counterpart of ``Client``, for asyncio and trio.

    Each event loop that uses a client has its own connections, which are closed when the loop ends.
    A ``transport`` is shared by all loops, so it must support that.

    Args:
        base_url, api_key, timeout_s, max_retries, headers, spool_dir: as for ``Client``.
        transport: replaces plain HTTP connections, for example
            ``httpx2.AsyncHTTPTransport(proxy=…)``. Closed with the client.

    Raises:
        ValueError: an argument is invalid.
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
        self._connections = AsyncConnections(
            lambda: async_http(self.config.base_url, transport), is_owner=transport is None
        )
        self._driver = AsyncDriver(self._connections)
        self._owns_connections = True
        self._adjustments = Adjustments()
        self._warning_log = WarningLog()
        self._interrupted = InterruptedRuns()
        self._background = Background(
            self.config, transport, Spool.of(self.config, self.spool_dir), self._adjustments, self._warning_log
        )

    @property
    def queue(self) -> BackgroundQueue:
        """Like ``Client.queue``. Its calls block: use ``await
        anyio.to_thread.run_sync(client.queue.flush)``.

        Raises:
            TypeError: the client's ``transport`` is async only, but the queue's thread needs a
                blocking one.
        """
        return self._background.queue

    @property
    def trajectories(self) -> AsyncTrajectories:
        """Return the operations on trajectories."""
        return AsyncTrajectories(self)

    @property
    def outcomes(self) -> AsyncOutcomes:
        """Return the operations on late outcomes."""
        return AsyncOutcomes(self)

    @property
    def recommendations(self) -> AsyncRecommendations:
        """Return the operations on recommendations."""
        return AsyncRecommendations(self)

    @property
    def evaluations(self) -> AsyncEvaluations:
        """Return the operations on evaluations of policies."""
        return AsyncEvaluations(self)

    async def alerts(self, *, weeks: int | None = None) -> Alerts:
        """Like ``Client.alerts``."""
        return await self._driver.run(advising.alerts(self.config, weeks))

    def with_options(
        self,
        *,
        timeout_s: float | None = None,
        max_retries: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Self:
        """Like ``Client.with_options``."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.config = _with_options(self.config, timeout_s, max_retries, headers)
        other._owns_connections = False
        return other

    async def aclose(self) -> None:
        """Like ``Client.close``."""
        if self._owns_connections:
            await anyio.to_thread.run_sync(self._background.close)
            await self._connections.aclose()

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
