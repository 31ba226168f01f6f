"""The shapes of what a reader does not see: sequences of a terminal, control characters and
invisible ones.

A text has them as they are, or escaped as JSON, source code and logs write them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from trajectories.domain.text import INVISIBLE


def shape(backslash: bytes, backslashes: bytes) -> bytes:
    """Return the shape of one hidden part, for RE2 and ``re``.

    Each alternative begins with another byte or bytes, so that Python looks for these alone.

    Args:
        backslash: what matches one that follows no other one.
        backslashes: what matches those of an escape. JSON within JSON has many.
    """
    return b"|".join(
        (
            rb"\x1b" + _SEQUENCE + b"?",
            backslashes + _ESCAPED,
            backslash + b"[bf]",
            rb"\[(?:[0-9;]{1,12}m|K)",
            rb"\^\[" + _SEQUENCE,
            rb"\xc2\x9b(?:" + _PARAMETERS + b")?",
            *_RAW,
        )
    )


def string_start() -> bytes:
    """Return the shape of how a string for a terminal begins, such as a link or a title, for RE2."""
    return b"|".join(_string_starts(rb"\\+"))


def any_string() -> bytes:
    """Return a shape that is in each text with a ``string``, for RE2, which has no lookahead."""
    return b"(?:" + string_start() + rb")(?s:[^\x1b\x07]*)" + _STRING_END.replace(b"++", b"+").replace(b"}+", b"}")


def string(backslashes: bytes) -> bytes:
    """Return the shape of a whole string for a terminal, for ``re``.

    Its text has no beginning of another one, so strings without an end are read once. It has no
    quote that ends a string of JSON.
    """
    return b"|".join(start + _STRING_TEXT + _STRING_END for start in _string_starts(backslashes))


def _string_starts(backslashes: bytes) -> Iterator[bytes]:
    yield rb"\x1b" + _OPENER
    yield rb"\xc2[\x90\x98\x9d-\x9f]"
    yield rb"\^\[" + _OPENER
    yield backslashes + b"(?:" + _ESCAPE + _OPENER + rb"|(?:u00|x)9[08d-fD-F])"


def _hidden_codes() -> set[int]:
    """Return the control characters, and the characters that show nothing: also the format
    characters of all scripts."""
    invisible = {code for first, last in INVISIBLE for code in range(first, last + 1)}
    # The planes beyond have none but tags, which are in INVISIBLE.
    formats = {code for code in range(0x80, 0x20000) if unicodedata.category(chr(code)) == "Cf"}
    return {*range(0x20), *range(0x7F, 0xA0)} | invisible | formats


def _raw() -> Iterator[bytes]:
    """Yield the shapes of the characters in UTF-8, without those that the text has anyway or that
    begin a sequence. Each begins with one byte; control characters are last, since they are rare.
    """
    known = {ord(char) for char in "\t\n\r\x1b\x9b"}
    encoded = {chr(code).encode().decode("latin-1") for code in _HIDDEN - known}
    for first in sorted({text[0] for text in encoded}, reverse=True):
        yield _any_of(frozenset(text for text in encoded if text[0] == first))


def _escapes() -> Iterator[bytes]:
    r"""Yield the shapes of the characters after the backslashes of an escape: ``u200b`` and
    ``udb40\udc41`` (JSON), ``x7f`` and ``U000e0041`` (Python). Digits may be of either case.
    """
    for letter, digits, codes in (("u", 4, range(0x10000)), ("x", 2, range(0x7F, 0x100)), ("U", 8, range(0x110000))):
        names = {f"{code:0{digits}x}" for code in _HIDDEN if code in codes}
        if letter == "u":
            pairs = (chr(code).encode("utf-16-be").hex() for code in _HIDDEN if code not in codes)
            names |= {pair[:4] + _BETWEEN + pair[4:] for pair in pairs}
        yield letter.encode() + _any_of(frozenset(names))


def _any_of(texts: frozenset[str]) -> bytes:
    """Return the shape of any of ``texts``, of which none begins with another one. Characters with
    the same rest are one class.
    """
    rests: dict[str, set[str]] = {}
    for text in texts - {""}:
        rests.setdefault(text[0], set()).add(text[1:])
    firsts: dict[frozenset[str], list[str]] = {}
    for first in sorted(rests):
        firsts.setdefault(frozenset(rests[first]), []).append(first)
    shapes = [_class_of(chars) + _any_of(rest) for rest, chars in firsts.items()]
    return shapes[0] if len(shapes) == 1 else b"(?:" + b"|".join(shapes) + b")" if shapes else b""


def _class_of(chars: list[str]) -> bytes:
    if chars == [_BETWEEN]:
        return rb"\\+u"
    both = sorted({case for char in chars for case in (char, char.upper() if char.isascii() else char)})
    shapes = [b"\\x%02x" % ord(char) for char in both]
    return shapes[0] if len(shapes) == 1 else b"[" + b"".join(shapes) + b"]"


_HIDDEN = _hidden_codes()
_BETWEEN = "-"
"""Stands for the backslashes and the letter between the two halves of a pair."""

# ECMA-48: colours and other control sequences; also as source code and logs write them, and without
# the escape character, as some tools leave them.
_PARAMETERS = rb"[0-9;:?]*[A-Za-z]"
_SEQUENCE = rb"(?:\[" + _PARAMETERS + rb"|[()][A-Z0-9])"
_ESCAPE = rb"(?:u001[bB]|x1[bB]|033|e)"
_ESCAPED = b"(?:" + _ESCAPE + _SEQUENCE + rb"|(?:u009[bB]|x9[bB])" + _PARAMETERS + b"|" + b"|".join(_escapes()) + b")"
_RAW = tuple(_raw())
# ECMA-48, sections 5.6 and 8.3: DCS, SOS, OSC, PM and APC, up to ST. Terminals end them at BEL too
# (xterm, "Control Sequences"), and have the title of screen (k).
_OPENER = rb"[\]PX^_k]"
_ENDS = rb"u00(?:07|1[8aAbB]|9[08c-fC-F])|x(?:07|1[8aAbB]|9[08c-fC-F])|0(?:07|33)|[ae]"
_STRING_TEXT = (
    rb"(?:[^\x07\x18\x1a\x1b\"\\^\xc2]++|\^(?![\[G])|\xc2(?![\x90\x98\x9c-\x9f])|\\(?:\\\\)*+\"|\\++(?!\"|"
    + _ENDS
    + b"))*+"
)
# JSON doubles the backslash of ST with each level, and that of the escape before it from the second
# one. A decoded backslash is a "'" (search_text).
_STRING_END = (
    rb"(?:\x07|\x1b[\\']|\xc2\x9c|\^(?:G|\[(?:\\\\){1,2}+)|\\++(?:(?:u00|x)(?:07|9[cC])|007|a)"
    rb"|\\" + _ESCAPE + rb"\\\\|\\{2}" + _ESCAPE + rb"(?:\\\\){1,2}+|\\{3,}+" + _ESCAPE + rb"(?:\\\\)++)"
)
