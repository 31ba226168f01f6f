"""Merge patches of the in-memory server, by the store's rules."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from pydantic import ValidationError

from trajectories_sdk.testing.contract import TrajectoryPatch
from trajectories_sdk.testing.refusals import Refusal, refusal_of

SET_BY_SERVER: Final = ("recorded_at", "revision", "derived", "warnings", "outcomes")
"""Fields that only the server sets. It ignores those of a body."""
_KEPT: Final = ("id", "request_summary", "phases", "phase_id", "phase_name", "strategy")
"""Fields that null cannot delete."""


def parse(data: bytes, id_: UUID) -> dict[str, Any]:
    """Return the changed fields; None deletes.

    Raises:
        Refusal: 400, with every problem.
    """
    try:
        given = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "invalid_json", f"Invalid JSON: {error}") from None
    if isinstance(given, dict):
        given = {name: value for name, value in given.items() if name not in SET_BY_SERVER}
    problems = _problems(given)
    if problems:
        message = f"{problems[0]['path']}: {problems[0]['message']}".removeprefix(": ")
        raise Refusal(400, "invalid_input", message, param=problems[0]["path"] or None, details=problems)
    if UUID(given.pop("id", str(id_))) != id_:
        raise _refused("id", "other_id", f"The address names the trajectory {id_}, and the body another one")
    return dict(given)


def _problems(given: Any) -> list[dict[str, str]]:
    """Return every problem, those of deleted fields first."""
    try:
        TrajectoryPatch.model_validate_json(json.dumps(given))
    except ValidationError as error:
        problems: list[dict[str, str]] = refusal_of(error).error["details"]
    else:
        problems = []
    for one in problems:
        if one["code"] == "missing":  # only a phase_id is required
            one |= {"path": one["path"].rpartition(".")[0], "code": "phase_id_missing"}
    message = "Is required, so null cannot delete it"
    return [*({"path": path, "code": "required", "message": message} for path in _deleted(given)), *problems]


def _deleted(fields: Any, path: str = "") -> list[str]:
    """Return the paths of required fields that are null."""
    if not isinstance(fields, dict):
        return []
    found = [f"{path}{name}" for name in _KEPT if name in fields and fields[name] is None]
    phases = fields.get("phases")
    for number, phase in enumerate(phases if isinstance(phases, list) else ()):
        found += _deleted(phase, f"phases[{number}].")
    return found + _deleted(fields.get("exploration"), f"{path}exploration.")


def applied(fields: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record that the changes make of a stored one.

    Raises:
        Refusal: 400; a phase to append has no name, or several phases have the id.
    """
    merged = _merged(fields, {name: value for name, value in changes.items() if name != "phases"})
    return {**merged, "phases": _merged_phases(fields["phases"], changes.get("phases", ()))}


def _merged(target: Any, change: Any) -> Any:
    """Merge by RFC 7396."""
    if not isinstance(change, dict):
        return change
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in change.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merged(merged.get(name), value)
    return merged


def _merged_phases(stored: Sequence[dict[str, Any]], changes: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    phases = list(stored)
    for number, change in enumerate(changes):
        id_ = change["phase_id"]
        places = [place for place, phase in enumerate(phases) if phase.get("phase_id") == id_]
        if len(places) > 1:
            raise _refused(
                f"phases[{number}].phase_id", "ambiguous_phase_id", f"{len(places)} phases have the id {id_!r}"
            )
        if places:
            phases[places[0]] = _merged(phases[places[0]], change)
        elif "phase_name" in change:
            phases.append(_merged(None, change))
        else:
            raise _refused(f"phases[{number}].phase_name", "unknown_phase_id", f"No phase has the id {id_!r}")
    return phases


def _refused(path: str, code: str, message: str) -> Refusal:
    details = [{"path": path, "code": code, "message": message}]
    return Refusal(400, "invalid_input", f"{path}: {message}.", param=path, details=details)
