"""What errors quote of a caller: its cost is that of each text once, and has a limit."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from tests.credentials import JWT_HEADER, JWT_PAYLOAD, MIXED
from tests.examples import body
from trajectories.api.exception_handler import error_object
from trajectories.domain import dialects, quotes, redaction
from trajectories.domain.contract_types import MAX_FREE_DEPTH, MAX_PROBLEMS
from trajectories.domain.quotes import MAX_FULL_ERRORS, MAX_PATH, MAX_SEARCHED_CHARS, Quotes
from trajectories.domain.schema import Trajectory
from trajectories.exceptions import InvalidInput

NUL = "\0"


def nested(keys: list[str], *, problems: int = MAX_PROBLEMS) -> bytes:
    value: Any = [NUL] * problems
    for key in keys:
        value = {key: value}
    return orjson.dumps(body(metadata=value))


def refusal(data: bytes, quotes: Quotes | None = None) -> InvalidInput:
    with pytest.raises(InvalidInput) as refused:
        dialects.read_canonical(data, quotes)
    return refused.value


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that are searched for credentials."""
    texts: list[str] = []
    replace_text = redaction.replace_text

    def counted(text: str) -> str:
        texts.append(text)
        return replace_text(text)

    monkeypatch.setattr(redaction, "replace_text", counted)
    return texts


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys that are compared with the known ones."""
    keys: list[str] = []

    def counted(key: str, *_: object) -> list[str]:
        keys.append(key)
        return []

    monkeypatch.setattr("difflib.get_close_matches", counted)
    return keys


def test_a_key_is_searched_once_however_many_problems_are_in_it(searched: list[str]) -> None:
    refused = refusal(nested(["a://:b@", "one", "two"]))
    assert refused.details[0].path == "metadata.two.one.a://:[redacted:url-password]@[0]"
    assert sorted(searched) == ["a://:b@", "one", "two"]


# Problems, depth and the length of keys: a body has room for each of them, and work was their product.
@pytest.mark.parametrize("length", [20, 1_000, 4_000])
def test_the_search_of_deep_and_long_keys_has_a_limit(length: int, searched: list[str]) -> None:
    refused = refusal(nested([("a://:b@ " * length)[:length] + str(number) for number in range(MAX_FREE_DEPTH - 4)]))
    assert (len(refused.details), refused.found) == (MAX_PROBLEMS, MAX_PROBLEMS)
    assert sum(map(len, searched)) <= MAX_SEARCHED_CHARS


def test_refused_values_of_many_lines_are_searched_up_to_the_same_limit(searched: list[str]) -> None:
    request = Quotes()
    for number in range(200):
        refusal(orjson.dumps(body(outcome=f"{number} " + "a://:b@ " * 100)), request)
    assert MAX_SEARCHED_CHARS * 0.9 < sum(map(len, searched)) <= MAX_SEARCHED_CHARS


def test_an_error_after_the_limit_quotes_no_text_that_is_not_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotes, "MAX_SEARCHED_CHARS", 10)
    refused = refusal(orjson.dumps(body(metadata={"known": {"a://:b@": NUL}})))
    assert [problem.path for problem in refused.details] == ["metadata.known.(7 characters)"]


def test_the_middle_of_a_long_path_is_left_out() -> None:
    refused = refusal(nested([f"{'k' * 50}{number:02}" for number in range(60)]))
    path = refused.details[7].path
    assert len(path) == MAX_PATH
    assert path.startswith("metadata." + "k" * 50 + "59." + "k")
    assert path.endswith("01." + "k" * 50 + "00[7]")
    assert refused.message.startswith(refused.details[0].path)


@pytest.mark.parametrize("key", ["k", "\x01", "\U000e0001", "\u8449", "\\"])
def test_the_answer_to_a_refusal_is_small(key: str) -> None:
    deep = refusal(nested([key * 500 + str(number) for number in range(60)]))
    wide = refusal(orjson.dumps(body(**{key * 200 + str(number): number for number in range(5_000)})))
    for refused in (deep, wide):
        assert refused.details
        assert len(orjson.dumps(error_object(refused))) < 64 * 2**10


def test_a_long_text_is_cut_before_it_is_searched_and_not_within_a_credential() -> None:
    long_token = f"{JWT_HEADER}.{JWT_PAYLOAD}{'A' * 4_000}.{MIXED}"
    assert redaction.quoted(f"see {long_token}", max_chars=100) == "see"
    assert redaction.quoted(long_token, max_chars=100) == f"({len(long_token):,} characters)"
    assert redaction.quoted("see " * 1_000 + long_token, max_chars=7) == "see see"
    password = f"a://:{'p' * 2_000}@"
    assert "ppp" not in redaction.quoted(f"at\n{password}", max_chars=100)


def test_a_repeated_key_is_named_without_the_credential_that_it_is() -> None:
    token = f"{JWT_HEADER}.{JWT_PAYLOAD}.{MIXED}"
    refused = refusal(
        b'{"request_summary":"x","phases":[],"metadata":{"%b":1,"%b":2}}' % (token.encode(), token.encode())
    )
    assert refused.message == "Key '[redacted:jwt]' stands more than once in one object"


def test_an_unknown_key_is_compared_with_the_known_ones_once_a_request(compared: list[str]) -> None:
    request = Quotes()
    for _ in range(50):
        refusal(orjson.dumps({"total_phaseex": 1, "total_phaseey": 1, "projct": 1, "outcme": 1}), request)
    assert sorted(compared) == ["outcme", "projct", "total_phaseex", "total_phaseey"]


def test_no_hint_is_computed_for_an_error_that_is_not_shown_in_full(compared: list[str]) -> None:
    request = Quotes()
    for _ in range(MAX_FULL_ERRORS):
        assert len(refusal(b"{}", request).details) == 2
    late = refusal(b'{"projct":1}', request)
    assert (len(late.details), late.found, compared) == (1, 3, [])
    assert late.message == "request_summary: Field required (2 more)"
    assert refusal(orjson.dumps(body(projct=1)), request).message.startswith("projct: Unknown key 'projct'. Own")
    assert compared == []


def test_the_keys_of_one_request_that_are_compared_have_a_limit(compared: list[str]) -> None:
    request = Quotes()
    for number in range(MAX_FULL_ERRORS):
        refusal(orjson.dumps(body(**{f"total_{number}_{letter}": 1 for letter in "abc"})), request)
    assert len(compared) == 100


def test_problems_of_free_values_count_one_by_one() -> None:
    assert refusal(nested(["a"], problems=70)).found == 70


def test_the_text_of_an_error_of_free_values_does_not_have_their_paths() -> None:
    with pytest.raises(ValidationError) as refused:
        Trajectory.model_validate_json(nested(["k" * 1_000]))
    (error,) = refused.value.errors(include_url=False)
    # Pydantic makes a text of the context, whatever the message has of it: 24 MB of these paths.
    assert "kkk" not in str(error["ctx"]["problems"])
