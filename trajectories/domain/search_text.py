"""The text in which credentials are searched, with the way back to the text that was given.

A credential may be split or covered by what a reader does not see: colours of a terminal, invisible
characters, a line break where a terminal wrapped it, percent-encoding. A view is the text without
these. A match in a view is mapped to the bytes that it came from.

The input is JSON or plain text. A view removes whole escapes only, and decodes no quote and no
backslash, so a match never ends within an escape of the input.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

import re2


class View(NamedTuple):
    """A text made from another one, in pieces.

    Piece ``i`` begins at ``starts[i]`` of ``text`` and at ``origins[i]`` of the original. It is a
    copy if ``encoded[i]`` is empty; otherwise it is that percent-encoded text, decoded.
    """

    text: bytes
    starts: list[int]
    origins: list[int]
    encoded: list[bytes]

    def originals(self, spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Yield where ``spans`` are in the original; they ascend and have at least one byte each."""
        last, offsets = -1, array("q")
        for start, end in spans:
            found = []
            for place in (start, end - 1):
                piece = bisect_right(self.starts, place) - 1
                if self.encoded[piece] and piece != last:
                    # Only for a piece in which a credential begins or ends.
                    last, offsets = piece, _offsets(self.encoded[piece])
                within = place - self.starts[piece]
                found.append((offsets[within], offsets[within + 1]) if self.encoded[piece] else (within, within + 1))
                found[-1] = (found[-1][0] + self.origins[piece], found[-1][1] + self.origins[piece])
            yield found[0][0], found[1][1]


def without_hidden(data: bytes) -> View | None:
    """Return ``data`` without what a reader does not see, or None if there is nothing of it."""
    return _view(data, _HIDDEN) if _HIDDEN.search(data) else None


def unchanged(data: bytes) -> View:
    return View(data, [0], [0], [b""])


def decoded(data: bytes) -> View | None:
    """Return ``data`` without what is hidden and percent-decoded, once or twice; None if it is not
    encoded.
    """
    return _view(data, _HIDDEN_OR_ENCODED) if _ENCODED.search(data) else None


def _view(data: bytes, pattern: Any) -> View:
    starts, origins, encoded, parts = [0], [0], [b""], list[bytes]()
    done = size = 0
    for start, end, shown in _changes(data, pattern):
        parts += (data[done:start], shown)
        size += start - done
        if shown:
            starts.append(size)
            origins.append(start)
            encoded.append(data[start:end])
            size += len(shown)
        starts.append(size)
        origins.append(end)
        encoded.append(b"")
        done = end
    parts.append(data[done:])
    return View(b"".join(parts), starts, origins, encoded)


def _changes(data: bytes, pattern: Any) -> Iterator[tuple[int, int, bytes]]:
    """Yield start and end of each piece to change, and what it becomes."""
    for match in pattern.finditer(data):
        start, end = match.span()
        first = data[start]
        if first == _PERCENT:
            # The second time for what was encoded twice. Nothing else has become an escape.
            yield start, end, unquote_to_bytes(unquote_to_bytes(data[start:end])).translate(_SAFE)
        elif first in _WORD:
            yield from _line_breaks(data[start:end], start)
        else:
            yield start, end, b""


def _offsets(encoded: bytes) -> array[int]:
    """Return where each byte of the decoded text begins in ``encoded``, and where the last one
    ends."""
    found = array("q", (unit.start() for unit in _UNIT.finditer(encoded)))
    found.append(len(encoded))
    return found


def _line_breaks(lines: bytes, at: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield the breaks before lines that continue a token. Words, numbers and dates do not."""
    for line in _NEXT_LINE.finditer(lines):
        word = line[1].translate(None, delete=b"-_.")
        if not 4 <= len(word.translate(None, delete=_DIGITS)) < len(word):
            return
        yield at + line.start(), at + line.start(1), b""


def _invisible() -> Iterator[bytes]:
    """Yield the characters that show nothing: format characters of Unicode, fillers, variation
    selectors, the soft hyphen.
    """
    others = {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0, *range(0x180B, 0x1810), *range(0xFE00, 0xFE10)}
    for code in [*range(0xAD, 0x10000), *range(0xE0000, 0xE01F0)]:
        if code in others or code > 0xE00FF or unicodedata.category(chr(code)) == "Cf":
            yield re2.escape(chr(code).encode())


def _compiled(pattern: bytes, *, never_capture: bool = True) -> Any:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.never_capture = never_capture
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
# Python's own: a match costs a quarter of RE2's, and within _WRAPPED there is one way to match.
_NEXT_LINE = re.compile(_BREAK + b"(" + _TOKEN + b"+)")
_WRAPPED = rb"\b_?" + _PREFIX + _TOKEN + b"*(?:" + _BREAK + _TOKEN + b"{6,})+"
_HIDDEN_SHAPE = b"(?:" + b"|".join((_ANSI, _CONTROL, _ESCAPED, *_invisible())) + b")+|" + _WRAPPED
# One match for all that is encoded in a text, with the words between: a match costs microseconds.
_CODE = rb"%(?:25[0-9A-Fa-f]{2}|[013-9A-Fa-f][0-9A-Fa-f]|2[0-46-9A-Fa-f])"
_ENCODED_SHAPE = _CODE + rb"(?:[A-Za-z0-9_.~:/?=&+@ -]{0,64}" + _CODE + b")*"
_UNIT = re.compile(rb"%25[0-9A-Fa-f]{2}|%[0-9A-Fa-f]{2}|.")
_PERCENT = ord("%")
_WORD = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")

CHANGED = _HIDDEN_SHAPE + b"|" + _ENCODED_SHAPE
"""RE2: what a view changes."""
# Global because compiling them takes milliseconds. They are constants, so they need no reset.
_HIDDEN = _compiled(_HIDDEN_SHAPE)
_HIDDEN_OR_ENCODED = _compiled(_HIDDEN_SHAPE + b"|" + _ENCODED_SHAPE)
_ENCODED = _compiled(rb"%[0-9A-Fa-f]{2}")
