"""The shapes of what a reader does not see: sequences of a terminal, control characters and
invisible ones.

A text has them as they are, or escaped as JSON, source code and logs write them.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterator

from trajectories.domain.text import INVISIBLE


def shape(backslashes: bytes) -> bytes:
    """Return the shape of one hidden part, for RE2 and ``re``.

    Each alternative begins with another byte or bytes, so that Python looks for these alone.

    Args:
        backslashes: what matches those of an escape.
    """
    return b"|".join(
        (
            rb"\x1b" + _SEQUENCE + b"?",
            backslashes + _ESCAPED,
            rb"\[(?:[0-9;]{1,12}m|K)",
            rb"\^\[" + _SEQUENCE,
            rb"\xc2(?:\x9b[0-9;:?]*[A-Za-z]|[\x80-\x9f\xad])",
            *_invisible(),
            *(b"\\x%02x" % char for char in (*range(0x20), 0x7F) if char not in b"\t\n\r\x1b"),
        )
    )


def _invisible() -> Iterator[bytes]:
    """Yield the characters that show nothing, format characters of all scripts among them. Those
    that differ in the last byte are one class.
    """
    codes = {code for first, last in INVISIBLE for code in range(first, last + 1) if code < _TAGS}
    codes |= {code for code in range(0xAE, _TAGS) if unicodedata.category(chr(code)) == "Cf"}
    last_bytes = defaultdict[bytes, list[bytes]](list)
    for code in sorted(codes - {0xAD}):
        char = chr(code).encode()
        last_bytes[char[:-1]].append(b"\\x%02x" % char[-1])
    # All of U+E0000 to U+E0FFF.
    yield rb"\xf3\xa0[\x80-\xbf][\x80-\xbf]"
    for first, last in last_bytes.items():
        yield first + b"[" + b"".join(last) + b"]"


_TAGS = 0xE0000

# ECMA-48: colours and other control sequences; also as source code and logs write them, and without
# the escape character, as some tools leave them.
_SEQUENCE = rb"(?:\[[0-9;:?]*[A-Za-z]|[()][A-Z0-9])"
_ESCAPED = (
    rb"(?:(?:u001[bB]|x1[bB]|033|e)" + _SEQUENCE + rb"|u00(?:[01][0-9a-fA-F]|7[fF]|[89][0-9a-fA-F])"
    rb"|u(?:00[aA][dD]|034[fF]|061[cC]|115[fF]|1160|17[bB][45]|180[b-fB-F]|200[b-fB-F]|20[26][0-9a-fA-F]|3164"
    rb"|[fF]{2}(?:[aA]0|[fF][0-9a-bA-B])|[fF][eE](?:0[0-9a-fA-F]|[fF]{2})"
    # U+E0000 to U+E0FFF, U+1D173 to U+1D17A, U+1BCA0 to U+1BCA3 as two halves.
    rb"|(?:[dD][bB]4[0-3]\\+u[dD][c-fC-F][0-9a-fA-F]{2}|[dD]834\\+u[dD]{2}7[3-9aA]|[dD]82[fF]\\+u[dD][cC][aA][0-3])))"
)
