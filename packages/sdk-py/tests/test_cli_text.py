"""Text, tables and documents of the command line."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trajectories_sdk.cli.documents import Line, read
from trajectories_sdk.cli.table import Table, duration, percent, usd
from trajectories_sdk.cli.text import cut, escaped, json_text, width

VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_json_means_the_same_with_its_escapes(value: Any) -> None:
    assert json.loads(json_text(value)) == value


@given(st.text(st.characters(exclude_categories=())))
def test_escaped_text_has_no_unsafe_character(text: str) -> None:
    for shown in (escaped(text), json_text(text)):
        assert escaped(shown) == shown


@given(st.text(), st.integers(1, 30))
def test_cut_text_fits_its_columns(text: str, columns: int) -> None:
    assert width(cut(escaped(text), columns)) <= columns


@pytest.mark.parametrize(
    ("text", "columns"), [("abc", 3), ("größer", 6), ("認証", 4), ("e\u0301", 1), ("\U0001f600", 2)]
)
def test_width_is_in_columns(text: str, columns: int) -> None:
    assert width(text) == columns


def test_columns_are_aligned_with_wide_characters() -> None:
    table = Table(("NAME", ">N", "LAST"))
    table.add("認証", "7", "x")
    table.add("a\nb", "12", None)
    assert list(table.lines()) == ["NAME   N  LAST", "認証   7  x", "a\\nb  12  -"]


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (usd(None), None),
        (usd(0), "0.00"),
        (usd(0.012), "0.012"),
        (usd(0.0000004), "0.0000004"),
        (usd(0.0126666), "0.0127"),
        (usd(3.5), "3.50"),
        (usd(9.999), "10.00"),
        (usd(1234.5), "1,234.50"),
        (percent(0.5), "50.0%"),
        (duration(None), None),
        (duration(9999), "9999ms"),
        (duration(59_999), "1m00s"),
        (duration(3_600_000), "1h00m"),
    ],
)
def test_numbers_are_short_and_never_zero_for_unknown(shown: str | None, expected: str | None) -> None:
    assert shown == expected


def lines_of(text: str, *, is_ndjson: bool = False) -> list[Line] | Mapping[str, Any]:
    found = read(io.BytesIO(text.encode()), is_ndjson=is_ndjson)
    return list(found) if isinstance(found, Iterator) else found


@pytest.mark.parametrize("text", ['{"a":1}', '\n\n{"a":1}\n\n', '{\n"a":\n1}'])
def test_one_body_is_one_on_however_many_lines(text: str) -> None:
    assert lines_of(text) == {"a": 1}


def test_lines_keep_their_numbers_and_bad_ones_their_problem() -> None:
    found = lines_of('\n{"a":1}\n\n7\n{"b":2}')
    assert isinstance(found, list)
    assert [(line.number, line.body) for line in found] == [(2, {"a": 1}), (4, None), (5, {"b": 2})]
    assert found[1].problem == "The line is not a JSON object."


def test_a_bad_first_line_does_not_make_ndjson_something_else() -> None:
    found = lines_of('{broken\n{"a":1}\n')
    assert isinstance(found, list)
    assert [line.body for line in found] == [None, {"a": 1}]


def test_a_line_alone_is_ndjson_where_it_is_said_so() -> None:
    assert lines_of('{"a":1}', is_ndjson=True) == [Line(1, {"a": 1})]
    assert lines_of("", is_ndjson=True) == []


@pytest.mark.parametrize(
    "text", ["", " \n", "7", "{", '{"a":NaN}', "[" * 100_000, '\ufeff"', '{"a":1}}', '{"a":{"b":1,"b":2}}']
)
def test_invalid_bodies_are_rejected_with_the_problem(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"^(is empty|is not JSON|is not a JSON object|has an object with a duplicate key)"
    ):
        lines_of(text)
