"""``client.trajectories`` of the async client."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal, Unpack, cast, overload
from uuid import UUID

import anyio.to_thread

from trajectories_sdk import advising, exporting, recording
from trajectories_sdk.advice import Adviser
from trajectories_sdk.advising import quick
from trajectories_sdk.errors import NotFoundError
from trajectories_sdk.exporting import OnProgress
from trajectories_sdk.flow import PATH, Flow, call_for, one_path, request
from trajectories_sdk.models import (
    DeletedTrajectories,
    DeletedTrajectory,
    MatchingTrajectories,
    Readiness,
    Recommendation,
    Stats,
    StoredTrajectory,
)
from trajectories_sdk.params import Filters, TrajectoryPatch
from trajectories_sdk.recorder import Delivery
from trajectories_sdk.recording import MAX_BYTES, MAX_LINES, AnyTrajectory
from trajectories_sdk.results import Exported, RecordedMany
from trajectories_sdk.resuming import FLUSH_TIMEOUT_S, Earlier
from trajectories_sdk.run_factory import RunFactory
from trajectories_sdk.target import Writable, target_of
from trajectories_sdk.trajectory_lists import AsyncTrajectoryList
from trajectories_sdk.values import Id, json_value

if TYPE_CHECKING:
    from trajectories_sdk.client import AsyncClient


class AsyncTrajectories(RunFactory):
    """Record, list, retrieve, summarize, export and delete trajectories.

    Every method may raise an ``APIConnectionError`` or an ``APIStatusError``.
    """

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._driver = client._driver
        self._config = client.config

    async def record(self, trajectory: AnyTrajectory, *, replace: bool = False) -> StoredTrajectory:
        """Like ``Trajectories.record``."""
        return await self._driver.run(
            recording.record(self._config, trajectory, self._client._warning_log, replace=replace)
        )

    async def record_many(
        self,
        trajectories: Iterable[AnyTrajectory] | AsyncIterable[AnyTrajectory],
        *,
        max_lines: int = MAX_LINES,
        max_bytes: int = MAX_BYTES,
        replace: bool = False,
    ) -> RecordedMany:
        """Like ``Trajectories.record_many``; ``trajectories`` may also be an asynchronous iterable."""
        flow = recording.record_many(
            self._config, self._client._warning_log, max_lines=max_lines, max_bytes=max_bytes, replace=replace
        )
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

    async def stats(self, *, credit: str | None = None, bucket: str | None = None, **filters: Unpack[Filters]) -> Stats:
        """Like ``Trajectories.stats``."""
        query: Any = {**filters, "credit": credit, "bucket": bucket}
        return await self._driver.run(
            call_for(self._config, request(self._config, "GET", f"{PATH}/stats", query), Stats)
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
        target = target_of(path_or_file, identity=exporting.identity(self._config, after, filters), is_resumed=resume)
        return await self._driver.run(exporting.to_target(self._config, cast(Any, filters), target, after, progress))

    async def update(
        self,
        id: Id,  # noqa: A002  the name in the API
        patch: TrajectoryPatch,
        *,
        if_match: int | None = None,
    ) -> StoredTrajectory:
        """Like ``Trajectories.update``."""
        flow = recording.update(self._config, id, patch, if_match, self._client._warning_log)
        return await self._driver.run(flow)

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

    def _delivery(self, *, is_background: bool) -> Delivery:
        outcome = self._client.outcomes._enqueue
        if is_background:
            return Delivery(self._client.queue.enqueue, is_background=True, outcome=outcome)
        return Delivery(None, self._record_run, outcome=outcome)

    def _adviser(self) -> Adviser:
        return Adviser(awaited=self._advise)

    async def _advise(self, phase: str, candidates: Sequence[Any], fields: Mapping[str, Any]) -> Recommendation:
        return await self._driver.run(advising.recommend(quick(self._config), phase, candidates, fields))

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
        return await self._driver.run(recording.record_body(self._config, body, self._client._warning_log))
