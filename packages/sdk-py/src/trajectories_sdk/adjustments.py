"""Changes to a record that the background makes so that the run is kept, with their counts.

A value that JSON cannot hold becomes the closest JSON. Phases beyond the limit are left out. A
field that the server refuses is left out (``repair.py``). Each change is counted, and logged once a
kind.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID, uuid4

from trajectories_sdk.process_lock import ProcessLock
from trajectories_sdk.recording import AnyTrajectory, encoded
from trajectories_sdk.repair import LeftOut
from trajectories_sdk.totals import totals_of
from trajectories_sdk.values import ClosestJson

MAX_PHASES: Final = 200
"""The server accepts records of at most this many phases."""
MAX_RECORD_BYTES: Final = 1024 * 1024
"""The server accepts records of at most this size, unless it is configured otherwise."""
PHASES_LEFT_OUT: Final = "trajectories:phases_left_out"
"""Key in ``metadata``: how many phases were left out of a record."""
_MAX_CHARS: Final = (None, 10_000, 500, 50)
"""Limits of each text, tried in turn until the record is small enough."""
_MAX_KINDS: Final = 1_000
_INDEX: Final = re.compile(r"\[\d+\]")

_log = logging.getLogger("trajectories_sdk")


class Adjustments:
    """Counts the changes, and logs the first of each kind. Thread-safe."""

    def __init__(self) -> None:
        self.replaced = 0
        """Values that were written as the closest JSON, and phases that were left out."""
        self.left_out = 0
        """Fields that the server refused."""
        self._lock = ProcessLock()
        self._logged: set[str] = set()

    def kept(self, trajectory: AnyTrajectory) -> tuple[UUID, bytes]:
        """Return the id and the JSON of a record, whatever its values are.

        Raises:
            TypeError: the trajectory is not an object with fields.
        """
        for max_chars in _MAX_CHARS:
            form = ClosestJson(max_chars=max_chars)
            fields = form.of(trajectory)
            if not isinstance(fields, dict):
                raise TypeError(f"A trajectory must be a mapping of fields, got {type(trajectory).__name__}")
            id_ = fields["id"] = _id(fields.get("id"), form)
            body = encoded(_within_limit(fields, form))
            if len(body) <= MAX_RECORD_BYTES:
                break
        for kind, times in form.replaced.items():
            self._count_replaced(id_, kind, times)
        return UUID(id_), body

    def count_left_out(self, id_: str, one: LeftOut) -> None:
        """Count a field that the server refused."""
        with self._lock:
            self.left_out += 1
        self._log_once(
            _INDEX.sub("[]", one.path),
            f"The server refuses the field {one.path} of trajectory {id_}, so it is left out: {one.message}",
        )

    def _count_replaced(self, id_: str, kind: str, times: int) -> None:
        with self._lock:
            self.replaced += times
        self._log_once(kind, f"Trajectory {id_} cannot hold all values as they are, so {times} were changed: {kind}")

    def _log_once(self, kind: str, message: str) -> None:
        with self._lock:
            if kind in self._logged or len(self._logged) >= _MAX_KINDS:
                return
            self._logged.add(kind)
        _log.warning("%s. Further ones of this kind are counted only.", message.rstrip("."))


def _id(given: Any, form: ClosestJson) -> str:
    if given is None:
        return str(uuid4())
    try:
        return str(UUID(str(given)))
    except ValueError:
        form.replaced["id that is not a UUID"] += 1
        return str(uuid4())


def _within_limit(fields: dict[str, Any], form: ClosestJson) -> Mapping[str, Any]:
    """Return the fields with the first ``MAX_PHASES`` phases, and the totals of all."""
    phases = fields.get("phases")
    if not isinstance(phases, list) or len(phases) <= MAX_PHASES:
        return fields
    left_out = len(phases) - MAX_PHASES
    form.replaced["phase beyond the limit"] += left_out
    metadata = fields.get("metadata")
    known = {name: value for name, value in fields.items() if value is not None}
    return {
        **totals_of([phase for phase in phases if isinstance(phase, dict)]),
        **known,
        "phases": phases[:MAX_PHASES],
        "metadata": {**(metadata if isinstance(metadata, dict) else {}), PHASES_LEFT_OUT: left_out},
    }
