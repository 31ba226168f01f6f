"""Late outcomes: results of a run that are known after it was recorded, such as a merged pull
request.

An outcome is about a trajectory or about a reference, such as a pull request, which runs name in
``external_refs`` or ``session_id``. Both are a *target*, a UUID, so an outcome can arrive before
its run. The outcomes of a run are those of its targets: a function of the run's body and of a set
that only grows, so the order of arrival does not matter, up to the characters of references that a
run gets (``archive_outcomes.MAX_REFERRED_CHARS``): it keeps those that came while there was room.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple
from uuid import UUID, uuid5

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    PlainValidator,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from trajectories.domain import redaction, schema
from trajectories.domain.clock import rfc3339
from trajectories.domain.contract_types import FITS, MAX_NAME, NO_NUL, Fit, Instant, Name, Text, plain, plain_number
from trajectories.domain.quotes import Quotes
from trajectories.exceptions import InvalidInput, TooLarge

MAX_OUTCOME_BYTES = 16 * 1024
"""Maximum size of an outcome, as sent and as stored. A run may have ``outcomes_per_target`` of
them."""
MAX_VALUE = 10**9
"""Bound of a number: sums in millionths stay within 64 bits."""
MICRO = 1_000_000
NO_PHASE = -1
"""Place of the phase of an outcome whose ``phase_id`` the run does not have."""

_REFERENCES = UUID("6e0e6d0a-7b5f-5d0e-9f0c-3f4d8a5f2b11")
_SESSION = "session_id"


def _from_key(value: Any) -> Any:
    if value is not None:
        raise PydanticCustomError("source_of_key", "Comes from the API key (create_api_key --source); leave it out")
    return None


def _value(value: Any) -> bool | float | str:
    if isinstance(value, bool) or (isinstance(value, str) and value in FITS):
        return value
    if isinstance(value, int | float) and abs(value) <= MAX_VALUE:  # false for NaN
        return plain_number(float(value))
    raise PydanticCustomError(
        "outcome_value", f"Input should be true, false, a number within {MAX_VALUE:,}, or for the name fit a word of it"
    )


FilledName = Annotated[str, StringConstraints(pattern=NO_NUL, min_length=1, max_length=MAX_NAME)]
Value = Annotated[
    bool | float | Fit,
    PlainValidator(_value),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "boolean"},
                {"type": "number", "minimum": -MAX_VALUE, "maximum": MAX_VALUE},
                {"type": "string", "enum": list(FITS)},
            ]
        }
    ),
]


class LateOutcome(BaseModel):
    """An outcome of a trajectory or of a reference, known after the run was recorded."""

    model_config = schema.STRICT

    name: FilledName = Field(
        description="Such as merged, reverted, ci_passed or review_score; fit has a word as value."
    )
    value: Value = Field(
        description="true or false, a number, or for the name fit one of good_fit, underpowered, overprovisioned, failed."
    )
    phase_id: FilledName | None = Field(None, description="The phase that it is about; else the run.")
    at: Instant | None = Field(None, description="When it became known; by default, when it is accepted.")
    evidence: Annotated[dict[Name, Text], AfterValidator(plain)] | None = Field(
        None, max_length=20, description="Where it can be seen: a log, a review."
    )
    idempotency_key: FilledName | None = Field(
        None,
        description="The same key for the same target is the same outcome; else outcomes that are equal are one."
        " The header Idempotency-Key does the same.",
    )
    trajectory_id: UUID | None = Field(
        None, description="The run that it is about. The address names it, or this, or reference."
    )
    reference: Annotated[dict[FilledName, FilledName], AfterValidator(plain)] | None = Field(
        None,
        min_length=1,
        max_length=1,
        description="One entry of external_refs, such as a pull request, or session_id: it is an outcome of each run that"
        " has it, also of later ones.",
    )
    source: Annotated[None, BeforeValidator(_from_key)] = Field(None, description="Refused: it comes from the API key.")

    @model_validator(mode="after")
    def _checked(self) -> LateOutcome:
        if (self.name == "fit") != isinstance(self.value, str):
            raise PydanticCustomError(
                "fit_value", f"The name fit takes one of {', '.join(FITS)}, and no other name does"
            )
        if self.trajectory_id is not None and self.reference is not None:
            raise PydanticCustomError("two_targets", "Has both trajectory_id and reference; send one of them")
        return self


class Prepared(NamedTuple):
    """A validated outcome: what it is about, its id there, and its canonical JSON object."""

    target: UUID
    id: UUID
    body: bytes


def prepare(
    data: bytes,
    *,
    source: str | None,
    now_us: int,
    trajectory_id: UUID | None,
    key: str | None,
    redact: bool,
    quotes: Quotes | None = None,
) -> Prepared:
    """Validate ``data``, one JSON object.

    Args:
        source: that of the credential.
        now_us: when it is accepted, in microseconds since 1970.
        trajectory_id: that of the address; None if the body must name a target.
        key: idempotency key of the request; one in the body comes first.
        redact: replace credentials.
        quotes: those of the request, if it has several bodies.

    Raises:
        InvalidInput: 400; ``details`` has every problem that was found.
        TooLarge: 413; it has more than MAX_OUTCOME_BYTES.
    """
    if len(data) > MAX_OUTCOME_BYTES:
        raise _too_large(len(data))
    try:
        outcome = LateOutcome.model_validate_json(data)
    except ValidationError as error:
        raise schema.invalid_input(error, root=LateOutcome, own_data="evidence", quotes=quotes) from None
    schema.refuse_repeated_keys(data, quotes=quotes)
    given = orjson.loads(orjson.dumps(outcome.model_dump(exclude_none=True, warnings=False), option=orjson.OPT_UTC_Z))
    key, named = given.pop("idempotency_key", key), given.pop("trajectory_id", None)
    if redact:
        clean, found = redaction.replace(orjson.dumps(given))
        given = orjson.loads(clean) if found else given
    target = _target(trajectory_id, named and UUID(named), given.get("reference"))
    content = given if source is None else given | {"source": source}
    id_ = uuid5(
        target, f"key:{key}" if key else "content:" + orjson.dumps(content, option=orjson.OPT_SORT_KEYS).decode()
    )
    accepted = rfc3339(now_us).decode()
    body = orjson.dumps({"id": str(id_)} | content | {"at": content.get("at", accepted), "recorded_at": accepted})
    if len(body) > MAX_OUTCOME_BYTES:
        raise _too_large(len(body))
    return Prepared(target, id_, body)


def _target(of_address: UUID | None, of_body: UUID | None, reference: Mapping[str, str] | None) -> UUID:
    if of_address is not None:
        if reference is not None or of_body not in (None, of_address):
            raise InvalidInput(
                f"The address names the trajectory {of_address}, and the body another target; leave that out.",
                param="reference" if reference is not None else "trajectory_id",
            )
        return of_address
    if reference is not None:
        return reference_id(*next(iter(reference.items())))
    if of_body is None:
        raise InvalidInput("An outcome needs a trajectory_id or a reference.", param="trajectory_id")
    return of_body


def _too_large(size: int) -> TooLarge:
    return TooLarge(
        f"An outcome must not exceed {MAX_OUTCOME_BYTES} bytes, got {size}. Shorten its evidence.",
        code="outcome_too_large",
    )


def is_same(known: bytes, given: bytes) -> bool:
    """Return whether two outcomes with one id say the same, whenever they were accepted."""
    return _said(orjson.loads(known)) == _said(orjson.loads(given))


def _said(outcome: Mapping[str, Any]) -> dict[str, Any]:
    # A client that gives no time gets that of the acceptance, so a retry has another one.
    ignored = {"recorded_at", "at"} if outcome["at"] == outcome["recorded_at"] else {"recorded_at"}
    return {name: value for name, value in outcome.items() if name not in ignored}


def reference_id(name: str, value: str) -> UUID:
    """Return the target of a reference."""
    return uuid5(_REFERENCES, orjson.dumps([name, value]).decode())


def references_of(fields: Mapping[str, Any]) -> list[UUID]:
    """Return the targets of the references of a canonical body, parsed."""
    named = [*fields.get("external_refs", {}).items()]
    if (session := fields.get(_SESSION)) is not None:
        named.append((_SESSION, session))
    return [reference_id(name, value) for name, value in dict.fromkeys(named)]


def has_references(body: bytes) -> bool:
    """Return whether a body may have references; a false yes only costs the time to parse it."""
    return b'"external_refs":' in body or b'"session_id":' in body


def join(known: bytes, other: bytes) -> bytes:
    """Return the union of two JSON lists of outcomes, by time of acceptance.

    An outcome that two hosts have accepted keeps its form in ``known``.
    """
    if not other or known == other:
        return known
    return join_all([known, other]) if known else other


def join_all(lists: Sequence[bytes]) -> bytes:
    """Return the union of JSON lists of outcomes, as ``join`` would one after another."""
    if len(lists) == 1:
        return lists[0]
    return collect([one for text in reversed(lists) for one in orjson.loads(text)])


def collect(outcomes: Iterable[Mapping[str, Any]]) -> bytes:
    """Return outcomes as a JSON list, by time of acceptance; of one id, the last form stays."""
    by_id = {one["id"]: one for one in outcomes}
    if not by_id:
        return b""
    return orjson.dumps(sorted(by_id.values(), key=lambda one: (one["recorded_at"], one["id"])))


def count(outcomes: bytes) -> int:
    """Return the number of outcomes in a JSON list."""
    return len(orjson.loads(outcomes)) if outcomes else 0


def shown(outcomes: bytes, fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the outcomes of a run, in the order of their acceptance.

    Args:
        outcomes: a JSON list, which may have outcomes of references that the run no longer has.
        fields: its canonical body, parsed.
    """
    if not outcomes:
        return []
    found = orjson.loads(outcomes)
    if not any("reference" in one for one in found):
        return list(found)
    references = set(references_of(fields))
    return [
        one
        for one in found
        if "reference" not in one or reference_id(*next(iter(one["reference"].items()))) in references
    ]


class LateFacets(NamedTuple):
    """An outcome as stats count it. ``place`` is that of its phase, None for the run.

    One of ``is_true``, ``value_micro`` and ``fit`` is set.
    """

    name: str
    place: int | None
    is_true: bool | None
    value_micro: int | None
    fit: str | None


def depend_on_run(outcomes: bytes) -> bool:
    """Return whether the facets of these outcomes depend on the fields of the run; a false yes only
    costs the time to parse it."""
    return b'"phase_id":' in outcomes or b'"reference":' in outcomes


def facets_of_outcomes(outcomes: bytes, fields: Mapping[str, Any]) -> tuple[LateFacets, ...]:
    """Return the facets of the outcomes of a run; arguments as in ``shown``."""
    return tuple(_facets(shown(outcomes, fields), fields)) if outcomes else ()


def _facets(outcomes: list[dict[str, Any]], fields: Mapping[str, Any]) -> Iterator[LateFacets]:
    places = places_of(fields)
    for one in outcomes:
        value, phase_id = one["value"], one.get("phase_id")
        is_bool, is_word = isinstance(value, bool), isinstance(value, str)
        yield LateFacets(
            name=one["name"],
            place=None if phase_id is None else places.get(phase_id, NO_PHASE),
            is_true=value if is_bool else None,
            value_micro=None if is_bool or is_word else round(value * MICRO),
            fit=value if is_word else None,
        )


def places_of(fields: Mapping[str, Any]) -> dict[str, int]:
    """Return the place of each ``phase_id``: of a repeated one, the first."""
    return {phase["phase_id"]: at for at, phase in reversed([*enumerate(fields["phases"])]) if "phase_id" in phase}
