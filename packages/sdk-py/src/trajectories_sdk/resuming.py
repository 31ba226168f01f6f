"""Runs that go on under their id after a pause or a cancellation."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from trajectories_sdk.process_lock import ProcessLock
from trajectories_sdk.totals import INTERRUPTED

MAX_REMEMBERED: Final = 1_000
FLUSH_TIMEOUT_S: Final = 5.0
"""How long a run that resumes waits for its earlier record to be sent from the queue."""
RESUMES: Final = "trajectories:resumes"
"""Key in ``metadata``: the id of the run that this one resumes, if the store could not be asked."""
_COMPUTED: Final = frozenset(
    {
        "id",
        "phases",
        "feedback_loops",
        "outcome",
        "error",
        "started_at",
        "ended_at",
        "recorded_at",
        "revision",
        "derived",
        "warnings",
    }
    | {"total_duration_ms", "total_cost_usd", "total_phases", "phases_skipped"}
)


@dataclass(frozen=True, slots=True)
class Earlier:
    """The earlier record of a run, and where to find it, for blocking and for async callers."""

    remember: Callable[[Mapping[str, Any], bool], None]
    find: Callable[[UUID], Mapping[str, Any] | None]
    find_awaited: Callable[[UUID], Awaitable[Mapping[str, Any] | None]]


class InterruptedRuns:
    """The last records of this client's runs that paused or were cancelled. Thread-safe.

    Bounded: the oldest go first.
    """

    def __init__(self) -> None:
        self._lock = ProcessLock()
        self._records: OrderedDict[str, Mapping[str, Any]] = OrderedDict()

    def remember(self, record: Mapping[str, Any], is_interrupted: bool, /) -> None:
        """Keep the record of a run if it or its last phase was interrupted, and forget it
        otherwise."""
        last = {str(phase["phase_name"]): phase.get("outcome") for phase in record["phases"]}
        with self._lock:
            self._records.pop(record["id"], None)
            if is_interrupted or INTERRUPTED & set(last.values()):
                self._records[record["id"]] = record
            if len(self._records) > MAX_REMEMBERED:
                self._records.popitem(last=False)

    def find(self, id_: UUID) -> Mapping[str, Any] | None:
        with self._lock:
            return self._records.get(str(id_))


def carried_over(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that a resumed run keeps, without what the recorder computes."""
    return {name: value for name, value in record.items() if name not in _COMPUTED and value is not None}
