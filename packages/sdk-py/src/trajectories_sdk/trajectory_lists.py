"""Results of ``list``: records over all pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, closing

from trajectories_sdk import listing
from trajectories_sdk.config import Config
from trajectories_sdk.models import StoredTrajectory, TrajectoryPage
from trajectories_sdk.transport import AsyncDriver, Driver


class TrajectoryList:
    """The result of ``list``. Iterating yields records, newest first; each iteration sends new
    requests."""

    def __init__(self, driver: Driver, config: Config, query: Mapping[str, object]) -> None:
        self._driver = driver
        self._config = config
        self._query = query

    def __iter__(self) -> Iterator[StoredTrajectory]:
        with closing(self._driver.iterate(listing.pages(self._config, self._query))) as pages:
            for page in pages:
                yield from page.data

    def pages(self) -> Iterator[TrajectoryPage]:
        """Return the pages, with ``next_cursor`` and with the state of the tiers (``complete``)."""
        return self._driver.iterate(listing.pages(self._config, self._query))


class AsyncTrajectoryList:
    """The result of ``list``. Iterating yields records, newest first; each iteration sends new
    requests."""

    def __init__(self, driver: AsyncDriver, config: Config, query: Mapping[str, object]) -> None:
        self._driver = driver
        self._config = config
        self._query = query

    async def __aiter__(self) -> AsyncIterator[StoredTrajectory]:
        async with aclosing(self._driver.iterate(listing.pages(self._config, self._query))) as pages:
            async for page in pages:
                for record in page.data:
                    yield record

    def pages(self) -> AsyncIterator[TrajectoryPage]:
        """Return the pages, with ``next_cursor`` and with the state of the tiers (``complete``)."""
        return self._driver.iterate(listing.pages(self._config, self._query))
