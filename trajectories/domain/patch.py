"""PATCH: a JSON merge patch (RFC 7396) of a stored trajectory.

Fields of the run follow RFC 7396: an object is merged, any other value replaces, null deletes.
``phases`` does not, because a merge patch would replace the whole list: each element is merged into
the stored phase of its ``phase_id``, and one with a new ``phase_id`` is appended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from typing import Annotated, Any
from uuid import UUID

import orjson
from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from trajectories.domain import redaction, schema
from trajectories.domain.contract_types import MAX_PHASES, Name, Summary, Text
from trajectories.domain.json_values import expect_few_values
from trajectories.domain.outcomes import phase_group
from trajectories.domain.quotes import in_quotes
from trajectories.exceptions import InvalidInput, Problem

_MAX_QUOTED = 100
"""Maximum characters of a phase's id or name in a message."""


def _kept(value: Any) -> Any:
    if value is None:
        raise PydanticCustomError("required", "Is required, so null cannot delete it; send a value or leave it out")
    return value


_Kept = BeforeValidator(_kept)
"""Of a field that every stored record has."""
_UNSET: Any = None
"""Default of such a field. It is not validated."""


def _without_defaults(json_schema: dict[str, Any]) -> None:
    """Remove ``default: null``: a client that sends defaults would delete every field."""
    for field in json_schema["properties"].values():
        field.pop("default", None)


_PATCH = ConfigDict(json_schema_extra=_without_defaults)


class ExplorationPatch(schema.Exploration):
    """Changes of ``exploration``; the merged object needs a strategy."""

    model_config = _PATCH

    strategy: Annotated[Name, _Kept] = _UNSET


class PhasePatch(schema.Phase):
    """Changes of the phase with this ``phase_id``, or a phase to append. Null deletes a field."""

    model_config = _PATCH

    phase_id: Annotated[Name, _Kept] = Field(
        description="The phase to change. A phase_id that the run does not have appends a phase, which needs a phase_name."
    )
    phase_name: Annotated[Name, _Kept] = _UNSET
    exploration: ExplorationPatch | None = None
    evidence: dict[Name, Text | None] | None = Field(None, max_length=MAX_PHASES)  # type: ignore[assignment]

    @model_validator(mode="before")
    @classmethod
    def _has_id(cls, value: Any) -> Any:
        if isinstance(value, dict) and "phase_id" not in value:
            raise PydanticCustomError(
                "phase_id_missing",
                "Has no phase_id, so it is not known which phase to change; to replace the phases, POST the whole record",
            )
        return value


class TrajectoryPatch(schema.Trajectory):
    """Changes of a stored trajectory, by JSON Merge Patch (RFC 7396).

    Null deletes a field; objects are merged, other values replaced. ``phases`` lists the phases to
    change or append; the others stay.
    """

    model_config = _PATCH

    id: Annotated[UUID, _Kept] = Field(_UNSET, description="That of the address, if given.")
    request_summary: Annotated[Summary, _Kept] = _UNSET
    phases: Annotated[list[PhasePatch], _Kept] = Field(_UNSET, max_length=MAX_PHASES)  # type: ignore[assignment]
    external_refs: dict[Name, Name | None] | None = Field(None, max_length=200)  # type: ignore[assignment]


def parse(data: bytes, id_: UUID) -> dict[str, Any]:
    """Parse ``data``, one JSON object, into the changes of the trajectory ``id_``.

    Returns:
        The changed fields as plain JSON values, each in its canonical form; None deletes.

    Raises:
        InvalidInput: 400; ``details`` has every problem that was found, with its path in ``data``.
        TooLarge: 413; it has more than ``json_values.MAX_VALUES`` values.
    """
    expect_few_values(data, name="patch")
    try:
        changes = TrajectoryPatch.model_validate_json(data)
    except ValidationError as error:
        raise schema.invalid_input(error) from None
    schema.refuse_repeated_keys(data)
    given = changes.model_dump(exclude_unset=True, warnings=False)
    if given.pop("id", id_) != id_:
        raise _refused("id", "other_id", f"The address names the trajectory {id_}, and the body another one")
    plain: dict[str, Any] = orjson.loads(orjson.dumps(given, option=orjson.OPT_UTC_Z))
    return plain


def apply(body: bytes, changes: Mapping[str, Any]) -> bytes:
    """Return the canonical body that ``changes``, from ``parse``, make of a canonical ``body``.

    Repeating it changes nothing more.

    Raises:
        InvalidInput: 400; the merged record is invalid, or a phase to append has no name, or
            several stored phases have the ``phase_id``.
        TooLarge: 413; the merged record has more than ``json_values.MAX_VALUES`` values.
    """
    fields = orjson.loads(body)
    merged = _merged(fields, {name: value for name, value in changes.items() if name != "phases"})
    merged["phases"] = _merged_phases(fields["phases"], changes.get("phases", ()))
    data = orjson.dumps(merged)
    expect_few_values(data)
    return schema.canonical(schema.parse(data))


def _merged(target: Any, change: Any) -> Any:
    """Return MergePatch(target, change) of RFC 7396, section 2."""
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
        # A stored phase_id may have lost a credential.
        ids = {change["phase_id"], redaction.replace_text(change["phase_id"])}
        places = [place for place, phase in enumerate(phases) if phase.get("phase_id") in ids]
        if len(places) > 1:
            message = (
                f"{len(places)} phases have the phase_id {_shown(change)}; POST the whole record, with an id for each"
            )
            raise _refused(f"phases[{number}].phase_id", "ambiguous_phase_id", message)
        if places:
            phases[places[0]] = _merged(phases[places[0]], change)
        elif "phase_name" in change:
            phases.append(_merged(None, change))
        else:
            message = (
                f"No phase has the phase_id {_shown(change)}; add a phase_name to append this phase, or correct the id"
            )
            raise _refused(f"phases[{number}].phase_name", "unknown_phase_id", message)
    return phases


def _shown(change: Mapping[str, Any]) -> str:
    return in_quotes(change["phase_id"], max_chars=_MAX_QUOTED)


def _refused(path: str, code: str, message: str) -> InvalidInput:
    return InvalidInput(f"{path}: {message}.", param=path, details=(Problem(path, code, message),))


def dropped_phases(known: bytes, body: bytes) -> str:
    """Return what of the phases of ``known`` a canonical ``body`` lacks, in words; "" if nothing."""
    before, after = (orjson.loads(one)["phases"] for one in (known, body))
    if len(after) < len(before):
        return f"{len(before)} phases are stored, and this body has {len(after)}"
    kept = {phase.get("phase_id") for phase in after}
    missing = [phase["phase_id"] for phase in before if "phase_id" in phase and phase["phase_id"] not in kept]
    if missing:
        shown = ", ".join(in_quotes(one, max_chars=_MAX_QUOTED) for one in missing[:3])
        return f"this body lacks {len(missing)} of the stored phases, such as phase_id {shown}"
    # A phase without an id is known by its name alone; it may have an id from now on.
    known_ids = {phase["phase_id"] for phase in before if "phase_id" in phase}
    lacking = _groups(before, known_ids) - _groups(after, known_ids)
    if lacking:
        shown = ", ".join(in_quotes(one, max_chars=_MAX_QUOTED) for one in list(lacking)[:3])
        return f"this body lacks {lacking.total()} of the stored phases, such as {shown}"
    return ""


def _groups(phases: Sequence[dict[str, Any]], but: Set[str]) -> Counter[str]:
    """Return how many phases each group has, without those that have one of the ids in ``but``."""
    return Counter(phase_group(phase["phase_name"]) for phase in phases if phase.get("phase_id") not in but)
