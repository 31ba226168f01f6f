"""A repeated key in an object is refused, since either value may be the wrong one."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests import strategies
from trajectories.domain import dialects
from trajectories.domain.schema import canonical, has_all_keys, refuse_repeated_keys, with_id
from trajectories.exceptions import InvalidInput

FULL = {
    "request_summary": 'Say "yes" now: please',
    "phases": [{"phase_name": "plan", "tools_used": ["a:", "b"], "cost_usd": 1.0}],
    "metadata": {"a": {"b": [{"c": "\\"}]}},
}
_TEXTS = st.sampled_from(['": ', ":", '":1,"a":', " :", "\\", '\\":', "\n:", ""]) | st.text(max_size=4)
_VALUES = st.recursive(
    st.none() | st.integers() | st.floats() | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
)
_OBJECTS = st.dictionaries(_TEXTS, _VALUES, max_size=4)
_SEPARATORS = st.sampled_from([(",", ":"), (", ", ": "), (",", " :"), (" ,\n", "\t:"), (",", "\r\n:")])


def refusal(data: bytes) -> InvalidInput:
    with pytest.raises(InvalidInput) as refused:
        dialects.read(data)
    return refused.value


@pytest.mark.parametrize(
    ("data", "key"),
    [
        (b'{"request_summary":"a","request_summary":"b","phases":[]}', "request_summary"),
        (b'{"request_summary":"a","phases":[],"request_\\u0073ummary":"b"}', "request_summary"),
        (b'{"request_summary":"a","phases":[{"phase_name":"a","cost_usd":1,"cost_usd":1}]}', "cost_usd"),
        (b'{"request_summary":"a","phases":[],"metadata":{"a":[{"k" : 1, "k"\n: 2, "v":":"}]}}', "k"),
        (b'{"request_summary":"a","phases":[],"revision":NaN,"revision":NaN}', "revision"),
        (b'{"request":"a","phases":[],"ownKey":1,"ownKey":1}', "ownKey"),
    ],
)
def test_a_repeated_key_is_refused_and_named(data: bytes, key: str) -> None:
    refused = refusal(data)
    assert (refused.status, refused.code, refused.details[0].code) == (400, "invalid_input", "repeated_key")
    assert refused.message == f"Key {key!r} stands more than once in one object"


def test_a_long_repeated_key_is_cut() -> None:
    key = b"k" * 100_000
    assert len(refusal(b'{"request_summary":"a","phases":[],"metadata":{"%b":1,"%b":1}}' % (key, key)).message) < 200


@given(_OBJECTS, _SEPARATORS, st.booleans())
def test_no_object_without_a_repeated_key_is_refused(value: Any, separators: Any, is_ascii: bool) -> None:
    text = json.dumps(value, separators=separators, ensure_ascii=is_ascii)
    refuse_repeated_keys(text.encode(errors="surrogatepass"))


@given(_OBJECTS, _SEPARATORS, st.data())
def test_a_repeated_key_is_refused_at_any_depth(value: dict[str, Any], separators: Any, data: st.DataObject) -> None:
    assume(value)
    again = data.draw(st.sampled_from(list(value)))
    # A parser would keep the last value, so the first may be anything.
    first = {again: data.draw(_VALUES)}
    text = json.dumps(first, separators=separators)[:-1] + separators[0] + json.dumps(value, separators=separators)[1:]
    depth = data.draw(st.integers(0, 3))
    with pytest.raises(InvalidInput):
        refuse_repeated_keys(('{"a":[' * depth + text + "]}" * depth).encode())


@given(_OBJECTS, _SEPARATORS, st.booleans(), st.data())
def test_a_repeated_key_in_own_data_is_refused(
    value: dict[str, Any], separators: Any, is_ascii: bool, data: st.DataObject
) -> None:
    assume(value)
    first = {data.draw(st.sampled_from(list(value))): data.draw(_VALUES)}
    one, two = (json.dumps(each, separators=separators, ensure_ascii=is_ascii) for each in (first, value))
    text = one[:-1] + separators[0] + two[1:]
    with pytest.raises(InvalidInput):
        dialects.read(b'{"request_summary":"a","phases":[],"metadata":%b}' % text.encode(errors="surrogatepass"))


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\n", "\t:")], ids=["short", "usual", "odd"])
def test_keys_are_counted_without_reading_the_body_again(separators: tuple[str, str]) -> None:
    data = json.dumps(FULL, separators=separators).encode()
    assert has_all_keys(canonical(dialects.read(data)), data)
    assert not has_all_keys(canonical(dialects.read(data)), data[:-1] + b',"error":null}')


def test_an_id_that_is_added_to_the_bytes_is_that_of_a_body_with_it() -> None:
    id_ = UUID("0f2b8a3e-6a57-5c8e-8f43-0d9f4f1a7b60")
    without, given = ({"request_summary": "a", "phases": []} | more for more in ({}, {"id": str(id_)}))
    assert with_id(canonical(dialects.read(orjson.dumps(without))), id_) == canonical(
        dialects.read(orjson.dumps(given))
    )


@given(strategies.trajectories | strategies.camel_trajectories)
def test_a_body_without_repeated_keys_is_read(given: dict[str, Any]) -> None:
    assert dialects.read(orjson.dumps(given)) == dialects.read(json.dumps(given, indent=1).encode())
