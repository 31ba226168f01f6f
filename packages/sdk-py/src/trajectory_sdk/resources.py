"""``client.trajectories``: what can be done with trajectories, once blocking and once awaited."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack, cast
from uuid import UUID

import anyio.to_thread

from trajectory_sdk import listing, recording
from trajectory_sdk.config import Config
from trajectory_sdk.drive import AsyncDriver, Driver
from trajectory_sdk.flow import PATH, call_for, one_path, request
from trajectory_sdk.models import Stats, StoredTrajectory, TrajectoryPage
from trajectory_sdk.params import Filters
from trajectory_sdk.recorded import RecordedMany
from trajectory_sdk.recorder import Delivery, Run
from trajectory_sdk.recording import MAX_BYTES, MAX_LINES, AnyTrajectory
from trajectory_sdk.values import Id

if TYPE_CHECKING:
    from trajectory_sdk.client import AsyncClient, Client


class TrajectoryList:
    """What ``list`` found: iterating gives records, newest first; each iteration asks anew."""

    def __init__(self, driver: Driver, config: Config, query: Mapping[str, object]) -> None:
        self._driver = driver
        self._config = config
        self._query = query

    def __iter__(self) -> Iterator[StoredTrajectory]:
        for page in self.pages():
            yield from page.data

    def pages(self) -> Iterator[TrajectoryPage]:
        """The pages, with ``next_cursor`` and with what they say of the tiers (``complete``)."""
        return self._driver.iterate(listing.pages(self._config, self._query))


class AsyncTrajectoryList:
    """What ``list`` found: iterating gives records, newest first; each iteration asks anew."""

    def __init__(self, driver: AsyncDriver, config: Config, query: Mapping[str, object]) -> None:
        self._driver = driver
        self._config = config
        self._query = query

    async def __aiter__(self) -> AsyncIterator[StoredTrajectory]:
        async for page in self.pages():
            for record in page.data:
                yield record

    def pages(self) -> AsyncIterator[TrajectoryPage]:
        """The pages, with ``next_cursor`` and with what they say of the tiers (``complete``)."""
        return self._driver.iterate(listing.pages(self._config, self._query))


class Trajectories:
    """Record, list, retrieve, stats, export, delete. Each may raise an ``APIConnectionError`` or an ``APIStatusError``."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._driver = client._driver
        self._config = client.config

    def record(self, trajectory: AnyTrajectory) -> StoredTrajectory:
        """Take one trajectory; when this returns it is durable.

        The SDK makes the ``id`` if there is none, so that a retry is the same record. The same id again stores a new
        revision, or nothing if the body is the same.

        Returns:
            It as stored: normalised, with ``recorded_at`` and ``revision``.

        Raises:
            BadRequestError: 400; ``details`` has every problem with its path.
            ConflictError: 409; the id was deleted.
            TypeError, ValueError: nothing in JSON stands for a value; it was not sent.
        """
        return self._driver.run(recording.record(self._config, trajectory))

    def record_many(
        self, trajectories: Iterable[AnyTrajectory], *, max_lines: int = MAX_LINES, max_bytes: int = MAX_BYTES
    ) -> RecordedMany:
        """Take many, in requests of at most ``max_lines`` records and ``max_bytes`` bytes (one larger record goes alone).

        A record that is refused, or that nothing in JSON stands for, holds up no other: its result says why.

        Raises:
            TrajectoryError: a request as a whole failed, at last; ``recorded`` of it has what became of the records before.
        """
        flow = recording.record_many(self._config, max_lines=max_lines, max_bytes=max_bytes)
        return self._driver.run(flow, trajectories)

    def list(
        self, *, limit: int | None = None, cursor: str | None = None, **filters: Unpack[Filters]
    ) -> TrajectoryList:
        """All that the filters find, newest first; nothing is asked before the iteration.

        Args:
            limit: records on a page, 1 to 1000; the iteration goes on over all pages.
            cursor: ``next_cursor`` of an earlier page, to go on behind it.
        """
        return TrajectoryList(self._driver, self._config, {**filters, "limit": limit, "cursor": cursor})

    def retrieve(self, id: Id) -> StoredTrajectory:  # noqa: A002  the name in the API
        """One trajectory.

        Raises:
            NotFoundError: 404.
        """
        return self._driver.run(call_for(self._config, request(self._config, "GET", one_path(id)), StoredTrajectory))

    def stats(self, **filters: Unpack[Filters]) -> Stats:
        """Totals and groups of all that the filters find: by phase, model, selection method, with Wilson bounds."""
        return self._driver.run(
            call_for(self._config, request(self._config, "GET", f"{PATH}/stats", cast(Any, filters)), Stats)
        )

    def run(
        self,
        request_summary: str,
        *,
        id: Id | None = None,  # noqa: A002  the name of the field
        request_type: str | None = None,
        source: str | None = None,
        project: str | None = None,
        planned_phases: Sequence[str] | None = None,
        session_id: str | None = None,
        trace_id: str | None = None,
        tags: Sequence[str] | None = None,
        external_refs: Mapping[str, str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        background: bool = True,
        progress: bool = False,
    ) -> Run:
        """A recorder of one run, for ``with`` and ``async with``; the record is made at its end.

        Args:
            request_summary: what was asked for.
            id: a UUID, so that the run can be recorded again; else one is made.
            background: by the queue: no call waits for the server, and none raises because of it. False: the end of the run
                records as ``record`` does, and raises as it does, unless an error of the pipeline is on its way.
            progress: record after each phase too, under the same id and with the outcome ``unknown``, so that a run that is killed
                leaves what was done.

        Raises:
            ValueError: ``id`` is no UUID.
        """
        fields = {
            "request_summary": request_summary,
            "request_type": request_type,
            "source": source,
            "project": project,
            "planned_phases": planned_phases,
            "session_id": session_id,
            "trace_id": trace_id,
            "tags": tags,
            "external_refs": external_refs,
            "metadata": metadata,
        }
        return Run(id, fields, self._delivery(is_background=background), has_progress=progress)

    def enqueue(self, trajectory: AnyTrajectory) -> UUID:
        """Have one trajectory recorded in the background: as ``client.queue.enqueue``, which see for what is promised."""
        return self._client.queue.enqueue(trajectory)

    def _delivery(self, *, is_background: bool) -> Delivery:
        if is_background:
            return Delivery(self._client.queue.enqueue, is_background=True)

        def record(fields: Any) -> object:
            return self.record(fields)

        return Delivery(record, lambda fields: anyio.to_thread.run_sync(record, fields))


class AsyncTrajectories:
    """Record, list, retrieve, stats, export, delete. Each may raise an ``APIConnectionError`` or an ``APIStatusError``."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._driver = client._driver
        self._config = client.config

    async def record(self, trajectory: AnyTrajectory) -> StoredTrajectory:
        """As ``Trajectories.record``."""
        return await self._driver.run(recording.record(self._config, trajectory))

    async def record_many(
        self,
        trajectories: Iterable[AnyTrajectory] | AsyncIterable[AnyTrajectory],
        *,
        max_lines: int = MAX_LINES,
        max_bytes: int = MAX_BYTES,
    ) -> RecordedMany:
        """As ``Trajectories.record_many``; the records may come out of an asynchronous iterable too."""
        flow = recording.record_many(self._config, max_lines=max_lines, max_bytes=max_bytes)
        return await self._driver.run(flow, trajectories)

    def list(
        self, *, limit: int | None = None, cursor: str | None = None, **filters: Unpack[Filters]
    ) -> AsyncTrajectoryList:
        """As ``Trajectories.list``, for ``async for``."""
        return AsyncTrajectoryList(self._driver, self._config, {**filters, "limit": limit, "cursor": cursor})

    async def retrieve(self, id: Id) -> StoredTrajectory:  # noqa: A002  the name in the API
        """As ``Trajectories.retrieve``."""
        return await self._driver.run(
            call_for(self._config, request(self._config, "GET", one_path(id)), StoredTrajectory)
        )

    async def stats(self, **filters: Unpack[Filters]) -> Stats:
        """As ``Trajectories.stats``."""
        return await self._driver.run(
            call_for(self._config, request(self._config, "GET", f"{PATH}/stats", cast(Any, filters)), Stats)
        )

    def run(
        self,
        request_summary: str,
        *,
        id: Id | None = None,  # noqa: A002  the name of the field
        request_type: str | None = None,
        source: str | None = None,
        project: str | None = None,
        planned_phases: Sequence[str] | None = None,
        session_id: str | None = None,
        trace_id: str | None = None,
        tags: Sequence[str] | None = None,
        external_refs: Mapping[str, str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        background: bool = True,
        progress: bool = False,
    ) -> Run:
        """As ``Trajectories.run``. In the foreground (``background=False``) it is for ``async with`` only."""
        fields = {
            "request_summary": request_summary,
            "request_type": request_type,
            "source": source,
            "project": project,
            "planned_phases": planned_phases,
            "session_id": session_id,
            "trace_id": trace_id,
            "tags": tags,
            "external_refs": external_refs,
            "metadata": metadata,
        }
        return Run(id, fields, self._delivery(is_background=background), has_progress=progress)

    def enqueue(self, trajectory: AnyTrajectory) -> UUID:
        """As ``Trajectories.enqueue``."""
        return self._client.queue.enqueue(trajectory)

    def _delivery(self, *, is_background: bool) -> Delivery:
        if is_background:
            return Delivery(self._client.queue.enqueue, is_background=True)
        return Delivery(None, self.record)
