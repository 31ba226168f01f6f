"""What redaction leaves of JSON is JSON of the same shape, whatever the text is."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.credentials import CREDENTIALS, HEX, IN_CONTEXT, MIXED
from tests.domain.redacted import stored
from tests.examples import body
from tests.strategies import examples
from trajectories.domain import redaction
from trajectories.domain.redaction import COUNT_KEY

# A break, a tab or a quote within a gap or before a token, as JSON and source code write them.
_ESCAPES = [
    "\n",
    "\t",
    "\r",
    "\b",
    "\f",
    "\x01",
    "\x1b",
    '"',
    "\\",
    "\\\n",
    "\\n",
    "\\t",
    "\\\\",
    "'\n",
    '"\n',
    ",\t",
    "'\\",
]
_WORDS = [
    "--oauth2-bearer",
    "--oauth2-bearer ",
    "Bearer",
    "curl -X '-u',",
    "curl a.b '-b',",
    "['curl', '-u',",
    "x-api-key",
]
_ANNOUNCED = [before for _, before, _, _ in IN_CONTEXT] + _WORDS
_VALUES = [text for _, _, text, _ in IN_CONTEXT] + [text for _, text in CREDENTIALS]
# The first letter of some tokens is one of an escape: JSON writes "\npm_" for a line break and "pm_".
_CUT_VALUES = _VALUES + [text[1:] for text in _VALUES] + ["1234567890123456789", "0.12345678901234568"]


def _any_of(texts: list[str]) -> st.SearchStrategy[str]:
    """Sample, without the texts in the strategy's representation: Hypothesis warns of a long one."""
    return st.integers(0, len(texts) - 1).map(texts.__getitem__)


_PLACED = st.tuples(*map(_any_of, (["", *_ANNOUNCED], ["", *_ESCAPES], ["", *_CUT_VALUES]))).map("".join)
_JSON_TEXTS = st.lists(_PLACED, min_size=1, max_size=3).map("".join)
_NUMBERS = st.sampled_from([1234567890123456789, -1234567890123456, 0.12345678901234568, -1.2345678901234567e-300])
_JSON = st.recursive(
    _JSON_TEXTS | _NUMBERS | st.none(),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(_JSON_TEXTS | _any_of(_WORDS), values),
    max_leaves=6,
)


def _shape_of(value: Any) -> Any:
    """Return a value without its texts. Objects are lists of pairs, since keys may become equal."""
    if isinstance(value, list):
        return [_shape_of(item) for item in value]
    if isinstance(value, tuple):
        return (_shape_of(value[1]),)
    return "" if isinstance(value, str) else value


def _read(data: bytes) -> Any:
    return _shape_of(json.loads(data, object_pairs_hook=list))


def _is_kept_json(value: Any) -> bool:
    given = orjson.dumps(value)
    clean = redaction.replace(given).body
    orjson.loads(clean)
    return bool(_read(clean) == _read(given))


@settings(max_examples=examples(400))
@given(_JSON)
def test_a_redacted_value_is_json_of_the_same_shape(value: Any) -> None:
    assert _is_kept_json(value)
    assert _is_kept_json(json.dumps(value))


@pytest.mark.parametrize("escape", _ESCAPES)
def test_no_credential_begins_or_ends_within_an_escape(escape: str) -> None:
    for before in _ANNOUNCED:
        for value in (MIXED[:40], "admin:hunter2", f"sid={HEX[:32]}"):
            assert _is_kept_json(f"{before}{escape}{value}{escape}"), before
    for value in _CUT_VALUES:
        assert _is_kept_json(f"{escape}{value}{escape}"), value


def test_a_token_on_the_next_line_of_a_command_is_removed() -> None:
    for gap in (" \\\n", "\t", "\n", " \\\n  '", "',\n '", '", "'):
        record = stored(body(error=f"curl --oauth2-bearer{gap}{MIXED[:40]}"))
        assert record["error"] == f"curl --oauth2-bearer{gap}[redacted:bearer-token]"


def test_a_number_in_the_place_of_a_credential_is_kept() -> None:
    own = {
        "x-api-key": 1234567890123456,
        "x_key": 0.12345678901234568,
        "a": ["--oauth2-bearer", 1234567890123456],
    }
    assert stored(body(metadata=own))["metadata"] == own
    text = stored(body(metadata={"x-api-key": "1234567890123456789"}, error="x-api-key: 1234567890123456789"))
    assert text["metadata"] == {"x-api-key": "[redacted:api-key]", COUNT_KEY: {"api-key": 2}}
