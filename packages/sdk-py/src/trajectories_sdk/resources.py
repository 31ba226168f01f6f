"""``client.trajectories`` of the blocking client."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
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
from trajectories_sdk.trajectory_lists import TrajectoryList
from trajectories_sdk.values import Id, json_value

if TYPE_CHECKING:
    from trajectories_sdk.client import Client


class Trajectories(RunFactory):
    """Record, list, retrieve, summarize, export and delete trajectories.

    Every method may raise an ``APIConnectionError`` or an ``APIStatusError``.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._driver = client._driver
        self._config = client.config

    def record(self, trajectory: AnyTrajectory, *, replace: bool = False) -> StoredTrajectory:
        """Record one trajectory. It is durable when this method returns.

        The SDK sets the ``id`` if there is none, so that a retry is the same record. Recording an
        id again stores a new revision, or nothing if the body is unchanged. Contradictions in the
        record are in ``warnings`` of the result, and each is logged once a run and code.

        Args:
            replace: also replace a stored version that has phases which this one lacks. Otherwise
                such a record is refused; ``update`` changes single fields.

        Returns:
            The trajectory as stored: normalized, with ``recorded_at``, ``revision`` and
            ``derived``.

        Raises:
            BadRequestError: 400; ``details`` lists every problem with its path.
            DroppedPhasesError: 409; the stored version has phases that this one lacks.
            ConflictError: 409; the id was deleted.
            TypeError, ValueError: a value has no JSON form; nothing was sent.
        """
        return self._driver.run(recording.record(self._config, trajectory, self._client._warning_log, replace=replace))

    def record_many(
        self,
        trajectories: Iterable[AnyTrajectory],
        *,
        max_lines: int = MAX_LINES,
        max_bytes: int = MAX_BYTES,
        replace: bool = False,
    ) -> RecordedMany:
        """Record many trajectories, in batches of up to ``max_lines`` records and ``max_bytes``
        bytes.

        A larger record is sent alone. A refused record, or one without a JSON form, does not block
        the others; its result has the error.

        Args:
            replace: as for ``record``, for all of them.

        Raises:
            TrajectoryError: a whole request failed after its retries; ``recorded`` has the earlier
                results.
        """
        flow = recording.record_many(
            self._config, self._client._warning_log, max_lines=max_lines, max_bytes=max_bytes, replace=replace
        )
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

    def stats(self, *, credit: str | None = None, bucket: str | None = None, **filters: Unpack[Filters]) -> Stats:
        """Return totals and groups (phase, model, selection method) of all matches, with Wilson
        bounds.

        Args:
            credit: the rule of ``credited_success_rate``: ``checks``, ``phase_outcome`` or
                ``run_outcome``; None is the rule of the server.
            bucket: ``day`` or ``week`` adds ``series``.
        """
        query: Any = {**filters, "credit": credit, "bucket": bucket}
        return self._driver.run(call_for(self._config, request(self._config, "GET", f"{PATH}/stats", query), Stats))

    def readiness(self, *, max_runs: int | None = None, **filters: Unpack[Filters]) -> Readiness:
        """Return whether the newest matching trajectories are worth training on: measures, and
        checks that say what to do.

        Args:
            max_runs: how many of the newest runs to measure at most, 1 to 1,000,000. A request
                measures up to 750; ``matching`` says how many there are, and ``note`` how to
                measure all.
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
        target = target_of(path_or_file, identity=exporting.identity(self._config, after, filters), is_resumed=resume)
        return self._driver.run(exporting.to_target(self._config, cast(Any, filters), target, after, progress))

    def update(
        self,
        id: Id,  # noqa: A002  the name in the API
        patch: TrajectoryPatch,
        *,
        if_match: int | None = None,
    ) -> StoredTrajectory:
        """Change fields of one trajectory. It is durable when this method returns.

        The patch has the fields to change; None deletes a field. ``phases`` lists objects with a
        ``phase_id``, which change the phase of that id; an unknown id appends a phase, and then
        ``phase_name`` is required. ``feedback_loops`` and other lists are replaced as a whole.

        Args:
            if_match: the ``revision`` that the patch was made for; another one is refused. After a
                broken connection, a retry may be refused because the first attempt was applied.

        Returns:
            The whole trajectory as stored.

        Raises:
            NotFoundError: 404.
            ConflictError: 409; the id was deleted.
            PreconditionFailedError: 412; the store has another revision.
            ServiceUnavailableError: 503; the store cannot read the current version now.
        """
        flow = recording.update(self._config, id, patch, if_match, self._client._warning_log)
        return self._driver.run(flow)

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

    def _delivery(self, *, is_background: bool) -> Delivery:
        outcome = self._client.outcomes._enqueue
        if is_background:
            return Delivery(self._client.queue.enqueue, is_background=True, outcome=outcome)
        return Delivery(self._record_run, lambda run: anyio.to_thread.run_sync(self._record_run, run), outcome=outcome)

    def _adviser(self) -> Adviser:
        return Adviser(blocking=self._advise)

    def _advise(self, phase: str, candidates: Sequence[Any], fields: Mapping[str, Any]) -> Recommendation:
        return self._driver.run(advising.recommend(quick(self._config), phase, candidates, fields))

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
        return self._driver.run(recording.record_body(self._config, body, self._client._warning_log))

    def _records(self, flow: Flow[None]) -> Iterator[StoredTrajectory]:
        with closing(self._driver.iterate(flow)) as batches:
            for records in batches:
                yield from records
