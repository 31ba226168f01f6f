"""Pending records of the background queue: batches of lines in order of arrival, and their limits.

Not thread-safe; the caller holds a lock.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from trajectories_sdk.spool import FileSegment, Line, Segment, Spool

_log = logging.getLogger("trajectories_sdk")


class NumberedLine(NamedTuple):
    """A line and its number: over all batches of this process, or within an inherited batch."""

    number: int
    line: Line


class Batch:
    """A segment to send. ``first`` is the number of its first line; None if another process left
    it."""

    def __init__(self, segment: Segment, first: int | None) -> None:
        self.segment = segment
        self.first = first
        self.undecided: dict[bytes, int] | None = None  # of an inherited batch: the last line of each undecided id

    @property
    def numbers(self) -> range:
        """Return the numbers of its lines."""
        return range(self.first or 0, (self.first or 0) + self.segment.records)

    def wanted(self, lines: Sequence[Line], newest: Mapping[bytes, int]) -> list[NumberedLine]:
        """Return the lines that are undecided and have no newer pending version.

        Args:
            newest: the number of the newest pending line for each id of this process.
        """
        if self.first is not None:
            numbered = (NumberedLine(number, line) for number, line in enumerate(lines, self.first))
            return [one for one in numbered if newest.get(one.line.key) == one.number]
        if self.undecided is None:
            self.undecided = {line.key: number for number, line in enumerate(lines)}
        left = [
            NumberedLine(number, line) for number, line in enumerate(lines) if self.undecided.get(line.key) == number
        ]
        return [one for one in left if one.line.key not in newest]


class PendingQueue:
    """Batches and limits of one queue."""

    def __init__(self, spool: Spool, *, max_records: int, max_bytes: int) -> None:
        self.inherited: deque[Batch] = deque()
        self.own: deque[Batch] = deque()
        self.newest: dict[bytes, int] = {}
        self.next_number = 0
        self._spool = spool
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._open: Batch | None = None  # the last of ``own`` while it still grows
        self._bytes = self._foreign_bytes = 0
        self._is_full = self._is_disk_unavailable = False

    # --- Adding

    def keep(self, line: Line) -> Batch | None:
        """Add a line, and return its batch, or None if the queue is full."""
        is_over = len(self.newest) >= self._max_records and line.key not in self.newest
        if is_over or self._bytes + self._foreign_bytes + line.written_bytes > self._max_bytes:
            self._warn_full()
            return None
        batch = self._append(line)
        self.newest[line.key] = self.next_number
        self.next_number += 1
        self._bytes += line.written_bytes
        self._is_full = False
        return batch

    def take_over(self, segments: Sequence[FileSegment], foreign_bytes: int) -> None:
        """Add segments of ended processes. ``foreign_bytes`` wait in segments that other processes
        hold."""
        self.inherited.extend(Batch(segment, None) for segment in segments)
        self._bytes += sum(segment.bytes for segment in segments)
        self._foreign_bytes = foreign_bytes

    def _append(self, line: Line) -> Batch:
        has_room = self._open is not None and self._open.segment.has_room(line)
        batch = self._open if self._open is not None and has_room else self._new_batch(self._new_segment())
        try:
            batch.segment.append(line)
        except OSError as error:
            self._warn_disk_unavailable(error)
            batch = self._new_batch(Segment())
            batch.segment.append(line)
        return batch

    def _new_batch(self, segment: Segment) -> Batch:
        self._open = Batch(segment, self.next_number)
        self.own.append(self._open)
        return self._open

    def _new_segment(self) -> Segment:
        try:
            segment = self._spool.begin()
        except OSError as error:
            self._warn_disk_unavailable(error)
            return Segment()
        self._is_disk_unavailable = False
        return segment

    def _warn_full(self) -> None:
        if not self._is_full:
            _log.warning("The queue is full: %d records wait, and new ones are dropped", len(self.newest))
        self._is_full = True

    def _warn_disk_unavailable(self, error: OSError) -> None:
        if not self._is_disk_unavailable:
            _log.warning("Records are kept in memory only and are lost if this process is killed: %s", error)
        self._is_disk_unavailable = True

    # --- State

    @property
    def records(self) -> int:
        """Return the number of pending ids."""
        return len(self.newest) + sum(len(batch.undecided or ()) for batch in self.inherited)

    @property
    def in_memory(self) -> int:
        """Return the number of ids that are pending in memory only."""
        numbers = [batch.numbers for batch in self.own if not batch.segment.is_on_disk]
        if not numbers:
            return 0
        return sum(1 for number in self.newest.values() if any(number in some for some in numbers))

    @property
    def is_lingering(self) -> bool:
        """Return whether only a batch that still grows is pending."""
        return not self.inherited and bool(self.own) and self.own[0] is self._open

    @property
    def files(self) -> set[FileSegment]:
        """Return the segments that this process holds."""
        return {batch.segment for batch in (*self.own, *self.inherited) if isinstance(batch.segment, FileSegment)}

    def has_own_before(self, number: int) -> bool:
        """Return whether a pending batch starts before this number."""
        return bool(self.own) and self.own[0].numbers.start < number

    # --- Removing

    def next(self) -> Batch | None:
        """Return the batch to send, and stop adding lines to it.

        Inherited batches go first: if this process has the same id, its version is newer.
        """
        batch = self.inherited[0] if self.inherited else self.own[0] if self.own else None
        if batch is self._open:
            self._open = None
        return batch

    def decide(self, batch: Batch, decided: Sequence[NumberedLine]) -> None:
        """Remove sent or refused lines. A newer line of the same id stays."""
        waiting = self.newest if batch.first is not None else batch.undecided or {}
        for number, line in decided:
            if waiting.get(line.key) == number:
                del waiting[line.key]

    def drop(self, batch: Batch) -> int:
        """Remove all lines of a batch, and return how many ids were lost."""
        numbers = batch.numbers
        lost = [key for key, number in self.newest.items() if number in numbers] if batch.first is not None else []
        for key in lost:
            del self.newest[key]
        return len(lost)

    def remove(self, batch: Batch) -> None:
        """Remove a decided batch. The caller discards its segment."""
        (self.own if batch.first is not None else self.inherited).remove(batch)
        self._bytes -= batch.segment.bytes

    def release(self) -> None:
        """Release all segments to other processes; in a forked child, to the parent."""
        for batch in (*self.own, *self.inherited):
            batch.segment.release()
