"""Forms of clients' text: safe to read, and folded for searches. A number with its noun.

Text that is safe to read cannot control a terminal, hide, or reorder what is shown. Stored text
stays as it was sent; the safe forms are for pages, logs and messages.
"""

from __future__ import annotations

import re
import unicodedata

INVISIBLE = (
    # Unicode 17, DerivedCoreProperties, Default_Ignorable_Code_Point: Python does not have it.
    (0x00AD, 0x00AD), (0x034F, 0x034F), (0x061C, 0x061C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F),
    (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF),
    # Separators of lines, and format characters of annotations and of single scripts.
    (0x2028, 0x2029), (0xFFF9, 0xFFFB), (0x110BD, 0x110BD), (0x110CD, 0x110CD), (0x13430, 0x1343F),
)  # fmt: skip
"""First and last code of the characters that reorder text (UAX 9) or show nothing: marks, fillers,
separators, variation selectors, tags. The SDK and the MCP server have a copy."""

_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f"
_HIDDEN = _CONTROLS + "".join(f"{chr(first)}-{chr(last)}" for first, last in INVISIBLE)
_SYMBOLS = "\u00a9\u00ae\u203c\u2049\u2122\u2139\u2190-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"
# Scripts and emoji need the joiners (U+200C, U+200D), and emoji one variation selector after a
# symbol or within a keycap. Others could hide a text.
_EXCEPT = f"(?<![\u200c\u200d])(?<![{_SYMBOLS}][\ufe0e\ufe0f])(?!(?<=[0-9#*]\ufe0f)\u20e3)"
_ACTING = re.compile(f"[{_HIDDEN}]{_EXCEPT}")
_BREAKING = re.compile(f"[\t\n{_HIDDEN}]{_EXCEPT}")
_ANY_HIDDEN = re.compile(f"[{_HIDDEN}]")
_DEL = 0x7F


def visible(text: str) -> str:
    """Replace control characters by pictures (``␛``), other unsafe ones by codes (``⟦U+202E⟧``).

    Tabs and line breaks stay.
    """
    return _ACTING.sub(lambda found: _mark(ord(found[0])), text)


def escaped(text: str) -> str:
    r"""Return ``text`` on one line, these characters escaped: ``\x1b``, ``\n``, ``\u202e``."""
    return _BREAKING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def quoted(text: str) -> str:
    """Return ``text`` in quotes, as ``repr`` does, with every character escaped that shows nothing.

    Joiners and the selectors of emoji are no exception: a reader compares what is quoted with other
    texts.
    """
    return _ANY_HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode(), repr(text))


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: ``1 run``, ``2,000 runs``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _mark(code: int) -> str:
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == _DEL else f"\u27e6U+{code:04X}\u27e7"


def fold(text: str) -> str:
    """Return ``text`` for searches that ignore case and form: NFKC, casefold, NFKC.

    Source: Unicode 3.13, D146 without its first NFD.
    """
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
