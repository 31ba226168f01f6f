"""Every reader of text treats the same characters as hidden."""

from __future__ import annotations

import json
import unicodedata

import pytest

from tests.credentials import CREDENTIALS
from trajectories.domain import redaction
from trajectories.domain.quotes import in_quotes
from trajectories.domain.text import INVISIBLE, escaped, visible
from trajectories_mcp.summaries import plain
from trajectories_sdk.cli import text as of_the_sdk

TOKEN = dict(CREDENTIALS)["github-token"]
CODES = [code for first, last in INVISIBLE for code in range(first, last + 1)]
JOINERS = {0x200C, 0x200D}
BREAKS = {0x2028, 0x2029}
SHOWN = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2}
"""Format characters that are shown: signs before numbers, and the marks of Syriac and Arabic."""
DELETE = 0x7F
CONTROLS = (1, 8, 0x0C, 0x1F, DELETE, 0x80, 0x9F)
# Mongolian and Khmer marks, unassigned ones, Kaithi, Egyptian, shorthand, music, tags and what follows.
KNOWN = [0x034F, *range(0x180B, 0x1810), 0x2065, *range(0xFFF0, 0xFFF9), 0x110BD, 0x110CD, *range(0x13430, 0x13439)]
KNOWN += [
    *range(0x1BCA0, 0x1BCA4),
    *range(0x1D173, 0x1D17B),
    *range(0xFE00, 0xFE10),
    0xE0000,
    0xE0041,
    0xE0100,
    0xE0FFF,
]


def test_the_list_has_every_known_hidden_character() -> None:
    assert not set(KNOWN) - set(CODES)
    formats = {code for code in range(0x80, 0x110000) if unicodedata.category(chr(code)) == "Cf"}
    assert formats - SHOWN <= set(CODES)


def test_a_hidden_character_is_shown_to_people_and_removed_for_models() -> None:
    for code in CODES:
        text = f"a{chr(code)}b"
        assert plain(text) == ("a b" if code in BREAKS else "ab"), hex(code)
        if code not in JOINERS:
            assert visible(text) == f"a⟦U+{code:04X}⟧b"
            assert escaped(text) == of_the_sdk.escaped(text) == text.encode("unicode_escape").decode()
            assert chr(code) not in of_the_sdk.json_text(text)


def test_a_quoted_text_hides_no_character_not_even_a_joiner() -> None:
    for code in CODES:
        for text in (f"a{chr(code)}b", f"\u2764{chr(code)}b"):
            assert in_quotes(text, max_chars=10) == f"'{text[0]}{chr(code).encode('unicode_escape').decode()}b'", hex(
                code
            )


@pytest.mark.parametrize("text", ["❤️ 1️⃣ 👩‍💻", "\u2764\ufe0f\ufe0f", "a\ufe0f", "1\ufe0f", "می‌خواهم", "x\U000e0100"])
def test_the_command_and_the_store_escape_the_same_selectors(text: str) -> None:
    assert of_the_sdk.escaped(text) == escaped(text)


def _written(code: int) -> set[str]:
    """Return how texts, JSON, JSON within JSON and Python write a character."""
    char = chr(code)
    escape = json.dumps(char)[1:-1]
    # Two backslashes and a "b" are a path or a pattern more often than a backspace in JSON in JSON.
    nested = {json.dumps(escape)[1:-1]} if "u" in escape else set()
    source = {char.encode("unicode_escape").decode()} if code >= DELETE else set()
    return {char, escape, escape.upper().replace("U", "u"), *nested, *source} - {"\\B", "\\F"}


def test_a_token_split_by_a_hidden_character_is_removed() -> None:
    placed = redaction.placeholder("github-token")
    for code in (*CODES[:400], *KNOWN, 0xE01EF, 0xE07FF, *SHOWN, *CONTROLS):
        for hidden in _written(code):
            split = hidden.join((TOKEN[:9], TOKEN[9:]))
            assert redaction.replace_text(f"at {split} end") == f"at {placed} end", (hex(code), hidden)
