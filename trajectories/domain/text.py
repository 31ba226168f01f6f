"""Forms of clients' text: safe to read, and folded for searches. A number with its noun.

Text that is safe to read cannot control a terminal, hide, or reorder what is shown. Stored text
stays as it was sent; the safe forms are for pages, logs and messages.
"""

from __future__ import annotations

import re
import unicodedata

# Controls C0, DEL and C1, and characters that reorder text (UAX 9) or show nothing: marks, fillers,
# separators, tag characters. Joiners (U+200C, U+200D) stay: scripts and emoji need them.
_HIDDEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164"
    "\ufeff\uffa0\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e007f"
)
_ACTING = re.compile(f"[{_HIDDEN}]")
_BREAKING = re.compile(f"[\t\n{_HIDDEN}]")
_DEL = 0x7F


def visible(text: str) -> str:
    """Replace control characters by pictures (``␛``), other unsafe ones by codes (``⟦U+202E⟧``).

    Tabs and line breaks stay.
    """
    return _ACTING.sub(lambda found: _mark(ord(found[0])), text)


def escaped(text: str) -> str:
    r"""Return ``text`` on one line, these characters escaped: ``\x1b``, ``\n``, ``\u202e``."""
    return _BREAKING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


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
