"""The words by which the admin finds a run."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import REFERENCE, body, phase
from trajectories.domain.search_words import MAX_BYTES, MAX_WORD, MAX_WORDS, MORE, words_in, words_of


def test_names_are_searched_by_their_parts_in_any_case() -> None:
    assert words_in("Anthropic/Claude-Sonnet-4 file_read ﬁnd") == [
        "anthropic",
        "claude",
        "sonnet",
        "4",
        "file",
        "read",
        "find",
    ]


def test_a_script_without_blanks_is_searched_by_its_characters() -> None:
    assert words_in("認証を追加 OAuth") == ["認", "証", "を", "追", "加", "oauth"]


def test_a_run_is_found_by_request_tags_agents_models_tools_and_errors() -> None:
    retried = phase(error="disk full", attempts=[{"model": "gpt-5", "outcome": "failure", "error": "rate limited"}])
    words = words_of(REFERENCE | {"tags": ["nightly"], "phases": [*REFERENCE["phases"], retried]})
    expected = "authentication feature my-project nightly product-manager sonnet grep disk full gpt 5 rate limited"
    assert set(words_in(expected)) <= set(words)
    assert len(words) == len(set(words))


def test_a_long_log_hides_no_tool_and_is_bounded() -> None:
    log = " ".join(f"line{number}" for number in range(30_000))
    words = words_of(body(phases=[phase(error=log), phase(tools_used=["grep"])]))
    assert "grep" in words
    assert len(words) == MAX_WORDS
    assert words_in("x" * 1_000) == ["x" * MAX_WORD]


@given(st.lists(st.text(st.sampled_from("aB \n-é\u0301ﬁİ認ก\u1100\u1161"), max_size=8), max_size=6))
@settings(max_examples=50)
def test_no_word_goes_from_one_text_into_the_next(texts: list[str]) -> None:
    each = words_in("unspecified summary") + [word for text in texts for word in words_in(text)]
    found = words_of({"request_summary": "unspecified summary", "tags": texts, "phases": []})
    assert found == list(dict.fromkeys(each))


def test_words_beyond_the_size_limit_are_left_out_in_their_order() -> None:
    texts = [f"{number:05}" + "ß" * 59 for number in range(9_000)]
    words = words_of({"request_summary": "first", "tags": texts, "phases": []})
    assert words.pop() == MORE
    assert words == ["first", *(words_in(text)[0] for text in texts)][: len(words)]
    size = len("".join(words).encode())
    assert MAX_BYTES - 200 < size <= MAX_BYTES
