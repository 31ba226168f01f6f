"""Query parameters: how they are read, and what they match."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import body, phase
from trajectories.domain.query import (
    BIGGEST,
    CURSOR_PATTERN,
    FILTERS,
    MAX_SEARCH_CHARS,
    MAX_SEARCH_WORDS,
    decode_cursor,
    encode_cursor,
    parameters,
    parse_query,
)
from trajectories.domain.record import Facets, Position, facets_of
from trajectories.domain.schema import canonical, parse
from trajectories.exceptions import InvalidInput

AT_US = 1_767_657_526_000_000
"""2026-01-05T23:58:46Z"""


def facets(**fields: Any) -> Facets:
    return facets_of(canonical(parse(orjson.dumps(body(**fields)))))


def matches(parameter: str, text: str, **fields: Any) -> bool:
    return parse_query({parameter: text}, AT_US).matches(AT_US, facets(**fields))


def refused(given: dict[str, str]) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        parse_query(given, AT_US)
    return caught.value


# Reading.


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("outcome", "skipped", "must be one of success, failure, partial, unknown"),
        ("outcome", "", "must be one of"),
        ("build_passed", "yes", "must be true or false"),
        ("tests_passed", "True", "must be true or false"),
        ("since", "yesterday", "must be a time with an offset"),
        ("since", "2026-02-30", "got '2026-02-30'"),
        ("since", "7 d", "(30m, 12h, 7d, 2w)"),
        ("since", "-7d", "must be a time with an offset"),
        ("until", "123456d", "must be a time with an offset"),
        ("until", "1y", "must be a time with an offset"),
        ("until", "2026-01-05T23:58:46", "must be a time with an offset"),
        ("until", "1767657526", "must be a time with an offset"),
        ("started_since", "0001-01-01T00:00:00+01:00", "must be a time with an offset"),
        ("started_until", "", "must be a time with an offset"),
        ("min_cost_usd", "-1", "must be a number of at least 0"),
        ("max_cost_usd", "NaN", "must be a number of at least 0"),
        ("max_cost_usd", "sNaN", "must be a number of at least 0"),
        ("min_duration_ms", "Infinity", "must be a number of at least 0"),
        ("max_duration_ms", "1,5", "must be a number of at least 0"),
        ("max_duration_ms", "1_000", "must be a number of at least 0"),
        ("max_duration_ms", "1e", "must be a number of at least 0"),
        ("max_cost_usd", "1e99999999999999999999", "must be a number of at least 0"),
        ("max_duration_ms", "", "must be a number of at least 0"),
        ("credited", "failed", "must be one of success, failure, partial, none, got 'failed'"),
        ("tests_passed", "yes", "must be true or false, got 'yes'"),
        ("min_cost_usd", "x" * 100, f"must be a number of at least 0, got '{'x' * 40}'"),
        ("fit", "sk-ant-api03-" + "a" * 95, "overprovisioned, failed, got '[redacted"),
        *((name, "a\0b", "has a NUL character") for name in FILTERS),
    ],
)
def test_an_invalid_value_is_reported_with_its_parameter(name: str, text: str, words: str) -> None:
    error = refused({name: text})
    assert (error.status, error.code, error.param) == (400, "invalid_parameter", name)
    assert error.message.startswith(name)
    assert words in error.message


def test_all_invalid_values_are_reported_at_once() -> None:
    error = refused({"outcome": "good", "project": "p", "since": "now", "min_cost_usd": "much"})
    assert [problem.path for problem in error.details] == ["outcome", "since", "min_cost_usd"]


def test_an_unknown_parameter_is_reported_with_the_nearest_known_one() -> None:
    with pytest.raises(InvalidInput) as caught:
        parameters([("projct", ["p"])], allowed=FILTERS)
    assert (caught.value.code, caught.value.param) == ("unknown_parameter", "projct")
    assert "Did you mean 'project'?" in caught.value.message
    with pytest.raises(InvalidInput) as caught:
        parameters([("limit", ["2"])], allowed=("split", "format"))
    assert caught.value.message == "Unknown parameter 'limit'."


def test_a_parameter_given_twice_is_refused_instead_of_one_being_ignored() -> None:
    with pytest.raises(InvalidInput) as caught:
        parameters([("project", ["a", "b"])], allowed=FILTERS)
    assert (caught.value.code, caught.value.param) == ("invalid_parameter", "project")


@given(st.dictionaries(st.sampled_from(sorted(FILTERS)), st.text() | st.decimals().map(str), max_size=3))
def test_any_text_is_either_read_or_refused(given: dict[str, str]) -> None:
    try:
        query = parse_query(given, AT_US)
    except InvalidInput:
        return
    for condition in (*query.on_position, *query.on_trajectory, *query.on_phase):
        assert not isinstance(condition.value, int) or condition.value <= BIGGEST
    query.matches(AT_US, facets(phases=[phase(tools_used=["a"])]))


def test_a_bound_beyond_what_a_column_holds_is_cut_to_it() -> None:
    for text in ("1e30", "1e999999", "9" * 50):
        assert parse_query({"max_cost_usd": text}, AT_US).on_trajectory[0].value == BIGGEST
    assert parse_query({"min_cost_usd": "0e99"}, AT_US).on_trajectory[0].value == 0


def test_amounts_are_read_exactly() -> None:
    assert parse_query({"min_cost_usd": "0.1"}, AT_US).on_trajectory[0].value == 100_000_000
    assert parse_query({"max_duration_ms": "2500.0005"}, AT_US).on_trajectory[0].value == 2_500_000


@pytest.mark.parametrize("text", ["2026-01-05T23:58:46Z", "2026-01-06T00:58:46+01:00", "2026-01-06T00:58:46 01:00"])
def test_a_time_is_read_with_its_offset_even_with_an_unencoded_plus_sign(text: str) -> None:
    assert parse_query({"since": text}, AT_US).on_position[0].value == AT_US


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("30m", "2026-01-05T23:28:46Z"),
        ("12h", "2026-01-05T11:58:46Z"),
        ("7d", "2025-12-29T23:58:46Z"),
        ("2w", "2025-12-22T23:58:46Z"),
        ("0d", "2026-01-05T23:58:46Z"),
        ("2026-01-05", "2026-01-05T00:00:00Z"),
    ],
)
@pytest.mark.parametrize("name", ["since", "until", "started_since", "started_until"])
def test_a_time_filter_takes_a_span_before_now_and_a_date_in_utc(name: str, text: str, at: str) -> None:
    assert parse_query({name: text}, AT_US) == parse_query({name: at}, now_us=0)


# Matching.


@pytest.mark.parametrize(
    ("parameter", "text", "hit", "miss"),
    [
        ("project", "p", {"project": "p"}, {"project": "P"}),
        ("source", "s", {"source": "s"}, {}),
        ("policy", "router@2", {"policy": "router@2"}, {"policy": "router@1"}),
        ("request_type", "bug", {"request_type": "bug"}, {"request_type": "feature"}),
        ("outcome", "failure", {"build_passed": False}, {"outcome": "success"}),
        ("outcome", "unknown", {}, {"outcome": "success"}),
        ("phase", "Verification", {"phases": [phase(phase_name="test")]}, {"phases": [phase()]}),
        ("model", "m", {"phases": [phase(), phase(model="m")]}, {"phases": [phase(requested_model="m")]}),
        (
            "selection_method",
            "thompson",
            {"phases": [phase(model_selection_method="thompson_sampling")]},
            {"phases": [phase(model_selection_method="explicit")]},
        ),
        ("agent", "a", {"phases": [phase(agent="a")]}, {"phases": [phase(agent="b")]}),
        ("tool", "grep", {"phases": [phase(tools_used=["ls", "grep"])]}, {"phases": [phase(tools_used=["egrep"])]}),
        (
            "credited",
            "failure",
            {"phases": [phase(phase_name="implement", outcome="success")], "tests_passed": False},
            {"phases": [phase(phase_name="test", outcome="failure")]},
        ),
        ("credited", "none", {"phases": [phase()]}, {"phases": [phase(outcome="success")]}),
        ("fit", "underpowered", {"phases": [phase(fit="underpowered")]}, {"phases": [phase(fit="good_fit")]}),
        ("build_passed", "true", {"build_passed": True}, {"build_passed": False}),
        ("build_passed", "false", {"build_passed": False}, {}),
        ("tests_passed", "true", {"tests_passed": True}, {}),
        ("tag", "t", {"tags": ["s", "t"]}, {"tags": ["tt"]}),
        ("started_since", "2026-01-05T23:58:46Z", {"started_at": "2026-01-05T23:58:46Z"}, {}),
        (
            "started_until",
            "2026-01-05T23:58:46Z",
            {"started_at": "2026-01-05T23:58:45.999999Z"},
            {"started_at": "2026-01-05T23:58:46Z"},
        ),
        ("min_cost_usd", "0.1", {"total_cost_usd": 0.1}, {"total_cost_usd": 0.099999999}),
        ("min_cost_usd", "0", {"total_cost_usd": 0}, {}),
        ("max_cost_usd", "0.1", {"phases": [phase(cost_usd=0.1)]}, {"total_cost_usd": 0.100000001}),
        ("max_cost_usd", "1e99", {"total_cost_usd": 1}, {}),
        ("min_duration_ms", "1.5", {"total_duration_ms": 1.5}, {"total_duration_ms": 1.499}),
        ("max_duration_ms", "1.5", {"total_duration_ms": 1.5}, {"total_duration_ms": 1.501}),
        ("q", "AUTH api", {"request_summary": "Add user authentication to the API"}, {"request_summary": "auth"}),
        ("q", "ÉTÉ", {"request_summary": "un e\u0301te\u0301"}, {"request_summary": "un ete"}),
        ("q", "100%", {"request_summary": "at 100% load"}, {"request_summary": "at 1000 load"}),
    ],
)
def test_a_filter_matches_its_records_only(
    parameter: str, text: str, hit: dict[str, Any], miss: dict[str, Any]
) -> None:
    assert matches(parameter, text, **hit)
    assert not matches(parameter, text, **miss)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x" * (MAX_SEARCH_CHARS + 1), f"q must not exceed {MAX_SEARCH_CHARS} characters, got {MAX_SEARCH_CHARS + 1}"),
        ("\ufdfa" * 28, f"q must not exceed {MAX_SEARCH_CHARS} characters, got 504"),
        (" ".join(map(str, range(MAX_SEARCH_WORDS + 1))), f"q must not exceed {MAX_SEARCH_WORDS} words, got 33"),
    ],
)
def test_a_search_for_too_much_is_refused_with_the_bound(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as caught:
        parse_query({"q": text}, AT_US)
    assert (caught.value.code, caught.value.param) == ("invalid_parameter", "q")


def test_a_search_at_its_bounds_is_made() -> None:
    words = " ".join(map(str, range(MAX_SEARCH_WORDS)))
    assert matches("q", f"{words} {words}", request_summary=words)
    assert matches("q", "x" * MAX_SEARCH_CHARS, request_summary="X" * MAX_SEARCH_CHARS)


def test_the_time_of_recording_is_matched_from_since_to_before_until() -> None:
    at = "2026-01-05T23:58:46Z"
    assert matches("since", at)
    assert not matches("until", at)
    assert matches("until", "2026-01-05T23:58:46.000001Z")
    assert not matches("since", "2026-01-05T23:58:46.000001Z")


def test_phase_filters_must_match_in_one_phase() -> None:
    query = parse_query({"phase": "spec", "model": "m", "tool": "grep"}, AT_US)
    spec, code = {"phase_name": "spec", "model": "m"}, {"phase_name": "code", "tools_used": ["grep"]}
    assert not query.matches(AT_US, facets(phases=[spec, code]))
    assert query.matches(AT_US, facets(phases=[code, spec | {"tools_used": ["grep"]}]))


# Cursors.

positions = st.builds(Position, st.integers(0, BIGGEST), st.uuids())


@given(positions)
def test_a_cursor_leads_back_to_its_position(position: Position) -> None:
    assert decode_cursor(encode_cursor(position)) == position


@given(st.from_regex(CURSOR_PATTERN, fullmatch=True))
def test_any_text_of_the_documented_pattern_is_a_cursor(text: str) -> None:
    assert encode_cursor(decode_cursor(text)) == text


@pytest.mark.parametrize(
    "text", ["", "x", "ä", "=" * 32, "A" * 31, "A" * 36, encode_cursor(Position(1, UUID(int=1)))[:-4]]
)
def test_a_cursor_of_other_making_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        decode_cursor(text)
    assert (caught.value.code, caught.value.param) == ("invalid_cursor", "cursor")


def test_a_cursor_beyond_all_time_is_refused_before_a_database_has_to() -> None:
    with pytest.raises(InvalidInput):
        decode_cursor("_" * 32)
