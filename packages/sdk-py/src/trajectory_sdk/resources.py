"""``client.trajectories``: what can be done with trajectories, once blocking and once awaited."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any, Literal, Unpack, cast, overload
from uuid import UUID

import anyio.to_thread

from trajectory_sdk import exporting, listing, recording
from trajectory_sdk.config import Config
from trajectory_sdk.exporting import OnProgress
from trajectory_sdk.flow import PATH, Flow, call_for, one_path, request
from trajectory_sdk.models import (
    DeletedTrajectories,
    DeletedTrajectory,
    MatchingTrajectories,
    Stats,
    StoredTrajectory,
    TrajectoryPage,
)
from trajectory_sdk.params import Filters
from trajectory_sdk.recorder import Delivery, Run
from trajectory_sdk.recording import MAX_BYTES, MAX_LINES, AnyTrajectory
from trajectory_sdk.results import Exported, RecordedMany
from trajectory_sdk.target import Writable, target_of
from trajectory_sdk.transport import AsyncDriver, Driver
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
        with closing(self._driver.iterate(listing.pages(self._config, self._query))) as pages:
            for page in pages:
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
        async with aclosing(self._driver.iterate(listing.pages(self._config, self._query))) as pages:
            async for page in pages:
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

    def iter_export(
        self, *, after: Id | None = None, progress: OnProgress | None = None, **filters: Unpack[Filters]
    ) -> Iterator[StoredTrajectory]:
        """Every trajectory that the filters find, in the order in which the archive first got them.

        After a cut it goes on by itself. Count and hash are verified at the end of each response: what was given out before
        an ``ExportBrokenError`` is not to be trusted.

        Args:
            after: the id of a record; the export goes on behind it.
            progress: called with an ``ExportProgress`` now and then.

        Raises:
            ExportBrokenError: what arrived is not what the server says that it sent.
        """
        flow = exporting.records(self._config, cast(Any, filters), after, progress)
        return self._records(flow)

    def export_jsonl(
        self,
        path_or_file: str | os.PathLike[str] | Writable,
        *,
        progress: OnProgress | None = None,
        resume: bool = True,
        after: Id | None = None,
        **filters: Unpack[Filters],
    ) -> Exported:
        """Every trajectory that the filters find, a line each, into a file.

        Given a path, the file appears under its name once it is complete, in place of one that was there. Until then it grows
        beside it, as ``NAME.….part``.

        Args:
            path_or_file: a path, or a file that takes bytes.
            progress: called with an ``ExportProgress`` now and then.
            resume: go on with the part that an earlier call with the same filters has left, if there is one.
            after: the id of a record, such as ``cursor`` of an earlier export; only what is behind it is exported.

        Returns:
            Count and SHA-256 of the whole file, and the id to go on behind another time.

        Raises:
            ExportBrokenError: what arrived is not what the server says that it sent.
            OSError: the file cannot be written.
        """
        target = target_of(path_or_file, identity=_export_identity(self._config, after, filters), is_resumed=resume)
        return self._driver.run(exporting.to_target(self._config, cast(Any, filters), target, after, progress))

    def delete(self, id: Id) -> DeletedTrajectory:  # noqa: A002  the name in the API
        """Delete one trajectory for good; its id is not taken again. Needs a key with the scope admin.

        Raises:
            NotFoundError: 404.
        """
        return self._driver.run(
            call_for(self._config, request(self._config, "DELETE", one_path(id)), DeletedTrajectory)
        )

    @overload
    def delete_matching(self, *, dry_run: Literal[True], **filters: Unpack[Filters]) -> MatchingTrajectories: ...

    @overload
    def delete_matching(
        self, *, dry_run: Literal[False] = False, token: str, **filters: Unpack[Filters]
    ) -> DeletedTrajectories: ...

    def delete_matching(
        self, *, dry_run: bool = False, token: str | None = None, **filters: Unpack[Filters]
    ) -> MatchingTrajectories | DeletedTrajectories:
        """Delete all that the filters find, for good: first a dry run, which counts, then with its ``token`` and the same filters.

        One call deletes so many at most; while ``has_more`` is true, the same call again goes on. Needs the scope admin.
        """
        query = {**filters, "dry_run": 1 if dry_run else None, "token": token}
        sent = request(self._config, "DELETE", PATH, query)
        if dry_run:
            return self._driver.run(call_for(self._config, sent, MatchingTrajectories))
        return self._driver.run(call_for(self._config, sent, DeletedTrajectories))

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
        return Delivery(self.record, lambda trajectory: anyio.to_thread.run_sync(self.record, trajectory))

    def _records(self, flow: Flow[None]) -> Iterator[StoredTrajectory]:
        with closing(self._driver.iterate(flow)) as batches:
            for records in batches:
                yield from records


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

    def iter_export(
        self, *, after: Id | None = None, progress: OnProgress | None = None, **filters: Unpack[Filters]
    ) -> AsyncIterator[StoredTrajectory]:
        """As ``Trajectories.iter_export``."""
        flow = exporting.records(self._config, cast(Any, filters), after, progress)
        return self._records(flow)

    async def export_jsonl(
        self,
        path_or_file: str | os.PathLike[str] | Writable,
        *,
        progress: OnProgress | None = None,
        resume: bool = True,
        after: Id | None = None,
        **filters: Unpack[Filters],
    ) -> Exported:
        """As ``Trajectories.export_jsonl``."""
        target = target_of(path_or_file, identity=_export_identity(self._config, after, filters), is_resumed=resume)
        return await self._driver.run(exporting.to_target(self._config, cast(Any, filters), target, after, progress))

    async def delete(self, id: Id) -> DeletedTrajectory:  # noqa: A002  the name in the API
        """As ``Trajectories.delete``."""
        return await self._driver.run(
            call_for(self._config, request(self._config, "DELETE", one_path(id)), DeletedTrajectory)
        )

    @overload
    async def delete_matching(self, *, dry_run: Literal[True], **filters: Unpack[Filters]) -> MatchingTrajectories: ...

    @overload
    async def delete_matching(
        self, *, dry_run: Literal[False] = False, token: str, **filters: Unpack[Filters]
    ) -> DeletedTrajectories: ...

    async def delete_matching(
        self, *, dry_run: bool = False, token: str | None = None, **filters: Unpack[Filters]
    ) -> MatchingTrajectories | DeletedTrajectories:
        """As ``Trajectories.delete_matching``."""
        query = {**filters, "dry_run": 1 if dry_run else None, "token": token}
        sent = request(self._config, "DELETE", PATH, query)
        if dry_run:
            return await self._driver.run(call_for(self._config, sent, MatchingTrajectories))
        return await self._driver.run(call_for(self._config, sent, DeletedTrajectories))

    async def _records(self, flow: Flow[None]) -> AsyncIterator[StoredTrajectory]:
        async with aclosing(self._driver.iterate(flow)) as batches:
            async for records in batches:
                for record in records:
                    yield record

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


def _export_identity(config: Config, after: Id | None, filters: Filters) -> dict[str, object]:
    return {**filters, "base_url": config.base_url, "after": after}
