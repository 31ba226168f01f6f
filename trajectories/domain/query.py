"""One filter for every tier, parsed once.

The hot cache compares it with facets; the archive turns it into a queryset.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import operator
import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from functools import reduce
from typing import Any, NamedTuple, TypeAlias, TypeVar
from uuid import UUID

import orjson
from pydantic import TypeAdapter, ValidationError

from trajectories.domain import redaction
from trajectories.domain.clock import DAY_US, SECOND_US, epoch_us
from trajectories.domain.contract_types import FITS, OUTCOMES, Instant, selection_method
from trajectories.domain.credit import CREDITED, UNCREDITED
from trajectories.domain.outcomes import phase_group
from trajectories.domain.packed_facets import (
    KEY_FIELDS,
    NUMBER_FIELDS,
    PHASE_KEY_FIELDS,
    Cached,
    Step,
    with_key,
    with_phase_key,
)
from trajectories.domain.quotes import in_quotes
from trajectories.domain.record import NANO_USD, Facets, PhaseFacets, Position
from trajectories.domain.text import fold, quoted
from trajectories.exceptions import InvalidInput, Problem

BIGGEST = 2**63 - 1
"""Largest value of a 64-bit column. Bounds are cut to it; every stored value is below it."""

CURSOR_PATTERN = "^[A-Za-f][A-Za-z0-9_-]{31}$"
"""Base64 of 24 bytes. The first bit is 0, since the first eight bytes are a time below 2**63."""
SPAN_PATTERN = r"^[0-9]{1,5}[mhdw]$"
"""A time filter of minutes, hours, days or weeks before now. Five digits of weeks are 1,900 years."""
MAX_SEARCH_CHARS = 500
MAX_SEARCH_WORDS = 32
"""Bounds of a search for words: each word is looked for in each summary, and is a condition in SQL."""
_SPAN_US = {"m": 60 * SECOND_US, "h": 3600 * SECOND_US, "d": DAY_US, "w": 7 * DAY_US}
_NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class Condition(NamedTuple):
    """A facet, an operator and a value.

    The operators are equal, at_least, below, at_most, has and contains_words.
    """

    column: str
    lookup: str
    value: Any


Test: TypeAlias = Callable[[Any], bool]

_Held = TypeVar("_Held", bound=Cached)


def _test(condition: Condition, fields: tuple[str, ...] | None = None) -> Test:
    """Return the test of a tuple with ``fields``, or of a plain value. Unknown is never a match.

    Made once for a query and run for each record, so operator and column are looked up here.
    """
    _, lookup, value = condition
    at = fields.index(condition.column) if fields else None
    if at is None:
        compare = _COMPARE[lookup]
        return lambda actual: compare(actual, value)
    if lookup == "equal":
        return lambda row: bool(row[at] == value)
    if lookup == "has":
        return lambda row: value in row[at]
    compare = _COMPARE[lookup]
    return lambda row: row[at] is not None and compare(row[at], value)


def _all(tests: list[Test]) -> Test:
    if not tests:
        return lambda row: True
    return tests[0] if len(tests) == 1 else lambda row: all(test(row) for test in tests)


_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "at_least": operator.ge,
    "at_most": operator.le,
    "below": operator.lt,
    "contains_words": lambda actual, value: all(word in actual for word in value),
}


@dataclass(frozen=True, slots=True)
class Query:
    """The trajectories to match. One phase must satisfy all conditions of ``on_phase``."""

    on_position: tuple[Condition, ...] = ()
    on_trajectory: tuple[Condition, ...] = ()
    on_phase: tuple[Condition, ...] = ()
    _position: Test = field(init=False, repr=False, compare=False)
    _trajectory: Test = field(init=False, repr=False, compare=False)
    _phase: Test = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, conditions, fields in (
            ("_position", self.on_position, None),
            ("_trajectory", self.on_trajectory, Facets._fields),
            ("_phase", self.on_phase, PhaseFacets._fields),
        ):
            object.__setattr__(self, name, _all([_test(condition, fields) for condition in conditions]))

    def matches(self, recorded_at_us: int, facets: Facets) -> bool:
        return (
            self._position(recorded_at_us)
            and self._trajectory(facets)
            and (not self.on_phase or any(map(self._phase, facets.phases)))
        )

    def among(self) -> Callable[[Sequence[_Held]], list[_Held]]:
        """Return what returns those of some records of a cache that match, in their order. It is
        ``matches`` for packed facets.

        It is for one read: it remembers its answer for each key by identity, so the keys must
        outlive it. Each condition is a step over all records, because a call for each takes longer
        than the comparison.
        """
        of_run = self.on_trajectory
        steps: list[Step] = []
        if self.on_position:
            match_time = self._position
            steps.append(lambda held: [one for one in held if match_time(one.position.recorded_at_us)])
        if of_key := [_test(one, KEY_FIELDS) for one in of_run if one.column in KEY_FIELDS]:
            steps.append(with_key(_all(of_key)))
        for word in (word for one in of_run if one.lookup == "contains_words" for word in one.value):
            steps.append(lambda held, word=word: [one for one in held if word in one.packed.summary])  # type: ignore[misc]
        if of_number := [_test(one, NUMBER_FIELDS) for one in of_run if one.column in NUMBER_FIELDS]:
            match_numbers = _all(of_number)
            steps.append(lambda held: [one for one in held if match_numbers(one.packed.numbers)])
        if self.on_phase:
            steps.append(with_phase_key(_all([_test(one, PHASE_KEY_FIELDS) for one in self.on_phase])))
        return lambda held: reduce(lambda found, step: step(found) if found else found, steps, [*held])


class Filter(NamedTuple):
    """A query parameter: its facet, its operator, the parser of its text, and its documentation.

    The parser of a time takes the present time too.
    """

    on: str
    column: str
    lookup: str
    read: Callable[..., Any]
    kind: str
    description: str


def _text(text: str) -> str:
    return text


def got(text: str) -> str:
    """Return a refused value for the end of a message."""
    return f"got {in_quotes(text, max_chars=40)}"


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(f"must be true or false, {got(text)}")
    return text == "true"


def _one_of(words: Sequence[str]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be one of {', '.join(words)}, {got(text)}")
        return text

    return read


_instant: TypeAdapter[datetime] = TypeAdapter(Instant)
_SPAN = re.compile(SPAN_PATTERN, re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def _time_us(text: str, now_us: int) -> int:
    """Return the microseconds since 1970 of a time, of the start of a date in UTC, or of a span
    before ``now_us``."""
    if _SPAN.fullmatch(text):
        return now_us - int(text[:-1]) * _SPAN_US[text[-1]]
    try:
        # A plus sign that was not percent-encoded arrives as a blank. No RFC 3339 time has a blank
        # before its offset.
        full = f"{text}T00:00:00Z" if _DATE.fullmatch(text) else text.replace(" ", "+") if "T" in text.upper() else text
        return epoch_us(_instant.validate_json(orjson.dumps(full)))
    except ValidationError:
        raise ValueError(
            "must be a time with an offset (2026-01-05T23:58:46Z), a date in UTC (2026-01-05), or a span before now"
            f" (30m, 12h, 7d, 2w), {got(text)}"
        ) from None


def _scaled(divisor: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            # Match the pattern first: Decimal also accepts 1_000, blanks, NaN and the digits of
            # every script.
            number = Decimal(text if _NUMBER.fullmatch(text) else "")
        except InvalidOperation:
            raise ValueError(f"must be a number of at least 0, {got(text)}") from None
        # Exact, and cut to the column's range before a huge exponent could be expanded.
        return BIGGEST if number and number.adjusted() > 18 else min(BIGGEST, round(number * divisor))

    return read


def search_words(text: str) -> tuple[str, ...]:
    """Return the words to search for, folded as summaries are.

    Raises:
        ValueError: the text is too long, as given or folded, or has too many words.
    """
    # The first check bounds the work of folding, which may make a text 18 times as long.
    for length in (len(text), len(folded := fold(text[: MAX_SEARCH_CHARS + 1]))):
        if length > MAX_SEARCH_CHARS:
            raise ValueError(f"must not exceed {MAX_SEARCH_CHARS} characters, got {length}; use fewer words")
    words = tuple(dict.fromkeys(folded.split()))
    if len(words) > MAX_SEARCH_WORDS:
        raise ValueError(f"must not exceed {MAX_SEARCH_WORDS} words, got {len(words)}; use fewer words")
    return words


FILTERS: Mapping[str, Filter] = {
    "project": Filter("trajectory", "project", "equal", _text, "string", "Exactly this project."),
    "source": Filter("trajectory", "source", "equal", _text, "string", "Exactly this orchestrator."),
    "request_type": Filter("trajectory", "request_type", "equal", _text, "string", "Exactly this type of request."),
    "policy": Filter("trajectory", "policy", "equal", _text, "string", "Exactly this policy."),
    "outcome": Filter("trajectory", "outcome", "equal", _one_of(OUTCOMES), "outcome", "Outcome, given or derived."),
    "phase": Filter("phase", "phase", "equal", phase_group, "string", "A phase of this name or an alias of it."),
    "model": Filter("phase", "model", "equal", _text, "string", "A phase that this model answered."),
    "selection_method": Filter(
        "phase", "selection_method", "equal", selection_method, "string", "A phase whose model was picked this way."
    ),
    "agent": Filter("phase", "agent", "equal", _text, "string", "A phase of this agent."),
    "tool": Filter("phase", "tools", "has", _text, "string", "A phase that used this tool."),
    "credited": Filter(
        "phase",
        "credited",
        "equal",
        _one_of((*CREDITED, UNCREDITED)),
        "credited",
        "A phase that earned this by the checks; none: nothing.",
    ),
    "fit": Filter("phase", "fit", "equal", _one_of(FITS), "fit", "A phase whose model suited it so."),
    "build_passed": Filter("trajectory", "build_passed", "equal", _boolean, "boolean", "Whether the build passed."),
    "tests_passed": Filter("trajectory", "tests_passed", "equal", _boolean, "boolean", "Whether the tests passed."),
    "tag": Filter("trajectory", "tags", "has", _text, "string", "Has this tag."),
    "since": Filter(
        "position",
        "recorded_at_us",
        "at_least",
        _time_us,
        "time",
        "Recorded at or after a time with an offset, the start of a date in UTC, or a span before now: 30m, 12h, 7d, 2w.",
    ),
    "until": Filter("position", "recorded_at_us", "below", _time_us, "time", "Recorded before; as since."),
    "started_since": Filter(
        "trajectory", "started_at_us", "at_least", _time_us, "time", "Started at or after; as since."
    ),
    "started_until": Filter("trajectory", "started_at_us", "below", _time_us, "time", "Started before; as since."),
    "min_cost_usd": Filter(
        "trajectory", "cost_nano_usd", "at_least", _scaled(NANO_USD), "number", "Cost at least this."
    ),
    "max_cost_usd": Filter("trajectory", "cost_nano_usd", "at_most", _scaled(NANO_USD), "number", "Cost at most this."),
    "min_duration_ms": Filter("trajectory", "duration_us", "at_least", _scaled(1000), "number", "Took at least this."),
    "max_duration_ms": Filter("trajectory", "duration_us", "at_most", _scaled(1000), "number", "Took at most this."),
    "q": Filter(
        "trajectory",
        "request_summary_folded",
        "contains_words",
        search_words,
        "words",
        "Each word is part of the request summary; case and compatibility forms (NFKC) do not matter. At most"
        f" {MAX_SEARCH_WORDS} words.",
    ),
}


def parse_query(given: Mapping[str, str], now_us: int) -> Query:
    """Parse the parameters of FILTERS in ``given`` into a query.

    Args:
        now_us: the end of spans such as ``7d``.

    Raises:
        InvalidInput: 400; ``param`` names the first parameter with an invalid value, ``details``
            has all.
    """
    conditions: dict[str, list[Condition]] = {"position": [], "trajectory": [], "phase": []}
    problems = []
    for name, text in given.items():
        f = FILTERS[name]
        try:
            if "\x00" in text:
                raise ValueError("has a NUL character")
            conditions[f.on].append(
                Condition(f.column, f.lookup, f.read(text, now_us) if f.kind == "time" else f.read(text))
            )
        except ValueError as error:
            problems.append(Problem(name, "invalid_parameter", f"{name} {error}"))
    if problems:
        raise InvalidInput(
            problems[0].message, code="invalid_parameter", param=problems[0].path, details=tuple(problems)
        )
    return Query(*(tuple(conditions[on]) for on in ("position", "trajectory", "phase")))


_NEAR = 0.65
"""Least similarity of a hint. At the default of 0.6, ``limit`` of an export was taken for ``split``."""


def parameters(given: Iterable[tuple[str, list[str]]], *, allowed: Iterable[str]) -> dict[str, str]:
    """Return query parameters as a dict.

    Raises:
        InvalidInput: 400; a parameter is given twice, or is not in ``allowed``. The message names
            the nearest allowed one.
    """
    names, found = list(allowed), {}
    for name, values in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1, _NEAR)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            param = redaction.quoted(name, max_chars=100)
            raise InvalidInput(f"Unknown parameter {quoted(param)}.{hint}", code="unknown_parameter", param=param)
        if len(values) > 1:
            raise InvalidInput(f"{name} is given more than once.", code="invalid_parameter", param=name)
        found[name] = values[0]
    return found


def encode_cursor(position: Position) -> str:
    """Return the position after which the next page begins, as text that is opaque to clients."""
    return base64.urlsafe_b64encode(struct.pack(">Q16s", position.recorded_at_us, position.id.bytes)).decode()


def decode_cursor(text: str) -> Position:
    """Return the position in ``text``.

    Raises:
        InvalidInput: 400; this API did not make the cursor.
    """
    try:
        recorded_at_us, id_bytes = struct.unpack(">Q16s", base64.b64decode(text.encode("ascii"), b"-_", validate=True))
    except (ValueError, struct.error, binascii.Error):
        raise _bad_cursor() from None
    if recorded_at_us > BIGGEST:
        raise _bad_cursor()
    return Position(recorded_at_us, UUID(bytes=id_bytes))


def _bad_cursor() -> InvalidInput:
    return InvalidInput("Invalid cursor: use next_cursor of the previous page.", code="invalid_cursor", param="cursor")
