"""The types of the contract's fields: bounds, and the one form of each value.

The bounds are this project's own, except for two. Integers stay within 2**53 - 1, the largest that
every JSON reader keeps exact (RFC 8259, section 6). NUL is refused because Postgres text cannot
hold it.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from trajectories.domain.text import fold

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

Loc: TypeAlias = tuple[int | str, ...]

RFC3339_START = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:")
NO_NUL = r"^[^\x00]*$"


def plain_number(value: float) -> float:
    """Return 1.0 as 1, since JSON has one number and so one digest for both; -0.0 becomes 0."""
    return int(value) if value.is_integer() and abs(value) <= MAX_INT else value


def integer(value: Any) -> Any:
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
    return _free(value, 1)


def free_values(values: dict[str, Any]) -> Any:
    """Return several values of the client's own, as ``free_value`` does each."""
    return _free(values, 0)


def _free(value: Any, depth: int) -> Any:
    try:
        return _kept_one(value, depth + 1)
    except _NotKept:
        problems = _Problems()
        _add_free_problems(problems, value, [], depth)
    raise PydanticCustomError("free_value", "Has values that cannot be kept", {"problems": problems})


class _Problems(list[tuple[Loc, str, str]]):
    """Pydantic formats the values of an error's context as text, also those that no message names."""

    def __repr__(self) -> str:
        return "problems"


class _NotKept(Exception):
    """A value of the client's own JSON cannot be kept; ``_add_free_problems`` says which."""


def _kept(items: list[Any], depth: int) -> list[Any]:
    """Return values of one list or object in their one form."""
    if depth > MAX_FREE_DEPTH and items:
        raise _NotKept
    # Values of a kind are checked together: half a million numbers one by one take a third of a second.
    if len(items) > _FEW and (kinds := set(map(type, items))).isdisjoint(_MADE_PLAIN) and len(kinds) == 1:
        if (kinds == {int} and max(max(items), -min(items)) > MAX_INT) or (kinds == {str} and "\x00" in "".join(items)):
            raise _NotKept
        return items
    return [_kept_one(item, depth + 1) for item in items]


_FEW = 8
_MADE_PLAIN = {dict, list, float}


def _kept_one(value: Any, depth: int) -> Any:
    """Return one value. ``depth`` is that of the values in it."""
    kind = type(value)
    if kind is str:
        if "\x00" in value:
            raise _NotKept
    elif kind is int:
        if not -MAX_INT <= value <= MAX_INT:
            raise _NotKept
    elif kind is float:
        if value - value != 0:  # infinite, or not a number
            raise _NotKept
        return plain_number(value)
    elif kind is list:
        return _kept(value, depth) if value else value
    elif kind is dict and value:
        if depth > MAX_FREE_DEPTH or "\x00" in "".join(value):
            raise _NotKept
        names = sorted(value)
        if len(value) <= _FEW:
            return {name: _kept_one(value[name], depth + 1) for name in names}
        return dict(zip(names, _kept([value[name] for name in names], depth), strict=True))
    return value


def _add_free_problems(found: _Problems, value: Any, loc: list[int | str], depth: int) -> None:
    """Add the problems of a value at ``loc`` to those found, up to MAX_PROBLEMS."""
    # No generators: each problem would pass through one for each level above it.
    if isinstance(value, dict | list) and depth <= MAX_FREE_DEPTH:
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(key, str) and "\x00" in key:
                found.append((tuple(loc), "nul_character", "A key has a NUL character"))
            if len(found) < MAX_PROBLEMS:
                loc.append(key)
                _add_free_problems(found, item, loc, depth + 1)
                loc.pop()
            if len(found) >= MAX_PROBLEMS:
                return
    elif problem := _free_problem(value, depth):
        found.append((tuple(loc), *problem))


def _free_problem(value: Any, depth: int) -> tuple[str, str] | None:
    if depth > MAX_FREE_DEPTH:
        return "too_deep", f"Nested deeper than {MAX_FREE_DEPTH} levels"
    if isinstance(value, str) and "\x00" in value:
        return "nul_character", "String has a NUL character"
    if isinstance(value, float) and not math.isfinite(value):
        return "finite_number", "Input should be a finite number"
    if isinstance(value, int) and abs(value) > MAX_INT:
        return "integer_range", "Integers beyond 2^53 - 1 are not exact in JSON; send a string"
    return None


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: plain(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return plain_number(value) if isinstance(value, float) else value


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
Count = Annotated[int, Field(ge=0, le=MAX_INT), BeforeValidator(integer)]
Cost = Annotated[float, Field(ge=0, le=MAX_COST_USD), AfterValidator(plain_number)]
Milliseconds = Annotated[float, Field(ge=0, le=MAX_DURATION_MS), AfterValidator(plain_number)]
Number = Annotated[float, AfterValidator(plain_number)]
Probability = Annotated[float, Field(ge=0, le=1), AfterValidator(plain_number)]
Instant = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_rfc3339_text), AfterValidator(_utc)]
FreeObject = Annotated[dict[str, Any], AfterValidator(free_value)]
Outcome = Literal["success", "failure", "partial", "unknown"]
PhaseOutcome = Literal["success", "failure", "partial", "skipped", "cancelled", "paused", "unknown"]
OUTCOMES: tuple[str, ...] = get_args(Outcome)
PHASE_OUTCOMES: tuple[str, ...] = get_args(PhaseOutcome)
Fit = Literal["good_fit", "underpowered", "overprovisioned", "failed"]
FITS: tuple[str, ...] = get_args(Fit)
SelectionMethod = Annotated[Name, AfterValidator(selection_method)]
