"""Packed facets: nothing is lost, and filters find the same records in them."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import REFERENCE, body, phase
from tests.strategies import examples, trajectories
from trajectories.domain import packed_sums
from trajectories.domain.clock import DAY_US
from trajectories.domain.late_outcomes import LateFacets
from trajectories.domain.packed_facets import Keys, PackedFacets
from trajectories.domain.packed_sums import PackedSums
from trajectories.domain.query import FILTERS, parse_query
from trajectories.domain.record import LOWEST_ID, Facets, Position, facets_of
from trajectories.domain.schema import canonical, parse
from trajectories.domain.stats import Summary

RUNS = (
    REFERENCE,
    body(),
    REFERENCE | {"policy": "router@2", "tags": ["nightly"], "started_at": "2026-01-05T23:58:46Z", "outcome": "failure"},
    body(phases=[phase(fit="good_fit"), phase(phase_name="code", model="m", tools_used=["grep"])], build_passed=False),
)
MATCHING = {
    "project": "my-project",
    "source": "phase-build",
    "request_type": "feature",
    "policy": "router@2",
    "outcome": "failure",
    "phase": "implement",
    "model": "m",
    "selection_method": "thompson",
    "agent": "product-manager",
    "tool": "grep",
    "credited": "success",
    "fit": "good_fit",
    "build_passed": "false",
    "tests_passed": "true",
    "tag": "nightly",
    "since": "1970-01-01",
    "until": "2026-01-01",
    "started_since": "2026-01-01",
    "started_until": "2027-01-01",
    "min_cost_usd": "0.05",
    "max_cost_usd": "1",
    "min_duration_ms": "17500",
    "max_duration_ms": "17500",
    "q": "AUTHENTICATION the",
}
OTHERS = {"outcome": "unknown", "credited": "partial", "fit": "failed", "build_passed": "true", "tests_passed": "false"}


class Cached(NamedTuple):
    position: Position
    packed: PackedFacets


def facets(given: Any) -> Facets:
    return facets_of(canonical(parse(orjson.dumps(given))))


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(trajectories, min_size=1, max_size=3))
def test_facets_come_back_as_they_were_and_leave_no_keys(given: list[Any]) -> None:
    keys, whole = Keys(), [facets(one) for one in given]
    packed = [keys.pack(one) for one in whole]
    assert [one.unpacked() for one in packed] == whole
    for one in packed:
        keys.release(one)
    assert keys.size == 0


def test_equal_words_of_two_records_are_one_object() -> None:
    keys = Keys()
    first = keys.pack(facets(REFERENCE))
    size = keys.size
    again = keys.pack(facets(REFERENCE | {"request_summary": "Another request", "total_cost_usd": 3}))
    assert again.key is first.key
    assert again.phases[0] is first.phases[0]
    assert keys.size == size
    keys.release(first)
    assert keys.size == size


def test_every_filter_has_a_case() -> None:
    assert MATCHING.keys() == FILTERS.keys()


@pytest.mark.parametrize("name", MATCHING)
def test_a_filter_finds_the_same_records(name: str) -> None:
    keys, whole = Keys(), [facets(one) for one in RUNS]
    held = [Cached(Position(1, LOWEST_ID), keys.pack(one)) for one in whole]
    found = []
    for value in (MATCHING[name], OTHERS.get(name, "2030-01-01" if FILTERS[name].kind == "time" else "99")):
        for others in ({}, {"project": "my-project"}, {"phase": "spec", "since": "1970-01-01"}):
            query = parse_query({name: value} | others, now_us=0)
            among = query.among()
            expected = [query.matches(1, one) for one in whole]
            matching = [one for one, is_match in zip(held, expected, strict=True) if is_match]
            # One at a time, and all from memory.
            assert [one for each in held for one in among([each])] == matching
            assert among(held) == matching
            assert among([]) == []
            found += expected
    assert True in found
    assert False in found


@settings(max_examples=examples(50), deadline=None)
@given(
    st.lists(st.tuples(trajectories, st.booleans(), st.integers(0, 10**15)), min_size=1, max_size=5),
    st.sampled_from([None, "day", "week"]),
    st.integers(1, 12),
)
def test_sums_of_packed_facets_are_those_of_whole_ones(
    given: list[tuple[Any, bool, int]], bucket: str | None, most: int
) -> None:
    keys, expected, found = Keys(), Summary(bucket), Summary(bucket)
    records = []
    for one, is_late, at_us in given:
        whole = facets(one)
        if is_late:
            whole = whole._replace(late=(LateFacets("merged", None, True, None, None),))
        records += [(whole, at_us), (whole, at_us + DAY_US)]
    with PackedSums(found) as add, pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed_sums, "MAX_NUMBERS", most)
        for whole, at_us in records:
            expected.add(whole, at_us)
            add(keys.pack(whole), at_us)
    assert found == expected
    assert orjson.dumps(found.as_json()) == orjson.dumps(expected.as_json())
