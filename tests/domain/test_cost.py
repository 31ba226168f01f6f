"""The CPU time of a pass over a body grows with its size and not with its square.

The figures are of this process's CPU time, not of a clock. A body is enlarged 16 times: linear work
takes 16 times as long, quadratic work 256 times. ``benchmarks.redaction`` has the speeds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.credentials import CREDENTIALS, HARD, HEX, IN_CONTEXT, SLOW_TEXTS
from tests.examples import body, phase
from tests.strategies import examples
from trajectories.domain import contract_types, dialects, redaction, schema
from trajectories.domain.record import facets_of
from trajectories.domain.search_words import words_of
from trajectories.domain.warnings import warnings_of
from trajectories.exceptions import InvalidInput

SMALL_BYTES = 3_500
FACTOR = 16
MOST = 5 * FACTOR
NOISE_S = 0.002
"""Time that is too short to be measured."""


class Shape(NamedTuple):
    """A body that repeats ``piece`` at ``place``."""

    place: str
    piece: str

    def of(self, size: int) -> bytes:
        count = max(1, size // (len(self.piece.encode()) + 12))
        return orjson.dumps(_PLACES[self.place]([f"{self.piece}{number}" for number in range(count)]))


def _nested(parts: list[str]) -> dict[str, Any]:
    value: Any = parts
    for _ in range(contract_types.MAX_FREE_DEPTH - 3):
        value = {"a": value}
    return body(metadata=value)


def _product(parts: list[str]) -> dict[str, Any]:
    """Problems, depth and the length of keys grow together, so that work may be their product."""
    size = 1 + len("".join(parts)) // 500
    value: Any = ["\x00"] * min(contract_types.MAX_PROBLEMS, size)
    levels = min(contract_types.MAX_FREE_DEPTH - 3, size)
    for number in range(levels):
        value = {"".join(parts[number::levels]): value}
    return body(metadata=value)


_PLACES: dict[str, Callable[[list[str]], dict[str, Any]]] = {
    "one text": lambda parts: body(request_summary="".join(parts)),
    "lines": lambda parts: body(error="\n".join(parts)),
    "keys": lambda parts: body(metadata=dict.fromkeys(parts, 1)),
    # All become one placeholder, so that each needs a number.
    "keys of passwords": lambda parts: body(metadata={f"a://:{part}@": 1 for part in parts}),
    "a long key": lambda parts: body(metadata={"".join(parts): 1}),
    "keys of objects": lambda parts: body(metadata={"a": [{part: {part: part}} for part in parts]}),
    "deep": _nested,
    "problems in deep and long keys": _product,
    "tools": lambda parts: body(phases=[phase(tools_used=parts[at : at + 100]) for at in range(0, len(parts), 100)]),
    "names": lambda parts: body(tags=parts[:200], external_refs=dict(zip(parts[:200], parts[:200], strict=True))),
    "loops": lambda parts: body(feedback_loops=[{"reason": part} for part in parts[:1_000]]),
    "unknown keys": lambda parts: body(**dict.fromkeys(parts, 1)),
    "wrong values": lambda parts: body(metadata=dict.fromkeys(parts, "\x00")),
    "camel keys": lambda parts: {"request": "x", "phases": []} | dict.fromkeys(parts, "x"),
    "camel phases": lambda parts: {
        "request": "x",
        "phases": [{"phase": "a", "success": True} | dict.fromkeys(parts[at::100], 1) for at in range(100)],
    },
}
_FRAGMENTS = ["a", "\\", '"', "[redacted:jwt]", "[redacted:jwt] 2", "://", "@", ":", "é", "\ufdfa", "-----", "Bearer "]
_PIECES = st.lists(
    st.sampled_from(
        [credential for _, credential in CREDENTIALS]
        + [before + credential + after for _, before, credential, after in IN_CONTEXT]
        + [*_FRAGMENTS, HEX]
    ),
    max_size=3,
).map("".join)
SHAPES = st.builds(Shape, st.sampled_from(sorted(_PLACES)), _PIECES)


def _passes(data: bytes) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield each pass over a body, of ingest and of the archive; only the first if it is refused."""
    yield "read", lambda: dialects.read(data)
    with suppress(InvalidInput):
        trajectory = dialects.read(data)
        form = schema.canonical(trajectory)
        yield "canonical", lambda: schema.canonical(trajectory)
        yield "redact", lambda: redaction.redact(form)
        redacted = redaction.redact(form).body
        yield "redact again", lambda: redaction.redact(redacted)
        yield "facets", lambda: facets_of(redacted)
        fields = orjson.loads(redacted)
        yield "words of the search", lambda: words_of(fields)
        yield "warnings", lambda: warnings_of(fields)


def cpu_s(work: Callable[[], object], times: int) -> float:
    """Return the shortest CPU time of several runs: other work of the machine only adds to it."""
    spent = []
    for _ in range(times):
        before = time.process_time()
        with suppress(InvalidInput, redaction.TooManyCredentials):
            work()
        spent.append(time.process_time() - before)
    return min(spent)


def _too_slow(shape: Shape) -> list[str]:
    small, large = (dict(_passes(shape.of(size))) for size in (SMALL_BYTES, SMALL_BYTES * FACTOR))
    found = []
    for name in small.keys() & large.keys():
        allowed = NOISE_S + MOST * cpu_s(small[name], 5)
        # Repeat only what looks slow, since one interrupted run may.
        if cpu_s(large[name], 1) > allowed and cpu_s(large[name], 4) > allowed:
            found.append(name)
    return found


@settings(max_examples=examples(25))
@given(SHAPES)
def test_cpu_per_byte_of_each_pass_does_not_grow_with_the_body(shape: Shape) -> None:
    assert _too_slow(shape) == []


@pytest.mark.parametrize("place", sorted(_PLACES))
@pytest.mark.parametrize("piece", ["a://:b@", "x", CREDENTIALS[0][1]])
def test_no_pass_over_a_known_worst_body_takes_more_cpu_a_byte_if_the_body_is_larger(place: str, piece: str) -> None:
    assert _too_slow(Shape(place, piece)) == []


@pytest.mark.parametrize("piece", HARD)
def test_a_repeated_beginning_of_a_credential_is_not_read_to_the_end_of_the_body_each_time(piece: str) -> None:
    # RE2 reads a byte in a nanosecond, so a short body would not show it.
    factor = 4 * FACTOR
    small, large = (orjson.dumps(body(error=piece * (size // len(piece)))) for size in (2**13, 2**13 * factor))
    allowed = NOISE_S + 5 * factor * cpu_s(lambda: redaction.replace(small), 5)
    assert (
        cpu_s(lambda: redaction.replace(large), 1) <= allowed or cpu_s(lambda: redaction.replace(large), 4) <= allowed
    )


@pytest.mark.parametrize("piece", SLOW_TEXTS)
def test_options_and_lines_that_are_no_credentials_cost_no_more_than_encoded_text(piece: str) -> None:
    def cost_s(piece: str) -> float:
        form = orjson.dumps(body(request_summary=piece * (2**20 // len(orjson.dumps(piece)))))
        return cpu_s(lambda: redaction.redact(form), 3)

    # One code takes a third of a microsecond, a match of RE2 outside of a command took two.
    assert cost_s(piece) <= 3.5 * cost_s("%41a")
