"""Merge patches of the in-memory server, by the store's rules."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from pydantic import ValidationError

from trajectories_sdk.testing.contract import TrajectoryPatch
from trajectories_sdk.testing.refusals import Refusal, refusal_of

_KEPT: Final = ("id", "request_summary", "phases", "phase_id", "phase_name", "strategy")
"""Fields that null cannot delete."""


def parse(data: bytes, id_: UUID) -> dict[str, Any]:
    """Return the changed fields; None deletes.

    Raises:
        Refusal: 400, with every problem.
    """
    try:
        given = json.loads(data)
        TrajectoryPatch.model_validate_json(data)
    except ValidationError as error:
        refusal = refusal_of(error)
        for one in refusal.error["details"]:
            if one["code"] == "missing":  # only a phase_id is required
                one |= {"path": one["path"].rpartition(".")[0], "code": "phase_id_missing"}
        refusal.error["param"] = refusal.error["details"][0]["path"]
        raise refusal from None
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "invalid_json", f"Invalid JSON: {error}") from None
    problems = [
        {"path": path, "code": "required", "message": "Is required, so null cannot delete it"}
        for path in _deleted(given)
    ]
    if problems:
        message = f"{problems[0]['path']}: {problems[0]['message']}"
        raise Refusal(400, "invalid_input", message, param=problems[0]["path"], details=problems)
    if UUID(given.pop("id", str(id_))) != id_:
        raise _refused("id", "other_id", f"The address names the trajectory {id_}, and the body another one")
    return dict(given)


def _deleted(fields: Mapping[str, Any], path: str = "") -> list[str]:
    """Return the paths of required fields that are null."""
    found = [f"{path}{name}" for name in _KEPT if name in fields and fields[name] is None]
    for number, phase in enumerate(fields.get("phases") or ()):
        found += _deleted(phase, f"phases[{number}].")
    if fields.get("exploration"):
        found += _deleted(fields["exploration"], f"{path}exploration.")
    return found


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
