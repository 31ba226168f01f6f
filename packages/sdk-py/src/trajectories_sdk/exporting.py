"""Exports: line streams that resume after a broken connection and verify their completeness.

An end line covers the lines of its own response, so each response is verified separately. A
response that broke off has no end line: its complete lines count, and the next response starts
after the last of them. The order of lines never changes.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, Final, TypeAlias
from uuid import UUID

from pydantic import ValidationError

from trajectories_sdk.config import Config
from trajectories_sdk.errors import APIConnectionError, APIStatusError, ExportBrokenError, NotFoundError
from trajectories_sdk.flow import PATH, Block, Close, Emit, Flow, Open, Read, Step, error_of, request, wait_or_raise
from trajectories_sdk.models import StoredTrajectory
from trajectories_sdk.params import Filters
from trajectories_sdk.results import Exported, ExportProgress
from trajectories_sdk.target import Target, id_of
from trajectories_sdk.values import Id

MAX_REMEMBERED: Final = 1_000
"""Ids of the last lines. If the last record is deleted meanwhile, the export resumes from an
earlier one."""
MAX_LINE_BYTES: Final = 64 * 1024 * 1024
"""Larger than any record. A longer line has no end, and must not fill the memory."""
_END: Final = b'{"end":'
OnProgress: TypeAlias = Callable[[ExportProgress], object]


@dataclass(slots=True)
class Progress:
    """Lines received so far, over all responses."""

    digest: Any = field(default_factory=hashlib.sha256)
    count: int = 0
    size: int = 0
    resumed: int = 0
    ids: deque[UUID] = field(default_factory=lambda: deque(maxlen=MAX_REMEMBERED))

    def add(self, id_: UUID, line: bytes) -> None:
        self.digest.update(line)
        self.count += 1
        self.size += len(line)
        self.ids.append(id_)

    @property
    def max_back(self) -> int:
        """Return how many lines before the last an export can resume: to the start, or to the
        oldest remembered line."""
        return len(self.ids) - (self.count > len(self.ids))

    def id_back(self, back: int, start: UUID | None) -> UUID | None:
        """Return the id of the line ``back`` lines before the last, or ``start`` if there is none."""
        return self.ids[-1 - back] if back < len(self.ids) else start

    def last(self, back: int) -> set[UUID]:
        """Return the ids of the last ``back`` lines."""
        return set(islice(reversed(self.ids), back))

    def report_to(self, on_progress: OnProgress | None) -> None:
        if on_progress is not None:
            on_progress(ExportProgress(self.count, self.size, self.resumed))


class ExportResponse:
    """Splits, counts and hashes the lines of one response, and checks them against its end line."""

    def __init__(self, known: set[UUID]) -> None:
        """Args:
        known: ids that arrived earlier and may repeat. They are counted but not returned.
        """
        self._known = known
        self._digest = hashlib.sha256()
        self._count = 0
        self._partial_line = bytearray()
        self.cursor: UUID | None = None
        self.is_ended = False

    def lines(self, chunk: bytes) -> list[tuple[UUID, bytes]]:
        """Return the lines that ``chunk`` completes, without known ones.

        Raises:
            ExportBrokenError: a line is not a record, or the end line does not match the lines.
        """
        complete, newline, rest = chunk.rpartition(b"\n")
        if not newline:
            self._partial_line += chunk
            if len(self._partial_line) > MAX_LINE_BYTES:
                raise ExportBrokenError(f"A line of the export is longer than {MAX_LINE_BYTES} bytes.")
            return []
        data = bytes(self._partial_line) + complete
        self._partial_line = bytearray(rest)
        fresh = (self._accept(line + b"\n") for line in data.split(b"\n"))
        return [line for line in fresh if line is not None]

    def _accept(self, line: bytes) -> tuple[UUID, bytes] | None:
        if self.is_ended:
            raise ExportBrokenError("The export has lines after its end line.")
        if line.startswith(_END):
            self._check_end_line(line)
            self.is_ended = True
            return None
        id_ = id_of(line)
        self._digest.update(line)
        self._count += 1
        self.cursor = id_
        return None if id_ in self._known else (id_, line)

    def _check_end_line(self, line: bytes) -> None:
        try:
            end = json.loads(line)["end"]
            expected = end["count"], end["sha256"]
        except (ValueError, KeyError, TypeError):
            raise ExportBrokenError("The end line of the export is invalid.") from None
        found = self._count, self._digest.hexdigest()
        if expected != found:
            raise ExportBrokenError(
                f"The export does not match its end line: received {found[0]} lines with SHA-256 {found[1]},"
                f" {expected[0]} with {expected[1]} were sent."
            )


@dataclass(frozen=True, slots=True)
class Sink:
    """Handles lines: ``step`` makes the step that consumes them, ``on_progress`` is called with
    progress."""

    step: Callable[[list[bytes]], Step]
    on_progress: OnProgress | None


def lines(
    config: Config, query: Mapping[str, object], start: UUID | None, progress: Progress, sink: Sink
) -> Flow[None]:
    """Receive all lines after ``start``.

    Args:
        progress: the lines that the caller already has. It is updated, and the export continues
            after them.

    Raises:
        ExportBrokenError: the data does not match the server's count or hash.
        APIConnectionError, APIStatusError: ``max_retries`` consecutive retries made no progress.
    """
    failed, back = 0, 0
    while True:
        before = progress.count
        error = yield from _response(config, {**query, "end": 1}, start, back, progress, sink)
        if error is None:
            return
        if progress.count > before:
            failed, back = 0, 0
        if _is_cursor_gone(error) and back < progress.max_back:
            back = min(progress.max_back, back * 2 or 1)
            continue
        yield from wait_or_raise(config, error, failed)
        failed += 1
        progress.resumed += 1 if progress.count else 0


def _is_cursor_gone(error: APIConnectionError | APIStatusError) -> bool:
    """Return whether the record to resume after was deleted."""
    return isinstance(error, NotFoundError) and error.code == "invalid_cursor"


def _response(
    config: Config, query: Mapping[str, object], start: UUID | None, back: int, progress: Progress, sink: Sink
) -> Flow[APIConnectionError | APIStatusError | None]:
    """Receive one response, from ``back`` lines before the last. Return None if complete, or its
    error."""
    sent = request(config, "GET", f"{PATH}/export", {**query, "after": progress.id_back(back, start)})
    error = error_of((yield Open(sent)), sent)
    if error is not None:
        return error
    response = ExportResponse(progress.last(back))
    while (chunk := (yield Read())) is not None:
        if isinstance(chunk, APIConnectionError):
            return chunk
        fresh = response.lines(chunk)
        for id_, line in fresh:
            progress.add(id_, line)
        if fresh:
            yield sink.step([line for _, line in fresh])
            progress.report_to(sink.on_progress)
    yield Close()
    if response.is_ended:
        return None
    return APIConnectionError("The export broke off before its end line.", request_id=sent.request_id)


def records(
    config: Config, query: Mapping[str, object], after: Id | None, on_progress: OnProgress | None
) -> Flow[None]:
    """Emit lists of ``StoredTrajectory``."""
    sink = Sink(lambda lines: Emit([_record(line) for line in lines]), on_progress)
    yield from lines(config, query, _start(after), Progress(), sink)


def to_target(
    config: Config, query: Mapping[str, object], target: Target, after: Id | None, on_progress: OnProgress | None
) -> Flow[Exported]:
    """Write all lines to ``target``, after those of an interrupted export."""
    progress, start = Progress(), _start(after)
    try:
        while existing := (yield Block(target.existing_lines)):
            for line in existing:
                progress.add(id_of(line), line)
        progress.report_to(on_progress)
        sink = Sink(lambda lines: Block(partial(target.write, lines)), on_progress)
        yield from lines(config, query, start, progress, sink)
        yield Block(target.finish)
    except ExportBrokenError:
        target.discard()
        raise
    finally:
        target.close()
    return Exported(progress.count, progress.digest.hexdigest(), progress.id_back(0, start))


def _start(after: Id | None) -> UUID | None:
    return after if after is None or isinstance(after, UUID) else UUID(after)


def _record(line: bytes) -> StoredTrajectory:
    try:
        return StoredTrajectory.model_validate_json(line)
    except ValidationError:
        raise ExportBrokenError("A line of the export is not a trajectory.") from None


def identity(config: Config, after: Id | None, filters: Filters) -> dict[str, object]:
    """Return what tells one export from another, so that a partial file is resumed by the same
    export only."""
    return {**filters, "base_url": config.base_url, "after": after}
