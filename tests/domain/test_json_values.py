"""The bound of the values in JSON counts what a parser would make."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import examples
from trajectories.domain import json_values
from trajectories.domain.json_values import MAX_VALUES, expect_few_values, values_in
from trajectories.exceptions import TooLarge

json = st.recursive(
    st.none() | st.integers(-9, 9) | st.text('ab,[]{}:"\\\n', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('a,{"\\', max_size=3), inner, max_size=3),
    max_leaves=12,
)


def count(value: Any) -> tuple[int, int]:
    """The values of ``value`` with itself, and how many of these are empty lists and objects."""
    inner = value if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else []
    below = [count(one) for one in inner]
    is_empty = isinstance(value, list | dict) and not value
    return 1 + sum(one for one, _ in below), is_empty + sum(empty for _, empty in below)


@settings(max_examples=examples(100), deadline=None)
@given(json, st.sampled_from([0, orjson.OPT_INDENT_2]))
def test_each_value_counts_once_whatever_its_texts_have(value: Any, option: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_values, "MAX_VALUES", 0)  # texts are taken out where there may be too many
        assert values_in(orjson.dumps(value, option=option)) == sum(count(value))


@pytest.mark.parametrize("value", [[[]] * (MAX_VALUES // 2 + 1), [{"a": 1}] * (MAX_VALUES // 2), [0] * MAX_VALUES])
def test_a_body_with_more_values_is_refused_with_what_to_do(value: Any) -> None:
    with pytest.raises(
        TooLarge, match=r"^A record must not have more than 100,000 JSON values, got about 100,\d{3}\. "
    ):
        expect_few_values(orjson.dumps(value))


@pytest.mark.parametrize("value", [[[]] * (MAX_VALUES // 2 - 1), [0] * (MAX_VALUES - 1), [",[{" * MAX_VALUES]])
def test_as_many_as_may_be_and_commas_in_a_text_are_accepted(value: Any) -> None:
    expect_few_values(orjson.dumps(value))


def test_what_is_no_json_is_left_to_the_parser() -> None:
    expect_few_values(b'{"a": "' + b"\\" * MAX_VALUES)
    expect_few_values(b'["' + b"a," * (MAX_VALUES // 2))
