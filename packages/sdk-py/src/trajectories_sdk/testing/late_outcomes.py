"""Late outcomes of the in-memory server, by what they are about."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID, uuid5

from pydantic import ValidationError

from trajectories_sdk.testing.contract import LateOutcome
from trajectories_sdk.testing.facets import PhaseFacets
from trajectories_sdk.testing.outcomes import NOT_RUN
from trajectories_sdk.testing.refusals import Refusal, refusal_of

_FITS = ("good_fit", "underpowered", "overprovisioned", "failed")
_NAMESPACE = UUID(int=0)


class CountedOutcome(NamedTuple):
    """An outcome as stats count it: once for its run, and by phase and model for each of its
    phases."""

    name: str
    value: bool | float | str
    phase: str | None = None
    model: str | None = None


def counted(
    outcomes: Sequence[Mapping[str, Any]], phases: Sequence[PhaseFacets], ids: Sequence[str | None]
) -> tuple[list[CountedOutcome], list[CountedOutcome]]:
    """Return the outcomes of a run, and those of its phases.

    Args:
        ids: the ``phase_id`` of each phase. Of a repeated one, the first counts.
    """
    of_phases = list(_of_phases(outcomes, phases, ids))
    return [CountedOutcome(one["name"], one["value"]) for one in outcomes], of_phases


def _of_phases(
    outcomes: Sequence[Mapping[str, Any]], phases: Sequence[PhaseFacets], ids: Sequence[str | None]
) -> Iterator[CountedOutcome]:
    for one in outcomes:
        named = one.get("phase_id")
        at = None if named is None else next((place for place, id_ in enumerate(ids) if id_ == named), -1)
        for place, phase in enumerate(phases):
            if at in (None, place) and phase.outcome not in NOT_RUN:
                yield CountedOutcome(one["name"], one["value"], phase.phase, phase.model)


class LateOutcomes:
    """The outcomes of the server. Not thread-safe; the server holds a lock.

    Args:
        now: returns the present time as RFC 3339 text.
    """

    def __init__(self, now: Callable[[], str]) -> None:
        self._now = now
        self._by_target: dict[str, dict[str, dict[str, Any]]] = {}

    def record(self, data: bytes, id_: UUID | None = None, key: str | None = None) -> tuple[dict[str, Any], bool]:
        """Store one outcome. Return it, and whether it is new.

        Raises:
            Refusal: the store would refuse it.
        """
        try:
            outcome = LateOutcome.model_validate_json(data)
        except ValidationError as error:
            raise refusal_of(error) from None
        fields = json.loads(outcome.model_dump_json(exclude_none=True))
        if isinstance(fields["value"], float) and fields["value"].is_integer():
            fields["value"] = int(fields["value"])
        key = fields.pop("idempotency_key", key)
        named, reference = fields.pop("trajectory_id", None), fields.get("reference")
        if (fields["name"] == "fit") != isinstance(fields["value"], str):
            raise Refusal(
                400, "invalid_input", f"The name fit takes one of {', '.join(_FITS)}, and no other name does."
            )
        targets = [str(one) for one in (id_, named) if one is not None]
        targets += [json.dumps(reference)] if reference is not None else []
        if len(set(targets)) != 1:
            raise Refusal(400, "invalid_input", "An outcome needs one target: a trajectory_id or a reference.")
        known = self._by_target.setdefault(targets[0], {})
        name = f"key:{key}" if key else json.dumps(fields, sort_keys=True)
        outcome_id = str(uuid5(_NAMESPACE, targets[0] + name))
        if outcome_id in known:
            if any(known[outcome_id].get(field) != value for field, value in fields.items()):
                raise Refusal(
                    409,
                    "idempotency_conflict",
                    "This idempotency key was used for another outcome.",
                    param="idempotency_key",
                )
            return known[outcome_id], False
        now = self._now()
        known[outcome_id] = {"id": outcome_id, **fields, "at": fields.get("at", now), "recorded_at": now}
        return known[outcome_id], True

    def of(self, fields: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the outcomes of a record, by its fields."""
        references = dict(fields.get("external_refs") or {})
        if fields.get("session_id") is not None:
            references["session_id"] = fields["session_id"]
        targets = [fields["id"], *(json.dumps({name: value}) for name, value in references.items())]
        found = [one for target in targets for one in self._by_target.get(target, {}).values()]
        return sorted(found, key=lambda one: (one["recorded_at"], one["id"]))

    def delete(self, id_: UUID) -> None:
        """Delete the outcomes of a trajectory."""
        self._by_target.pop(str(id_), None)
