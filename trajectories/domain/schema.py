"""The wire contract: the definition of a trajectory, validated straight from bytes.

The contract is this project's own, except for two bounds. Integers stay within 2**53 - 1, the
largest that every JSON reader keeps exact (RFC 8259, section 6). NUL is refused because Postgres
text cannot hold it.
"""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any, Literal, TypeAlias, get_args
from uuid import UUID

import orjson
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from trajectories.domain import redaction
from trajectories.domain.text import fold
from trajectories.exceptions import InvalidInput, Problem

MAX_INT = 2**53 - 1
MAX_PHASES = 200
MAX_LOOPS = 1_000
MAX_NAME = 512
"""Maximum characters in a name. At four bytes each they fit into the 2,704 bytes of a Postgres
B-tree entry."""
MAX_COST_USD = 1_000_000
MAX_DURATION_MS = 10**13
"""Three centuries. The sum of MAX_PHASES durations, in microseconds, still fits into a 64-bit
column; so does the sum of costs, in nano-USD."""
MAX_FOLDED = 2**20
"""Maximum characters of a summary in the form that searches compare. Compatibility forms may be 18
times as long as their character, and every tier holds this form."""
_FOLD_FACTOR = 18
MAX_FREE_DEPTH = 64
MAX_PROBLEMS = 100
"""Maximum problems in one answer. Without it, a small invalid body could cost much time."""
_MAX_HINTS = 3
"""Maximum unknown keys to compare with the known ones. The comparison takes as long as all other
work, and more unknown keys are not typing errors."""
_MAX_PATH_PART = 100

Loc: TypeAlias = tuple[int | str, ...]

RFC3339_START = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:")
NO_NUL = r"^[^\x00]*$"


def _plain_number(value: float) -> float:
    """Return 1.0 as 1, since JSON has one number and so one digest for both; -0.0 becomes 0."""
    return int(value) if value.is_integer() and abs(value) <= MAX_INT else value


def _integer(value: Any) -> Any:
    """Return 1000.0 as 1000: JSON Schema's integers include it, and some JSON writers send it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _rfc3339_text(value: Any) -> Any:
    """Accept only text: Pydantic would also read numbers, as seconds since 1970."""
    if not isinstance(value, datetime) and not (isinstance(value, str) and RFC3339_START.match(value)):
        raise PydanticCustomError("datetime_parsing", "Input should be an RFC 3339 time, such as 2026-01-05T23:58:46Z")
    return value


def _utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("datetime_range", "Input should lie between the years 1 and 9999 in UTC") from None


def selection_method(value: str) -> str:
    return SELECTION_METHODS.get(value.casefold().replace("_", "-"), value)


SELECTION_METHODS = {
    "thompson": "thompson-sampling",
    "thompson-sampling": "thompson-sampling",
    "pattern": "pattern-recommendation",
    "pattern-recommendation": "pattern-recommendation",
    "explicit": "explicit",
}


def free_value(value: Any) -> Any:
    """Return the client's own JSON in its one form; refuse values that a later tier cannot hold."""
    problems = list(islice(_free_problems(value, (), 1), MAX_PROBLEMS))
    if problems:
        raise PydanticCustomError("free_value", "Has values that cannot be kept", {"problems": problems})
    return _plain(value)


def _free_problems(value: Any, loc: Loc, depth: int) -> Iterator[tuple[Loc, str, str]]:
    if depth > MAX_FREE_DEPTH:
        yield loc, "too_deep", f"Nested deeper than {MAX_FREE_DEPTH} levels"
    elif isinstance(value, dict):
        for key, item in value.items():
            if "\x00" in key:
                yield loc, "nul_character", "A key has a NUL character"
            yield from _free_problems(item, (*loc, key), depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _free_problems(item, (*loc, index), depth + 1)
    elif isinstance(value, str):
        if "\x00" in value:
            yield loc, "nul_character", "String has a NUL character"
    elif isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            yield loc, "finite_number", "Input should be a finite number"
    elif isinstance(value, int) and abs(value) > MAX_INT:
        yield loc, "integer_range", "Integers beyond 2^53 - 1 are not exact in JSON; send a string"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return _plain_number(value) if isinstance(value, float) else value


def _foldable(value: str) -> str:
    # A text that cannot become too long need not be folded, which few texts are long enough for.
    if len(value) * _FOLD_FACTOR > MAX_FOLDED and len(fold(value)) > MAX_FOLDED:
        raise PydanticCustomError(
            "folded_too_long",
            "String should have at most {limit} characters after compatibility folding (NFKC); shorten it",
            {"limit": MAX_FOLDED},
        )
    return value


Text = Annotated[str, StringConstraints(pattern=NO_NUL)]
Summary = Annotated[Text, AfterValidator(_foldable)]
Name = Annotated[str, StringConstraints(pattern=NO_NUL, max_length=MAX_NAME)]
# The first problem of such a list is enough: half a million problems in one body took seconds, and
# a kilobyte each.
Tools = Annotated[list[Text], Field(max_length=10_000, fail_fast=True)]
Count = Annotated[int, Field(ge=0, le=MAX_INT), BeforeValidator(_integer)]
Cost = Annotated[float, Field(ge=0, le=MAX_COST_USD), AfterValidator(_plain_number)]
Milliseconds = Annotated[float, Field(ge=0, le=MAX_DURATION_MS), AfterValidator(_plain_number)]
Number = Annotated[float, AfterValidator(_plain_number)]
Probability = Annotated[float, Field(ge=0, le=1), AfterValidator(_plain_number)]
Instant = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_rfc3339_text), AfterValidator(_utc)]
FreeObject = Annotated[dict[str, Any], AfterValidator(free_value)]
Outcome = Literal["success", "failure", "partial", "unknown"]
PhaseOutcome = Literal["success", "failure", "partial", "skipped", "cancelled", "paused", "unknown"]
OUTCOMES: tuple[str, ...] = get_args(Outcome)
PHASE_OUTCOMES: tuple[str, ...] = get_args(PhaseOutcome)
Fit = Literal["good_fit", "underpowered", "overprovisioned", "failed"]
FITS: tuple[str, ...] = get_args(Fit)
SelectionMethod = Annotated[Name, AfterValidator(selection_method)]


class _Body(BaseModel):
    # Input is hidden, since it may hold a credential, and the text of an error may be logged.
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True, hide_input_in_errors=True)


class Candidate(_Body):
    """A model that could have been picked."""

    model: Name
    score: Number | None = Field(None, description="What the selector gave it; the scale is the selector's.")
    probability: Probability | None = Field(None, description="With which the selector would have picked it.")
    eligible: bool | None = Field(None, description="False where a rule excluded it before the choice.")
    reason: Text | None = Field(None, description="Why it was excluded, or scored as it was.")
    score_parts: Annotated[dict[Name, Number], AfterValidator(_plain)] | None = Field(
        None, max_length=MAX_PHASES, description="The score by its parts, such as quality, price and latency."
    )


class Exploration(_Body):
    """How the choice explored; enough to compute its probabilities again."""

    strategy: Name = Field(description="Such as thompson-sampling, epsilon-greedy or softmax.")
    samples: Count | None = Field(None, description="Draws of the Monte Carlo estimate of the probabilities.")
    seed: Annotated[int, Field(ge=-MAX_INT, le=MAX_INT), BeforeValidator(_integer)] | None = None


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
    evidence: Annotated[dict[Name, Text], AfterValidator(_plain)] | None = Field(
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
    external_refs: Annotated[dict[Name, Name], AfterValidator(_plain)] | None = Field(
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


_MODEL_OF_KEY: dict[str, type[_Body]] = {
    "phases": Phase,
    "candidates": Candidate,
    "exploration": Exploration,
    "attempts": Attempt,
    "feedback_loops": FeedbackLoop,
}


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


def refuse_repeated_keys(data: bytes) -> None:
    """Refuse JSON in which an object has a key twice.

    Readers differ in which of the two they keep (RFC 8259, section 4).

    Args:
        data: valid JSON, parsed before, so that its depth is bounded.

    Raises:
        InvalidInput: 400; the message names the key.
    """
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:  # orjson rejects NaN, which an ignored field may have
        value = None
    # A text that begins with a colon, or has a quote before one, is counted too. That only takes
    # the slower path.
    if not isinstance(value, dict) or _keys_of(value) != sum(data.count(end) for end in _KEY_ENDS if end[:1] in data):
        # Numbers are not converted, since some take long.
        json.loads(data, object_pairs_hook=_without_repeats, parse_int=len, parse_float=len, parse_constant=len)


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
        again = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)[:_MAX_PATH_PART]
        problem = Problem("", "repeated_key", f"Key {again!r} stands more than once in one object")
        raise InvalidInput(problem.message, details=(problem,))
    return keys


def invalid_input(error: ValidationError) -> InvalidInput:
    """Convert Pydantic's errors to InvalidInput, with this project's messages and paths."""
    errors = error.errors(include_url=False, include_input=False)
    unknown_keys = (e["loc"] for e in errors if e["type"] == "extra_forbidden")
    hints = {loc: _near(loc) for loc in islice(unknown_keys, _MAX_HINTS)}
    problems = tuple(islice((p for e in errors for p in _problems(e, hints)), MAX_PROBLEMS))
    first = problems[0]
    more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
    where = f"{first.path}: " if first.path else ""
    code = "invalid_json" if first.code == "json_invalid" else "invalid_input"
    return InvalidInput(f"{where}{first.message}{more}", code=code, param=first.path or None, details=problems)


def _problems(error: ErrorDetails, hints: Mapping[Loc, str]) -> Iterator[Problem]:
    loc, code, message = error["loc"], error["type"], error["msg"]
    # This is Pydantic's mark for an error in the key, which precedes it.
    is_key = len(loc) > 2 and loc[-1] == "[key]" and code != "extra_forbidden"
    path = _path(loc[:-2] if is_key else loc)
    if code == "free_value":
        yield from (Problem(_path(loc + inner), *what) for inner, *what in error["ctx"]["problems"])
        return
    if code == "extra_forbidden":
        key, hint = _shown(str(loc[-1])), hints.get(loc, ".")
        code, message = "unknown_key", f"Unknown key {key!r}{hint} Own data goes into 'metadata'."
    elif code == "string_pattern_mismatch":
        code, message = "nul_character", "String has a NUL character"
    elif code == "json_invalid" and "hex escape" in message:
        message += "; surrogates come in pairs"
    yield Problem(path, code, message.replace("String", "A key", 1) if is_key else message)


def _path(loc: Loc) -> str:
    # Cut, since a key may be as long as the body, and is part of the path of everything below it.
    parts = [f"[{part}]" if isinstance(part, int) else f".{_shown(part)}" for part in loc]
    return "".join(parts).removeprefix(".")


def _shown(key: str) -> str:
    return redaction.quoted(key, max_chars=_MAX_PATH_PART)


def _near(loc: Loc) -> str:
    parents = [part for part in loc[:-1] if isinstance(part, str) and part in _MODEL_OF_KEY]
    model = _MODEL_OF_KEY[parents[-1]] if parents else Trajectory
    near = difflib.get_close_matches(str(loc[-1])[:_MAX_PATH_PART], model.model_fields, 1)
    return f"; did you mean {near[0]!r}?" if near else "."
