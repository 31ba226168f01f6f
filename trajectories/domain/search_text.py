"""The text in which credentials are searched, with the way back to the text that was given.

A credential may be split or covered by what a reader does not see: colours of a terminal, invisible
characters, a line break where a terminal wrapped it, percent-encoding. A view is the text without
these. A match in a view is mapped to the bytes that it came from.

The input is JSON or plain text. A view removes whole escapes only, and decodes no quote and no
backslash, so a match never ends within an escape of the input.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

import re2


class View(NamedTuple):
    """A text made from another one, in pieces.

    Piece ``i`` begins at ``starts[i]`` of ``text`` and at ``origins[i]`` of the original. A byte of
    it was ``widths[i]`` bytes.
    """

    text: bytes
    starts: list[int]
    origins: list[int]
    widths: list[int]

    def original(self, start: int, end: int) -> tuple[int, int]:
        """Return where the bytes from ``start`` to ``end``, at least one, are in the original."""
        first = bisect_right(self.starts, start) - 1
        last = bisect_right(self.starts, end - 1) - 1
        return (
            self.origins[first] + (start - self.starts[first]) * self.widths[first],
            self.origins[last] + (end - self.starts[last]) * self.widths[last],
        )


def without_hidden(data: bytes) -> View | None:
    """Return ``data`` without what a reader does not see, or None if there is nothing of it."""
    return _view(data, _HIDDEN) if _HIDDEN.search(data) else None


def unchanged(data: bytes) -> View:
    return View(data, [0], [0], [1])


def decoded(data: bytes) -> View | None:
    """Return ``data`` without what is hidden and percent-decoded, once or twice; None if it is not
    encoded.
    """
    return _view(data, _HIDDEN_OR_ENCODED) if _ENCODED.search(data) else None


def _view(data: bytes, pattern: Any) -> View:
    starts, origins, widths, parts = [0], [0], [1], list[bytes]()
    done = size = 0
    for start, end, shown, width in _changes(data, pattern):
        parts += (data[done:start], shown)
        size += start - done
        if shown:
            starts.append(size)
            origins.append(start)
            widths.append(width)
            size += len(shown)
        starts.append(size)
        origins.append(end)
        widths.append(1)
        done = end
    parts.append(data[done:])
    return View(b"".join(parts), starts, origins, widths)


def _changes(data: bytes, pattern: Any) -> Iterator[tuple[int, int, bytes, int]]:
    """Yield start and end of each piece to change, what it becomes, and bytes of it per byte."""
    for match in pattern.finditer(data):
        start, end = match.span()
        match match.lastindex:
            case None:
                yield start, end, b"", 1
            case 1:
                yield from _line_breaks(match[1], match.start(1))
            case 2:
                yield start, end, unquote_to_bytes(match[2]).translate(_SAFE), 3
            case _:
                yield start, end, unquote_to_bytes(unquote_to_bytes(match[3])).translate(_SAFE), 5


def _line_breaks(lines: bytes, at: int) -> Iterator[tuple[int, int, bytes, int]]:
    """Yield the breaks before lines that continue a token. Words, numbers and dates do not."""
    for line in _NEXT_LINE.finditer(lines):
        word = line[1].translate(None, delete=b"-_.")
        if not 4 <= len(word.translate(None, delete=_DIGITS)) < len(word):
            return
        yield at + line.start(), at + line.start(1), b"", 1


def _invisible() -> Iterator[bytes]:
    """Yield the characters that show nothing: format characters of Unicode, fillers, variation
    selectors, the soft hyphen.
    """
    others = {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0, *range(0x180B, 0x1810), *range(0xFE00, 0xFE10)}
    for code in [*range(0xAD, 0x10000), *range(0xE0000, 0xE01F0)]:
        if code in others or code > 0xE00FF or unicodedata.category(chr(code)) == "Cf":
            yield re2.escape(chr(code).encode())


def _compiled(pattern: bytes) -> Any:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    return re2.compile(pattern, options)


_DIGITS = b"0123456789"
_SAFE = bytes(0x20 if char < 0x20 else ord("'") if char in b'"\\' else char for char in range(256))
"""A decoded quote or backslash must not look like one of JSON."""

# ECMA-48: colours and other control sequences; also as source code and logs write them, and without
# the escape character, as some tools leave them.
_ESCAPE = rb"(?:\\+(?:u001[bB]|x1[bB]|033|e)|\x1b|\^\[)"
_ANSI = _ESCAPE + rb"(?:\[[0-9;:?]*[A-Za-z]|[()][A-Z0-9])|\xc2\x9b[0-9;:?]*[A-Za-z]|\[[0-9;]{1,12}m|\[K"
_CONTROL = rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]|\\+u00(?:[01][0-9a-fA-F]|7[fF]|[89][0-9a-fA-F])"
_ESCAPED = rb"\\+u(?:00[aA][dD]|061[cC]|180[eE]|200[b-fB-F]|20[26][0-9a-fA-F]|[fF][eE](?:0[0-9a-fA-F]|[fF]{2}))"
# How tokens begin that may be longer than the rest of a line.
_PREFIX = (
    rb"(?:[rs]k[-_]|whsec_|lsv2_|gsk_|xai-|pplx-|r8_|nvapi-|hf_|api_org_|AIza|AQ\.|ya29\.|GOCSPX-|A[KSBC][IC]A|gh[a-z]_"
    rb"|github_pat_|gl[a-z]{2,5}-|xox|xapp-|xwfp-|npm_|pypi-|SG\.|eyJ|do[opr]_v1_|dp\.|dapi|shp[a-z]{2}_|hv[sb]\.|pscale_"
    rb"|lin_api_|ntn_|glsa_|glc_|rubygems_|sntry|ops_|AGE-SECRET-KEY-)"
)
_BREAK = rb"(?:(?:\\+r)?\\+n|\r?\n) {0,16}"
_TOKEN = rb"[A-Za-z0-9_.+/=-]"
_NEXT_LINE = _compiled(_BREAK + b"(" + _TOKEN + b"+)")
_WRAPPED = rb"\b_?" + _PREFIX + _TOKEN + b"*((?:" + _BREAK + _TOKEN + b"{6,})+)"
_HIDDEN_SHAPE = b"(?:" + b"|".join((_ANSI, _CONTROL, _ESCAPED, *_invisible())) + b")+|" + _WRAPPED
_ENCODED_SHAPE = rb"((?:%[013-9A-Fa-f][0-9A-Fa-f]|%2[0-46-9A-Fa-f])+)|((?:%25[0-9A-Fa-f]{2})+)"

CHANGED = _HIDDEN_SHAPE + b"|" + _ENCODED_SHAPE
"""RE2: what a view changes."""
# Global because compiling them takes milliseconds. They are constants, so they need no reset.
_HIDDEN = _compiled(_HIDDEN_SHAPE)
_HIDDEN_OR_ENCODED = _compiled(_HIDDEN_SHAPE + b"|" + _ENCODED_SHAPE)
_ENCODED = _compiled(rb"%[0-9A-Fa-f]{2}")
