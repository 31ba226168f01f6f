"""The views of a text, and the way back to its bytes."""

from __future__ import annotations

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from trajectories.domain import search_text

HIDDEN = "\u200b".encode()
LATIN1 = re2.Options()
LATIN1.encoding = re2.Options.Encoding.LATIN1
_pieces = st.lists(
    st.one_of(
        st.sampled_from([b"a", b"-", b"%", b"%4", b"\n", b'\\"', "é".encode()]).map(lambda text: (text, text)),
        st.sampled_from([b"A", b"z", b"=", b"/", b"\n"]).map(lambda char: (b"%%%02x" % char[0], char)),
        st.sampled_from([b"A", b"z", b"="]).map(lambda char: (b"%%25%02X" % char[0], char)),
        st.sampled_from([HIDDEN, b"%E2%80%8B", b"%25e2%2580%258b", b"%C2%AD", b"%1B%5B32m", b"%7f"]).map(
            lambda hidden: (hidden, b"")
        ),
    ),
    max_size=30,
)


@given(_pieces)
def test_a_clean_text_leads_back_to_the_bytes_that_each_of_its_bytes_came_from(
    pieces: list[tuple[bytes, bytes]],
) -> None:
    # A separator, so that two pieces do not form another escape.
    data, text, spans = b"", b"", []
    for given_, shown in pieces:
        place = len(data)
        data += given_ + b"~"
        is_copy = given_ == shown
        for at in range(len(shown)):
            spans.append((place + at, place + at + 1) if is_copy else (place, place + len(given_)))
        text += shown + b"~"
        spans.append((len(data) - 1, len(data)))
    view = search_text.decoded(data) or search_text.unchanged(data)
    view = search_text.without_hidden(view) or view
    assert view.text == text
    assert list(view.originals((at, at + 1) for at in range(len(text)))) == spans


def test_percent_encoding_in_a_text_is_one_part_however_much_it_is() -> None:
    """Each part costs half a microsecond: 262,144 of them took 1.6 s."""
    data = b'"' + b"%41a,[%2542 b" * 10_000 + b'"'
    view = search_text.decoded(data)
    assert view is not None
    assert view.text == b'"' + b"Aa,[B b" * 10_000 + b'"'
    assert len(list(view.changes(data))) < 5


@pytest.mark.parametrize("escape", ["\x1b[", "\x1b[1;", "\x1b(", "\u009b", "^["])
def test_the_last_letter_of_an_escape_begins_no_token_that_a_line_break_splits(escape: str) -> None:
    token = "sk-ant-aaaa1\nbbbbbb2"
    view = search_text.without_hidden(search_text.unchanged(f"{escape}{token} {token}".encode()))
    assert view is not None
    assert view.text.endswith(f" {token}".replace("\n", "").encode())
    assert view.text.count(b"\n") == (escape not in ("^[", "\x1b("))


@given(
    st.lists(
        st.sampled_from(
            [
                b"\\",
                b"\x1b",
                b"[",
                b"0",
                b"m",
                b"%",
                b"25",
                b"41",
                b"sk-a1b2c3",
                b"\n",
                b"u200b",
                b"%1b",
                b"]",
                b"\x07",
                b"x9d",
                b"^[",
                b"P",
            ]
        )
    )
)
def test_the_quick_search_finds_whatever_a_view_changes(parts: list[bytes]) -> None:
    data = b"".join(parts)
    for base in filter(None, (search_text.unchanged(data), search_text.decoded(data))):
        for form_of in search_text.forms_of(base):
            view = form_of(base)
            if view is not None and view.text != data:
                assert re2.search(search_text.CHANGED, data, LATIN1)
