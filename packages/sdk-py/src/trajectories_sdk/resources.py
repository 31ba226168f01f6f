"""``client.trajectories``: all operations on trajectories, blocking and awaited."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any, Literal, Unpack, cast, overload
from uuid import UUID

import anyio.to_thread

from trajectories_sdk import exporting, listing, recording
from trajectories_sdk.config import Config
from trajectories_sdk.errors import NotFoundError
from trajectories_sdk.exporting import OnProgress
from trajectories_sdk.flow import PATH, Flow, call_for, one_path, request
from trajectories_sdk.models import (
    DeletedTrajectories,
    DeletedTrajectory,
    MatchingTrajectories,
    Readiness,
    Stats,
    StoredTrajectory,
    TrajectoryPage,
)
from trajectories_sdk.params import Filters
from trajectories_sdk.recorder import Delivery, Run
from trajectories_sdk.recording import MAX_BYTES, MAX_LINES, AnyTrajectory
from trajectories_sdk.results import Exported, RecordedMany
from trajectories_sdk.resuming import FLUSH_TIMEOUT_S, Earlier
from trajectories_sdk.target import Writable, target_of
from trajectories_sdk.transport import AsyncDriver, Driver
from trajectories_sdk.values import Id, json_value

if TYPE_CHECKING:
    from trajectories_sdk.client import AsyncClient, Client


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


class Trajectories:
    """Record, list, retrieve, summarize, export and delete trajectories.

    Every method may raise an ``APIConnectionError`` or an ``APIStatusError``.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._driver = client._driver
        self._config = client.config

    def record(self, trajectory: AnyTrajectory) -> StoredTrajectory:
        """Record one trajectory. It is durable when this method returns.

        The SDK sets the ``id`` if there is none, so that a retry is the same record. Recording an
        id again stores a new revision, or nothing if the body is unchanged.

        Returns:
            The trajectory as stored: normalized, with ``recorded_at`` and ``revision``.

        Raises:
            BadRequestError: 400; ``details`` lists every problem with its path.
            ConflictError: 409; the id was deleted.
            TypeError, ValueError: a value has no JSON form; nothing was sent.
        """
        return self._driver.run(recording.record(self._config, trajectory))

    def record_many(
        self, trajectories: Iterable[AnyTrajectory], *, max_lines: int = MAX_LINES, max_bytes: int = MAX_BYTES
    ) -> RecordedMany:
        """Record many trajectories, in batches of up to ``max_lines`` records and ``max_bytes``
        bytes.

        A larger record is sent alone. A refused record, or one without a JSON form, does not block
        the others; its result has the error.

        Raises:
            TrajectoryError: a whole request failed after its retries; ``recorded`` has the earlier
                results.
        """
        flow = recording.record_many(self._config, max_lines=max_lines, max_bytes=max_bytes)
        return self._driver.run(flow, trajectories)

    def list(
        self, *, limit: int | None = None, cursor: str | None = None, **filters: Unpack[Filters]
    ) -> TrajectoryList:
        """Return all trajectories that match the filters, newest first. Iterating sends the
        requests.

        Args:
            limit: records per page, 1 to 1000. Iterating continues over all pages.
            cursor: ``next_cursor`` of an earlier page, to continue after it.
        """
        return TrajectoryList(self._driver, self._config, {**filters, "limit": limit, "cursor": cursor})

    def retrieve(self, id: Id) -> StoredTrajectory:  # noqa: A002  the name in the API
        """Return one trajectory.

        Raises:
            NotFoundError: 404.
        """
        return self._driver.run(call_for(self._config, request(self._config, "GET", one_path(id)), StoredTrajectory))

    def stats(self, **filters: Unpack[Filters]) -> Stats:
        """Return totals and groups (phase, model, selection method) of all matches, with Wilson
        bounds."""
        return self._driver.run(
            call_for(self._config, request(self._config, "GET", f"{PATH}/stats", cast(Any, filters)), Stats)
        )

    def readiness(self, *, max_runs: int | None = None, **filters: Unpack[Filters]) -> Readiness:
        """Return whether the newest matching trajectories are worth training on: measures, and
        checks that say what to do.

        Args:
            max_runs: how many runs to measure at most, 1 to 1,000,000; 20,000 by default.
        """
        query = {**filters, "max_runs": max_runs}
        return self._driver.run(
            call_for(self._config, request(self._config, "GET", f"{PATH}/readiness", query), Readiness)
        )

    def iter_export(
        self, *, after: Id | None = None, progress: OnProgress | None = None, **filters: Unpack[Filters]
    ) -> Iterator[StoredTrajectory]:
        """Iterate over all trajectories that match the filters, in the order of their arrival in
        the archive.

        The export resumes by itself after a broken connection. Count and hash are verified at the
        end of each response. Do not trust records that were yielded before an
        ``ExportBrokenError``.

        Args:
            after: id of a record; the export starts behind it.
            progress: called repeatedly with an ``ExportProgress``.

        Raises:
            ExportBrokenError: the data does not match the server's count or hash.
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
        """Export all trajectories that match the filters to a file, one JSON line each.

        A path appears once the export is complete, and replaces an existing file. Until then the
        data is in a partial file beside it, ``NAME.….part``.

        Args:
            path_or_file: a path, or a file opened in binary mode.
            progress: called repeatedly with an ``ExportProgress``.
            resume: continue the partial file of an earlier call with the same filters, if there is
                one.
            after: id of a record, such as ``cursor`` of an earlier export; the export starts behind
                it.

        Returns:
            Count and SHA-256 of the whole file, and the id after which a later export can continue.

        Raises:
            ExportBrokenError: the data does not match the server's count or hash.
            OSError: the file cannot be written.
        """
        target = target_of(path_or_file, identity=_export_identity(self._config, after, filters), is_resumed=resume)
        return self._driver.run(exporting.to_target(self._config, cast(Any, filters), target, after, progress))

    def delete(self, id: Id) -> DeletedTrajectory:  # noqa: A002  the name in the API
        """Delete one trajectory permanently. Its id cannot be reused. The key needs the scope
        ``admin``.

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
        """Delete all trajectories that match the filters, permanently. The key needs the scope
        ``admin``.

        First make a dry run, which counts the matches and returns a token. Then pass its ``token``
        with the same filters. One call deletes a limited number: repeat it while ``has_more`` is
        true.
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
        resume: bool = False,
    ) -> Run:
        """Return a recorder of one run, for ``with`` and ``async with``. The run is recorded when
        it ends.

        Args:
            request_summary: the request that started the run.
            id: a UUID, generated by default. A run of this client that paused or was cancelled goes
                on under its id; any other run is recorded anew.
            background: True: record through the background queue, without waiting for the server
                and without raising its errors. False: record like ``record``, and raise its errors
                unless an exception of the pipeline is already propagating.
            progress: also record after each phase, with the same id and the outcome ``unknown``, so
                that a killed run keeps its finished phases.
            resume: go on from what the store has of the run ``id``, for example after a pause in
                another process. It waits for the queue and the store. If the store cannot be read,
                a run in the background gets another id, and ``metadata`` names the first one.

        Raises:
            ValueError: ``id`` is not a UUID.
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
        earlier = None if id is None else self._earlier(resume=resume)
        return Run(id, fields, self._delivery(is_background=background), has_progress=progress, earlier=earlier)

    def enqueue(self, trajectory: AnyTrajectory) -> UUID:
        """Record one trajectory in the background. See ``BackgroundQueue.enqueue`` for its
        guarantees."""
        return self._client.queue.enqueue(trajectory)

    def _delivery(self, *, is_background: bool) -> Delivery:
        if is_background:
            return Delivery(self._client.queue.enqueue, is_background=True)
        return Delivery(self._record_run, lambda run: anyio.to_thread.run_sync(self._record_run, run))

    def _earlier(self, *, resume: bool) -> Earlier:
        memory = self._client._interrupted

        def find(id_: UUID) -> Mapping[str, Any] | None:
            known = memory.find(id_)
            return self._stored(id_) if known is None and resume else known

        return Earlier(memory.remember, find, lambda id_: anyio.to_thread.run_sync(find, id_))

    def _stored(self, id_: UUID) -> Mapping[str, Any] | None:
        self._client.queue.flush(FLUSH_TIMEOUT_S)
        try:
            return json_value(self.retrieve(id_))  # type: ignore[no-any-return]
        except NotFoundError:
            return None

    def _record_run(self, run: AnyTrajectory) -> StoredTrajectory:
        _, body = self._client._adjustments.kept(run)
        return self._driver.run(recording.record_body(self._config, body))

    def _records(self, flow: Flow[None]) -> Iterator[StoredTrajectory]:
        with closing(self._driver.iterate(flow)) as batches:
            for records in batches:
                yield from records


class AsyncTrajectories:
    """Record, list, retrieve, summarize, export and delete trajectories.

    Every method may raise an ``APIConnectionError`` or an ``APIStatusError``.
    """

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._driver = client._driver
        self._config = client.config

    async def record(self, trajectory: AnyTrajectory) -> StoredTrajectory:
        """Like ``Trajectories.record``."""
        return await self._driver.run(recording.record(self._config, trajectory))

    async def record_many(
        self,
        trajectories: Iterable[AnyTrajectory] | AsyncIterable[AnyTrajectory],
        *,
        max_lines: int = MAX_LINES,
        max_bytes: int = MAX_BYTES,
    ) -> RecordedMany:
        """Like ``Trajectories.record_many``; ``trajectories`` may also be an asynchronous iterable."""
        flow = recording.record_many(self._config, max_lines=max_lines, max_bytes=max_bytes)
        return await self._driver.run(flow, trajectories)

    def list(
        self, *, limit: int | None = None, cursor: str | None = None, **filters: Unpack[Filters]
    ) -> AsyncTrajectoryList:
        """Like ``Trajectories.list``, for ``async for``."""
        return AsyncTrajectoryList(self._driver, self._config, {**filters, "limit": limit, "cursor": cursor})

    async def retrieve(self, id: Id) -> StoredTrajectory:  # noqa: A002  the name in the API
        """Like ``Trajectories.retrieve``."""
        return await self._driver.run(
            call_for(self._config, request(self._config, "GET", one_path(id)), StoredTrajectory)
        )

    async def stats(self, **filters: Unpack[Filters]) -> Stats:
        """Like ``Trajectories.stats``."""
        return await self._driver.run(
            call_for(self._config, request(self._config, "GET", f"{PATH}/stats", cast(Any, filters)), Stats)
        )

    async def readiness(self, *, max_runs: int | None = None, **filters: Unpack[Filters]) -> Readiness:
        """Like ``Trajectories.readiness``."""
        query = {**filters, "max_runs": max_runs}
        return await self._driver.run(
            call_for(self._config, request(self._config, "GET", f"{PATH}/readiness", query), Readiness)
        )

    def iter_export(
        self, *, after: Id | None = None, progress: OnProgress | None = None, **filters: Unpack[Filters]
    ) -> AsyncIterator[StoredTrajectory]:
        """Like ``Trajectories.iter_export``."""
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
        """Like ``Trajectories.export_jsonl``."""
        target = target_of(path_or_file, identity=_export_identity(self._config, after, filters), is_resumed=resume)
        return await self._driver.run(exporting.to_target(self._config, cast(Any, filters), target, after, progress))

    async def delete(self, id: Id) -> DeletedTrajectory:  # noqa: A002  the name in the API
        """Like ``Trajectories.delete``."""
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
        """Like ``Trajectories.delete_matching``."""
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
        resume: bool = False,
    ) -> Run:
        """Like ``Trajectories.run``. With ``background=False`` it supports only ``async with``."""
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
        earlier = None if id is None else self._earlier(resume=resume)
        return Run(id, fields, self._delivery(is_background=background), has_progress=progress, earlier=earlier)

    def enqueue(self, trajectory: AnyTrajectory) -> UUID:
        """Like ``Trajectories.enqueue``."""
        return self._client.queue.enqueue(trajectory)

    def _delivery(self, *, is_background: bool) -> Delivery:
        if is_background:
            return Delivery(self._client.queue.enqueue, is_background=True)
        return Delivery(None, self._record_run)

    def _earlier(self, *, resume: bool) -> Earlier:
        memory = self._client._interrupted

        async def find(id_: UUID) -> Mapping[str, Any] | None:
            known = memory.find(id_)
            return await self._stored(id_) if known is None and resume else known

        def find_known(id_: UUID) -> Mapping[str, Any] | None:
            if resume:
                raise TypeError("An AsyncClient reads the run to resume with `async with`")
            return memory.find(id_)

        return Earlier(memory.remember, find_known, find)

    async def _stored(self, id_: UUID) -> Mapping[str, Any] | None:
        await anyio.to_thread.run_sync(self._client.queue.flush, FLUSH_TIMEOUT_S)
        try:
            return json_value(await self.retrieve(id_))  # type: ignore[no-any-return]
        except NotFoundError:
            return None

    async def _record_run(self, run: AnyTrajectory) -> StoredTrajectory:
        _, body = self._client._adjustments.kept(run)
        return await self._driver.run(recording.record_body(self._config, body))


def _export_identity(config: Config, after: Id | None, filters: Filters) -> dict[str, object]:
    return {**filters, "base_url": config.base_url, "after": after}
