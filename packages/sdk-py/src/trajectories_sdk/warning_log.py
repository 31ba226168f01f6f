"""Log of the contradictions that the store finds in records."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

from trajectories_sdk.models import RecordWarning
from trajectories_sdk.process_lock import ProcessLock

MAX_REMEMBERED: Final = 10_000

_log = logging.getLogger("trajectories_sdk")


class WarningLog:
    """Logs each code once for each run, which may be recorded many times; one line for a code of an
    answer with many runs. Thread-safe.

    Bounded: the oldest codes are forgotten first, and may be logged again.
    """

    def __init__(self) -> None:
        self._lock = ProcessLock()
        self._logged: OrderedDict[tuple[UUID | None, str], None] = OrderedDict()

    def note(self, id_: UUID | None, warnings: Sequence[RecordWarning] | None) -> None:
        """Log the warnings of an answer that are new."""
        self.note_all([(id_, warnings)])

    def note_all(self, found: Iterable[tuple[UUID | None, Sequence[RecordWarning] | None]]) -> None:
        """Log the warnings of many runs that are new, those of one code in one line."""
        first: dict[str, tuple[UUID | None, RecordWarning]] = {}
        counts: Counter[str] = Counter()
        for id_, warnings in found:
            for one in warnings or ():
                if self._is_new((id_, one.code)):
                    first.setdefault(one.code, (id_, one))
                    counts[one.code] += 1
        for code, (id_, one) in first.items():
            where = f" at {one.path}" if one.path else ""
            more = f" So do {counts[code] - 1} more trajectories." if counts[code] > 1 else ""
            _log.warning("Trajectory %s contradicts itself%s (%s): %s%s", id_, where, code, one.message, more)

    def _is_new(self, key: tuple[UUID | None, str]) -> bool:
        with self._lock:
            if key in self._logged:
                return False
            self._logged[key] = None
            if len(self._logged) > MAX_REMEMBERED:
                self._logged.popitem(last=False)
            return True
