"""The wire contract: the definition of a trajectory, validated straight from bytes.

The types of the fields, with their bounds, are in ``contract_types``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)
from pydantic_core import ErrorDetails

from trajectories.domain.contract_types import (
    MAX_INT,
    MAX_LOOPS,
    MAX_PHASES,
    MAX_PROBLEMS,
    Cost,
    Count,
    Fit,
    FreeObject,
    Instant,
    Loc,
    Milliseconds,
    Name,
    Number,
    Outcome,
    PhaseOutcome,
    Probability,
    SelectionMethod,
    Summary,
    Text,
    Tools,
    integer,
    plain,
)
from trajectories.domain.quotes import Quotes
from trajectories.domain.text import quoted
from trajectories.exceptions import InvalidInput, Problem

_MAX_LISTED = 5_000
"""Maximum problems of a body of which the first ones are listed. Pydantic makes all of them or
none, at up to 10 microseconds each, and 100 kB can have 80,000."""
_MAX_BYTES = 40 * 2**10
"""Maximum bytes of the listed problems of a body: an answer may be larger than its request."""
_FRAME_BYTES = 60
"""Those of a problem besides its path and message."""


# Input is hidden, since it may hold a credential, and the text of an error may be logged.
STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True, hide_input_in_errors=True)


class _Body(BaseModel):
    model_config = STRICT


class Candidate(_Body):
    """A model that could have been picked."""

    model: Name
    score: Number | None = Field(None, description="What the selector gave it; the scale is the selector's.")
    probability: Probability | None = Field(None, description="With which the selector would have picked it.")
    eligible: bool | None = Field(None, description="False where a rule excluded it before the choice.")
    reason: Text | None = Field(None, description="Why it was excluded, or scored as it was.")
    score_parts: Annotated[dict[Name, Number], AfterValidator(plain)] | None = Field(
        None, max_length=MAX_PHASES, description="The score by its parts, such as quality, price and latency."
    )


class Exploration(_Body):
    """How the choice explored; enough to compute its probabilities again."""

    strategy: Name = Field(description="Such as thompson-sampling, epsilon-greedy or softmax.")
    samples: Count | None = Field(None, description="Draws of the Monte Carlo estimate of the probabilities.")
    seed: Annotated[int, Field(ge=-MAX_INT, le=MAX_INT), BeforeValidator(integer)] | None = None


class Attempt(_Body):
    """One model's attempt at the phase; a fallback makes the next one."""

    model: Name
    outcome: PhaseOutcome
    error: Text | None = None
    cost_usd: Cost | None = None
    duration_ms: Milliseconds | None = None
    reason: Text | None = Field(None, description="The cause of this attempt, such as rate_limited or escalation.")


class FeedbackLoop(_Body):
    """A later phase sent work back to an earlier one."""

    from_phase: Name | None = None
    to_phase: Name | None = None
    from_phase_id: Name | None = Field(None, description="The phase_id, where names repeat.")
    to_phase_id: Name | None = None
    reason: Text | None = None
    at: Instant | None = None


class Phase(_Body):
    """One phase of the run, in the order in which they ran; a name may repeat."""

    phase_name: Name = Field(description="Kept as sent; stats and filters group it by the alias table.")
    phase_id: Name | None = Field(None, description="Identifies the phase in its run; names may repeat, ids may not.")
    parent_phase_id: Name | None = Field(None, description="The phase_id of the phase that this one is part of.")
    depends_on: list[Name] | None = Field(
        None,
        max_length=MAX_PHASES,
        description="Each phase_id that had to end before this phase; parallel lanes share none.",
    )
    agent: Name | None = None
    model: Name | None = Field(None, description="The model that answered.")
    requested_model: Name | None = Field(None, description="The model that was asked for, where a fallback answered.")
    model_selection_method: SelectionMethod | None = Field(
        None,
        description="explicit, thompson-sampling, pattern-recommendation; other words are kept.",
    )
    selection_rule: Name | None = Field(None, description="The rule or route that picked the model.")
    reasoning_effort: Name | None = Field(None, description="As the model was asked for it, such as low or high.")
    candidates: list[Candidate] | None = Field(None, max_length=MAX_PHASES)
    selection_probability: Probability | None = Field(
        None, description="Propensity: the probability with which the model was picked."
    )
    exploration: Exploration | None = None
    keep_probability: Probability | None = Field(
        None, description="The probability with which the policy would have run this phase rather than skip it."
    )
    attempts: list[Attempt] | None = Field(
        None, max_length=MAX_PHASES, description="In order, the one that answered last; fallbacks inside the phase."
    )
    tools_used: Tools | None = None
    steps_taken: Count | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cached_input_tokens: Count | None = None
    cache_write_input_tokens: Count | None = None
    reasoning_tokens: Count | None = None
    cost_usd: Cost | None = None
    duration_ms: Milliseconds | None = None
    outcome: PhaseOutcome | None = Field(
        None, description="cancelled: stopped from outside; paused: waits for input, such as a person's, to go on."
    )
    status_reason: Text | None = Field(None, description="Why it ended so: who cancelled it, what it waits for.")
    skip_reason: Text | None = None
    fit: Fit | None = Field(None, description="How the model suited the phase, as judged afterwards.")
    evidence: Annotated[dict[Name, Text], AfterValidator(plain)] | None = Field(
        None, max_length=MAX_PHASES, description="Where the result can be seen: a log, a test report, a review."
    )
    attempt: Count | None = None
    error: Text | None = None
    started_at: Instant | None = None
    ended_at: Instant | None = None
    metadata: FreeObject | None = None


class Trajectory(_Body):
    """One run of a multi-phase workflow."""

    id: UUID | None = Field(
        None, description="Chosen by the client, so that sending again is safe; else the server picks one."
    )
    request_summary: Summary = Field(
        description="Searched by q; at most 1,048,576 characters after compatibility folding (NFKC)."
    )
    request_type: Name | None = None
    source: Name | None = Field(None, description="The orchestrator that ran it.")
    project: Name | None = None
    policy: Name | None = Field(None, description="Name and version of what decided, such as router@2026-11-01.")
    parent_id: UUID | None = Field(None, description="The id of the run that this run is part of.")
    phases: list[Phase] = Field(max_length=MAX_PHASES)
    outcome: Outcome | None = None
    total_cost_usd: Cost | None = Field(None, description="Given totals stand, even where the phases add up to others.")
    total_duration_ms: Milliseconds | None = None
    total_phases: Count | None = None
    phases_skipped: Count | None = None
    build_passed: bool | None = None
    tests_passed: bool | None = None
    review_findings: Count | None = None
    critical_findings: Count | None = None
    files_changed: Count | None = None
    planned_phases: list[Name] | None = Field(None, max_length=MAX_PHASES)
    feedback_loops: list[FeedbackLoop] | None = Field(None, max_length=MAX_LOOPS)
    error: Text | None = None
    started_at: Instant | None = None
    ended_at: Instant | None = None
    session_id: Name | None = None
    trace_id: Name | None = None
    tags: list[Name] | None = Field(None, max_length=200)
    external_refs: Annotated[dict[Name, Name], AfterValidator(plain)] | None = Field(
        None, max_length=200, description="Where the run can be found elsewhere: pull request, commit."
    )
    metadata: FreeObject | None = Field(
        None,
        description="The client's own data; any JSON. The server adds 'trajectories:redacted' where it has replaced credentials: "
        "how many of each kind.",
    )
    # Set by the server. Accepted and ignored in a posted body, so that an export can be posted
    # back.
    recorded_at: Any = Field(None, exclude=True)
    revision: Any = Field(None, exclude=True)
    derived: Any = Field(None, exclude=True)
    warnings: Any = Field(None, exclude=True)
    outcomes: Any = Field(None, exclude=True)


_MODEL_OF_KEY: dict[str, type[_Body]] = {
    "phases": Phase,
    "candidates": Candidate,
    "exploration": Exploration,
    "attempts": Attempt,
    "feedback_loops": FeedbackLoop,
}
_CONTRACT_KEYS = frozenset(Trajectory.model_fields).union(*(model.model_fields for model in _MODEL_OF_KEY.values()))
"""No credentials, so paths show them unsearched."""


def parse(data: bytes) -> Trajectory:
    """Parse ``data``, one JSON object, into a trajectory.

    Raises:
        InvalidInput: 400; ``details`` has every problem that was found, each with its path.
    """
    try:
        return Trajectory.model_validate_json(data)
    except ValidationError as error:
        raise invalid_input(error) from None


def canonical(trajectory: Trajectory) -> bytes:
    """Return the one JSON form: contract order, no nulls, times in UTC, free objects sorted.

    Idempotent.
    """
    return orjson.dumps(trajectory.model_dump(exclude_none=True, warnings=False), option=orjson.OPT_UTC_Z)


def with_id(body: bytes, id_: UUID) -> bytes:
    """Return a canonical body that has no id with this one."""
    return b'{"id":"%b",%b' % (str(id_).encode(), body[1:])


def has_all_keys(body: bytes, data: bytes) -> bool:
    """Return whether ``body`` surely has a key for each one in ``data``, so that none is repeated.

    It counts, which takes a tenth of the time of reading ``data`` once more. False where text looks
    like a key, and where a null or a field of the server was left out.

    Args:
        body: the canonical form of ``data``, with no key that ``data`` does not have.
    """
    # A quote in a text has a backslash before it, and a colon after a value comes only after a key.
    keys = body.count(b'":') - (body.count(b'\\":') if b"\\" in body else 0)
    return keys == sum(data.count(end) for end in _KEY_ENDS if end[:1] in data)


def refuse_repeated_keys(data: bytes, value: Any = None, *, quotes: Quotes | None = None) -> None:
    """Refuse JSON in which an object has a key twice.

    Readers differ in which of the two they keep (RFC 8259, section 4).

    Args:
        data: valid JSON, parsed before, so that its depth is bounded.
        value: what orjson read of it, if that is known.
        quotes: those of the request, if it has several bodies.

    Raises:
        InvalidInput: 400; the message names the key.
    """
    if value is None:
        with suppress(orjson.JSONDecodeError):  # orjson rejects NaN, which an ignored field may have
            value = orjson.loads(data)
    # A text that begins with a colon, or has a quote before one, is counted too. That only takes
    # the slower path.
    if not isinstance(value, dict) or _keys_of(value) != sum(data.count(end) for end in _KEY_ENDS if end[:1] in data):
        try:
            _repeats.decode(data.decode())
        except _RepeatedKey as error:
            key = (quotes or Quotes()).key(error.key)
            problem = Problem("", "repeated_key", f"Key {quoted(key)} stands more than once in one object")
            raise InvalidInput(problem.message, details=(problem,)) from None


_KEY_ENDS = (b'":', b" :", b"\t:", b"\n:", b"\r:")
"""A colon after a key, with each character that may precede it: each key matches one of these."""


def _keys_of(value: dict[str, Any]) -> int:
    # Plain loops take a third of the time of a sum over generators, and every body passes here.
    count = len(value)
    for item in value.values():
        if isinstance(item, dict):
            count += _keys_of(item)
        elif isinstance(item, list):
            count += _keys_in(item)
    return count


def _keys_in(values: list[Any]) -> int:
    count = 0
    for item in values:
        if isinstance(item, dict):
            count += _keys_of(item)
        elif isinstance(item, list):
            count += _keys_in(item)
    return count


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) < len(pairs):
        raise _RepeatedKey(next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1))
    return keys


class _RepeatedKey(Exception):
    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key


_repeats = json.JSONDecoder(object_pairs_hook=_without_repeats, parse_int=len, parse_float=len, parse_constant=len)
"""Numbers are not converted, since some take long."""


def invalid_input(
    error: ValidationError,
    *,
    root: type[BaseModel] = Trajectory,
    own_data: str = "metadata",
    quotes: Quotes | None = None,
) -> InvalidInput:
    """Convert Pydantic's errors to InvalidInput, with this project's messages and paths.

    Args:
        root: the model of the body.
        own_data: the field for data that the contract does not know.
        quotes: those of the request, if it has several bodies.
    """
    if (found := error.error_count()) > _MAX_LISTED:
        message = f"The body has {found:,} problems, which are not listed. Compare it with the contract."
        return InvalidInput(message, code="too_many_problems", found=found)
    quotes = quotes or Quotes()
    errors = list(_single(error.errors(include_url=False)))
    listed = islice(errors, min(quotes.next_body(), MAX_PROBLEMS))
    problems = _within_bytes(_problem(one, quotes, root, own_data) for one in listed)
    first, others = problems[0], min(len(errors), MAX_PROBLEMS) - 1
    more = f" ({others} more)" if others else ""
    where = f"{first.path}: " if first.path else ""
    code = "invalid_json" if first.code == "json_invalid" else "invalid_input"
    return InvalidInput(
        f"{where}{first.message}{more}", code=code, param=first.path or None, details=problems, found=len(errors)
    )


class _Error(NamedTuple):
    loc: Loc
    code: str
    message: str
    given: Any = None
    is_free: bool = False


def _single(errors: Iterable[ErrorDetails]) -> Iterator[_Error]:
    """Yield each error. Those of free values come from Pydantic as one."""
    for one in errors:
        if one["type"] == "free_value":
            for inner, code, message in one["ctx"]["problems"]:
                yield _Error(one["loc"] + inner, code, message, is_free=True)
        else:
            yield _Error(one["loc"], one["type"], one["msg"], one["input"])


def _within_bytes(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return the first problem, and as many others as _MAX_BYTES has room for."""
    found: list[Problem] = []
    size = 0
    for one in problems:
        size += _FRAME_BYTES + len(json.dumps(one.path + one.message))
        if found and size > _MAX_BYTES:
            break
        found.append(one)
    return tuple(found)


def _problem(error: _Error, quotes: Quotes, root: type[BaseModel], own_data: str) -> Problem:
    loc, code, message, given, is_free = error
    if is_free:
        return Problem(quotes.path(loc, _CONTRACT_KEYS), code, message)
    # This is Pydantic's mark for an error in the key, which precedes it.
    is_key = len(loc) > 2 and loc[-1] == "[key]" and code != "extra_forbidden"
    path = quotes.path(loc[:-2] if is_key else loc, _CONTRACT_KEYS)
    if code == "extra_forbidden":
        key, hint = str(loc[-1]), quotes.hint(str(loc[-1]), _model_at(loc, root))
        code, message = "unknown_key", f"Unknown key {quoted(quotes.key(key))}{hint} Own data goes into {own_data!r}."
    elif code == "string_pattern_mismatch":
        code, message = "nul_character", "String has a NUL character"
    elif code == "json_invalid" and "hex escape" in message:
        message += "; surrogates come in pairs"
    elif message.startswith("Input should"):
        message += _got(given, quotes)
    return Problem(path, code, message.replace("String", "A key", 1) if is_key else message)


def _got(value: Any, quotes: Quotes) -> str:
    """Return the refused value for a message. A list or an object is only named as one."""
    if isinstance(value, str):
        return f", got {quoted(quotes.text(value, max_chars=_MAX_VALUE))}"
    if value is None or isinstance(value, float) or (isinstance(value, int) and abs(value) < _MANY_DIGITS):
        return f", got {json.dumps(value)}"
    if isinstance(value, list | dict):
        return ", got an array" if isinstance(value, list) else ", got an object"
    return ""


_MAX_VALUE = 40
_MANY_DIGITS = 10**20
"""Longer integers are not shown; Python refuses to print those of 5,000 digits."""


def _model_at(loc: Loc, root: type[BaseModel]) -> type[BaseModel]:
    parents = [part for part in loc[:-1] if isinstance(part, str) and part in _MODEL_OF_KEY]
    return _MODEL_OF_KEY[parents[-1]] if parents else root
