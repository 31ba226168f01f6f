"""Packed phases: many runs are summed from them as one by one."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import body, phase
from tests.strategies import examples, trajectories
from trajectories.domain.clock import DAY_US
from trajectories.domain.packed_phases import (
    PHASE_WORDS,
    RUN_WORDS,
    ShapeSums,
    Words,
    by_shape,
    digest_of,
    packed,
    packed_of,
    with_known,
)
from trajectories.domain.record import Facets, facets_of
from trajectories.domain.schema import canonical, parse
from trajectories.domain.stats import Summary, bucket_start

BIG = (0, 1, 2**16 - 1, 2**16, 2**32 - 1, 2**32, 2**48 + 1, 2**62)
NUMBERS_OF_RUNS = st.lists(
    st.tuples(*[st.none() | st.sampled_from(BIG) for _ in range(4)]), min_size=0, max_size=3
).flatmap(lambda phases: st.tuples(st.just(phases), st.integers(1, 9)))


def facets(given: Any) -> Facets:
    return facets_of(canonical(parse(orjson.dumps(given))))


def with_numbers(numbers: list[tuple[int | None, ...]], over: int) -> Facets:
    """Return facets of a run whose phases have these numbers, and whose cost is above their sum."""
    one = facets(body(phases=[phase(phase_name=f"p{at % 2}") for at in range(len(numbers))]))
    sums = [[value for value in column if value is not None] for column in zip(*numbers, strict=True)] or [[]] * 4
    cost, duration, *tokens = [sum(column) if column else None for column in sums]
    known = [value for value in tokens if value is not None]
    phases = [
        of._replace(cost_nano_usd=a, duration_us=b, input_tokens=c, output_tokens=d)
        for of, (a, b, c, d) in zip(one.phases, numbers, strict=True)
    ]
    return one._replace(
        phases=tuple(phases),
        cost_nano_usd=over if cost is None else cost + over,
        unattributed_nano_usd=None if cost is None else over,
        duration_us=duration,
        input_tokens=tokens[0],
        output_tokens=tokens[1],
        tokens=sum(known) if known else None,
    )


def words_of(run: Facets) -> dict[bytes, Words]:
    of_run = tuple(getattr(run, name) for name in RUN_WORDS)
    both = [(of_run, (*run.measures[:4], run.unattributed_nano_usd))]
    both += [(tuple(getattr(one, name) for name in PHASE_WORDS), one.measures) for one in run.phases]
    return {digest_of(*one): with_known(*one) for one in both}


def summed(runs: list[Facets], bucket: str | None) -> Summary:
    rows, words, found = [], dict[bytes, Words](), Summary(bucket)
    for number, run in enumerate(runs):
        at_us = number * DAY_US // 2
        start = bucket_start(at_us if run.started_at_us is None else run.started_at_us, bucket) if bucket else 0
        rows.append((packed_of(run, number), number, number, *([start] if bucket else [])))
        words |= words_of(run)
    shapes, others = by_shape(rows)
    assert others == []
    sums = ShapeSums(has_series=bucket is not None)
    sums.add(shapes)
    sums.add_to(found, words)
    return found


def added(runs: list[Facets], bucket: str | None) -> Summary:
    found = Summary(bucket)
    for number, run in enumerate(runs):
        found.add(run._replace(late=()), number * DAY_US // 2)
    return found


@pytest.mark.parametrize("bucket", [None, "day"])
@settings(max_examples=examples(100), deadline=None)
@given(st.lists(trajectories, max_size=4), st.integers(1, 5))
def test_sums_of_shapes_are_those_of_runs_one_by_one(bucket: str | None, given: list[Any], times: int) -> None:
    runs = [facets(one) for one in given] * times
    assert summed(runs, bucket) == added(runs, bucket)


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(NUMBERS_OF_RUNS, min_size=1, max_size=9))
def test_numbers_of_any_size_add_up(given: list[tuple[Any, int]]) -> None:
    runs = [with_numbers(numbers, over) for numbers, over in given]
    assert summed(runs, None) == added(runs, None)


def test_the_highest_numbers_of_many_runs_add_up() -> None:
    highest = 2**16 - 1
    runs = [with_numbers([(highest, highest << 16, highest, highest << 32)], 0)] * 10_001
    cell = next(iter(summed(runs, None).phases.values()))
    assert cell[-8:] == [10_001, sum([highest] * 10_001), 10_001, 10_001 * (highest << 16), 10_001, 10_001 * highest,
                         10_001, 10_001 * (highest << 32)]  # fmt: skip


def test_a_run_below_the_sum_of_its_phases_is_packed() -> None:
    runs = [facets(body(phases=[phase(cost_usd=0.5, duration_ms=9)], total_cost_usd=0.25, total_duration_ms=4))] * 3
    assert summed(runs, None) == added(runs, None)
    assert runs[0].unattributed_nano_usd == -250_000_000


def test_a_run_whose_tokens_are_not_those_of_its_phases_is_not_packed() -> None:
    words: Words = ("", "", "", "", "unknown", None, None)
    assert packed(1, words, (None, None, 5, None, None), []) is None
    assert packed(1, words, (7, None, None, None, 3), []) is None


def test_a_run_of_too_many_phases_is_not_packed() -> None:
    words: Words = ("", "", "", "", "unknown", None, None)
    of_phase: tuple[Words, tuple[None, ...]] = (("", None, None, "unknown", "none", "ran", None), (None,) * 4)
    assert packed(1, words, (None,) * 5, [of_phase] * 255) is not None
    assert packed(1, words, (None,) * 5, [of_phase] * 256) is None


def test_numbers_that_the_archive_refuses_are_not_packed() -> None:
    words: Words = ("", "", "", "", "unknown", None, None)
    of_phase: Words = ("", None, None, "unknown", "none", "ran", None)
    for at in range(4):
        numbers = [2**64 if place == at else None for place in range(4)]
        assert packed(1, words, (*numbers, None), [(of_phase, numbers)]) is None


def test_rows_of_another_revision_and_without_packed_phases_are_told() -> None:
    run = facets(body())
    rows = [(packed_of(run, 2**40 + 7), revision, pk, 0) for pk, revision in enumerate((7, 8, 2**40 + 7))]
    shapes, others = by_shape([*rows, (None, 7, 9, 0)])
    assert sorted(others) == [1, 9]
    assert [len(shape.pks) for shape in shapes.values()] == [2]
