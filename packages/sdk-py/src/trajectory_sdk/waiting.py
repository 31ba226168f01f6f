"""What waits in the background queue: lots of lines, in the order in which they came, and the bounds on them. Without locks."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from trajectory_sdk.spool import FileSegment, Line, Segment, Spool

_log = logging.getLogger("trajectory_sdk")


class NumberedLine(NamedTuple):
    """A line with its number: over all lots of this process, or in the one that another process has left."""

    number: int
    line: Line


class Lot:
    """A segment on its way. ``first`` is the number of its first line; None: another process has left it."""

    def __init__(self, segment: Segment, first: int | None) -> None:
        self.segment = segment
        self.first = first
        self.left: dict[bytes, int] | None = None  # of one that was left: each id's last line, until it is decided

    @property
    def numbers(self) -> range:
        """Of its lines."""
        return range(self.first or 0, (self.first or 0) + self.segment.records)

    def wanted(self, lines: Sequence[Line], newest: Mapping[bytes, int]) -> list[NumberedLine]:
        """Those lines that are not decided yet, and for whose id no newer one waits.

        Args:
            newest: for each id of this process that waits, the number of its newest line.
        """
        if self.first is not None:
            numbered = (NumberedLine(number, line) for number, line in enumerate(lines, self.first))
            return [one for one in numbered if newest.get(one.line.key) == one.number]
        if self.left is None:
            self.left = {line.key: number for number, line in enumerate(lines)}
        left = [NumberedLine(number, line) for number, line in enumerate(lines) if self.left.get(line.key) == number]
        return [one for one in left if one.line.key not in newest]


class Waiting:
    """Lots and bounds of one queue."""

    def __init__(self, spool: Spool, *, max_records: int, max_bytes: int) -> None:
        self.left: deque[Lot] = deque()
        self.own: deque[Lot] = deque()
        self.newest: dict[bytes, int] = {}
        self.next_number = 0
        self._spool = spool
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._open: Lot | None = None  # the last of ``own``, as long as lines are added to it
        self._bytes = self._others_bytes = 0
        self._is_full = self._is_disk_away = False

    # --- Coming

    def keep(self, line: Line) -> Lot | None:
        """The lot that the line now waits in; None: there is no room."""
        is_over = len(self.newest) >= self._max_records and line.key not in self.newest
        if is_over or self._bytes + self._others_bytes + line.written_bytes > self._max_bytes:
            self._tell_full()
            return None
        lot = self._append(line)
        self.newest[line.key] = self.next_number
        self.next_number += 1
        self._bytes += line.written_bytes
        self._is_full = False
        return lot

    def take_over(self, segments: Sequence[FileSegment], others_bytes: int) -> None:
        """Have these sent too; ``others_bytes`` wait in what other processes hold."""
        self.left.extend(Lot(segment, None) for segment in segments)
        self._bytes += sum(segment.bytes for segment in segments)
        self._others_bytes = others_bytes

    def _append(self, line: Line) -> Lot:
        has_room = self._open is not None and self._open.segment.has_room(line)
        lot = self._open if self._open is not None and has_room else self._new_lot(self._new_segment())
        try:
            lot.segment.append(line)
        except OSError as error:
            self._tell_disk_away(error)
            lot = self._new_lot(Segment())
            lot.segment.append(line)
        return lot

    def _new_lot(self, segment: Segment) -> Lot:
        self._open = Lot(segment, self.next_number)
        self.own.append(self._open)
        return self._open

    def _new_segment(self) -> Segment:
        try:
            segment = self._spool.begin()
        except OSError as error:
            self._tell_disk_away(error)
            return Segment()
        self._is_disk_away = False
        return segment

    def _tell_full(self) -> None:
        if not self._is_full:
            _log.warning("The queue is full, with %d records waiting; what comes now is dropped", len(self.newest))
        self._is_full = True

    def _tell_disk_away(self, error: OSError) -> None:
        if not self._is_disk_away:
            _log.warning("Records wait in memory, and are lost if this process is killed: %s", error)
        self._is_disk_away = True

    # --- There

    @property
    def records(self) -> int:
        """Ids that wait."""
        return len(self.newest) + sum(len(lot.left or ()) for lot in self.left)

    @property
    def in_memory(self) -> int:
        """Ids that wait in memory alone."""
        numbers = [lot.numbers for lot in self.own if not lot.segment.is_on_disk]
        if not numbers:
            return 0
        return sum(1 for number in self.newest.values() if any(number in some for some in numbers))

    @property
    def is_gathering(self) -> bool:
        """Whether all that waits is a lot that goes on growing."""
        return not self.left and bool(self.own) and self.own[0] is self._open

    @property
    def files(self) -> set[FileSegment]:
        """The segments that this process holds."""
        return {lot.segment for lot in (*self.own, *self.left) if isinstance(lot.segment, FileSegment)}

    def has_own_before(self, number: int) -> bool:
        """Whether a lot waits that began before this number."""
        return bool(self.own) and self.own[0].numbers.start < number

    # --- Going

    def next(self) -> Lot | None:
        """The lot to send; from now on it does not grow.

        What others have left goes first: of an id that they have begun and this process goes on with, ours is newer.
        """
        lot = self.left[0] if self.left else self.own[0] if self.own else None
        if lot is self._open:
            self._open = None
        return lot

    def decide(self, lot: Lot, decided: Sequence[NumberedLine]) -> None:
        """Wait for these no more. A newer line of the same id goes on waiting."""
        waiting = self.newest if lot.first is not None else lot.left or {}
        for number, line in decided:
            if waiting.get(line.key) == number:
                del waiting[line.key]

    def give_up(self, lot: Lot) -> int:
        """Wait for none of a lot any more; for how many ids that was."""
        numbers = lot.numbers
        lost = [key for key, number in self.newest.items() if number in numbers] if lot.first is not None else []
        for key in lost:
            del self.newest[key]
        return len(lost)

    def remove(self, lot: Lot) -> None:
        """Forget a lot of which all is decided; its segment is the caller's to discard."""
        (self.own if lot.first is not None else self.left).remove(lot)
        self._bytes -= lot.segment.bytes

    def let_go(self) -> None:
        """Leave everything to whoever comes next. In a child after a fork, that is the parent."""
        for lot in (*self.own, *self.left):
            lot.segment.let_go()
