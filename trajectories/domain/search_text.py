"""The text in which credentials are searched, with the way back to the text that was given.

A credential may be split or covered by what a reader does not see: colours of a terminal, invisible
characters, a line break where a terminal wrapped it, percent-encoding. A view is the text without
one of these, and is made of another view: what is hidden may be percent-encoded. A match in a view
is mapped to the bytes that it came from.

The input is JSON or plain text. A view removes whole escapes only, and decodes no quote and no
backslash, so a match never ends within an escape of the input.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

import re2

from trajectories.domain import hidden_text


class View(NamedTuple):
    """A text made from that of another view, or the text that was given.

    Only texts with a credential need the way back, so it is not kept but found again.
    """

    text: bytes
    base: View | None = None
    changes: Callable[[bytes], Iterable[tuple[int, int]]] = lambda _: ()
    """Start and end of each part of the base's text that is changed, in order."""

    def originals(self, spans: Iterable[tuple[int, int]]) -> Iterable[tuple[int, int]]:
        """Return where ``spans`` are in the given text; they ascend and have at least one byte
        each."""
        return self.base.originals(self._in_base(self.base.text, spans)) if self.base else spans

    def _in_base(self, original: bytes, spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        changes = iter(self.changes(original))
        # The text before ``at`` is what the original before ``done`` has become.
        at = done = 0
        start, end = next(changes, _NONE)
        shown, offsets = b"", array("q")
        for span in spans:
            found = []
            for place in (span[0], span[1] - 1):
                # Leave every change whose text ends before this place.
                while place >= at + (start - done):
                    if not offsets:
                        shown = _shown_of(original[start:end])
                    if place < at + (start - done) + len(shown):
                        break
                    at, done = at + (start - done) + len(shown), end
                    start, end = next(changes, _NONE)
                    offsets = array("q")
                within = place - at - (start - done)
                if within < 0:
                    found.append((done + place - at, done + place - at + 1))
                else:
                    offsets = offsets or _offsets(original[start:end])
                    found.append((start + offsets[within], start + offsets[within + 1]))
            yield found[0][0], found[1][1]


class TooManyCredentials(ValueError):
    """A text has more credentials than may be replaced, or more texts in their places."""


MAX_BREAKS = 40_000
"""Lines that continue a token, in one view; 40,000 take 30 ms. A base64 text of 1 MiB that is broken
at 76 columns has 14,000."""
_BREAKS_OF_TOKEN = 8
"""Lines that take the time of finding one token, however short."""

_NONE = (1 << 62, 1 << 62)
"""Where the next change is if there is none: after every text."""


def unchanged(data: bytes) -> View:
    return View(data)


def decoded(data: bytes) -> View | None:
    """Return ``data`` percent-decoded, once or twice; None if it is not encoded."""
    if not _ENCODED.search(data):
        return None
    return View(_ENCODED_PARTS.sub(_shown, data), View(data), _spans_of(_ENCODED_PARTS))


def without_strings(view: View) -> View | None:
    """Return a view without what is hidden and without the text of strings for a terminal, such as
    the address of a link; None if there are none. Their text may have credentials of its own.
    """
    if not _ANY_STRING.search(view.text):
        return None
    return _joined(View(_STRINGS.sub(b"", view.text), view, _spans_of(_STRINGS)))


def without_hidden(view: View) -> View | None:
    """Return a view without what a reader does not see, or None if there is nothing of it."""
    shown = view
    if _ANY_HIDDEN.search(view.text):
        shown = View(_HIDDEN.sub(b"", view.text), view, _spans_of(_HIDDEN))
    joined = _joined(shown)
    return None if joined is view else joined


def itself(view: View) -> View:
    return view


def forms_of(view: View | None) -> tuple[Callable[[View], View | None], ...]:
    """Return the functions that make what is searched of a text. What is hidden may be within a
    credential, or be all that is between a word and one.
    """
    if view is None:
        return ()
    return (without_strings, without_hidden, itself) if _ANY_PART.search(view.text) else (itself,)


def _joined(view: View) -> View:
    """Return a view without the line breaks within tokens."""
    parts, done = list[bytes](), 0
    for start, end in _line_breaks(view.text):
        parts.append(view.text[done:start])
        done = end
    return View(b"".join((*parts, view.text[done:])), view, _line_breaks) if parts else view


def _line_breaks(text: bytes) -> list[tuple[int, int]]:
    """Return the breaks within tokens."""
    if not _ANY_WRAPPED.search(text):
        return []
    tokens, keys = list(_breaks_of_tokens(text)), list(_breaks_of_keys(text))
    return sorted({*tokens, *keys}) if keys else tokens


def _breaks_of_tokens(text: bytes) -> Iterator[tuple[int, int]]:
    """Yield the breaks before lines that continue a token. Words, numbers and dates do not."""
    at, left = 0, MAX_BREAKS
    while wrapped := _WRAPPED.search(text, at):
        at, stop = wrapped.span()
        left -= _BREAKS_OF_TOKEN
        if left < 0:
            raise TooManyCredentials
        before = _BEFORE_PREFIX.match(text, at)
        for line in _NEXT_LINE.finditer(text, before.end() if before else at, stop):
            word = line[1].translate(None, delete=b"-_.")
            if not 4 <= len(word.translate(None, delete=_DIGITS)) < len(word):
                break
            left -= 1
            if left < 0:
                raise TooManyCredentials
            yield line.start(), line.start(1)
        at = stop


def _breaks_of_keys(text: bytes) -> Iterator[tuple[int, int]]:
    """Yield the breaks within keys of this store. They have no prefix, but a known length."""
    at = 0
    while wrapped := _WRAPPED_KEY.search(text, at):
        start, stop = wrapped.span()
        is_key = _KEY.fullmatch(_LINE_BREAK.sub(b"", text[start:stop]))
        if is_key:
            # The break that the key may follow is not within it.
            yield from (found.span() for found in _LINE_BREAK.finditer(text, start + 1, stop))
        at = stop if is_key else start + 1


def _spans_of(changes: re.Pattern[bytes]) -> Callable[[bytes], Iterator[tuple[int, int]]]:
    return lambda text: (match.span() for match in changes.finditer(text))


def _shown(change: re.Match[bytes]) -> bytes:
    return _shown_of(change[0])


def _shown_of(change: bytes) -> bytes:
    """Return what a part of a text becomes."""
    if (shown := _CHARS.get(change)) is not None:
        return shown
    if change[0] != _PERCENT:
        return b""
    # The second time for what was encoded twice. Nothing else has become an escape.
    once = unquote_to_bytes(change)
    return (unquote_to_bytes(once) if b"%" in once else once).translate(_SAFE)


def _offsets(encoded: bytes) -> array[int]:
    """Return where each byte of the decoded text begins in ``encoded``, and where the last one
    ends."""
    found = array("q", (unit.start() for unit in _UNIT.finditer(encoded)))
    found.append(len(encoded))
    return found


def _compiled(pattern: bytes) -> Any:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.never_capture = True
    return re2.compile(pattern, options)


def _run_of(shape: Callable[[bytes, bytes], bytes]) -> re.Pattern[bytes]:
    """Return what matches a part and those that follow it. The end of a part may have backslashes,
    to which those of the next part do not belong.
    """
    one = rb"\\(?<!\\\\)"
    first, next_ = shape(one, one + rb"\\*+"), shape(one, rb"\\++")
    return re.compile(b"(?:" + first + b"|" + one + rb"\\*+(?=/))(?:" + next_ + rb"|\\++(?=/))*+")


_DIGITS = b"0123456789"
_SAFE = bytes(ord("'") if char in b'"\\' else 0x20 if char == 0x09 else char for char in range(256))
"""A decoded quote or backslash must not look like one of JSON. A tab is a space for the rules."""

# A token begins outside a word, after an underscore (TOKEN_ghp_…), after an escape of JSON (also of
# JSON within JSON) or of a URL, or after a colour of a terminal.
TOKEN_START = rb"(?:\b|_|\\[bfnrt]|\\u00[01][0-9a-f]|%[0-9A-Fa-f]{2}|\[[0-9;]*[mK])"
# How tokens begin that may be longer than the rest of a line.
_PREFIX = (
    rb"(?:[rs]k[-_]|whsec_|lsv2_|gsk_|xai-|pplx-|r8_|nvapi-|hf_|api_org_|AIza|AQ\.|ya29\.|GOCSPX-|A[KSBC][IC]A|gh[a-z]_"
    rb"|github_pat_|gl[a-z]{2,5}-|xox|xapp-|xwfp-|npm_|pypi-|SG\.|eyJ|do[opr]_v1_|dp\.|dapi|shp[a-z]{2}_|hv[sb]\.|pscale_"
    rb"|lin_api_|ntn_|glsa_|glc_|rubygems_|sntry|ops_|AGE-SECRET-KEY-|pul-|PMAK-|v1\.0-"
    rb"|fo1_|fm(?:1[ar]|2)_|HRKU-AA|ABSK|AKCp|pnu_|sha256~|[A-Za-z0-9]{14}\.atlasv1\.|hooks\.slack\.com/"
    rb"|(?i:bearer |account_?key=|shared_?access_?key=))"
)
_BREAK = rb"(?:(?:\\+r)?\\+n|\r?\n) {0,16}"
_TOKEN = rb"[A-Za-z0-9_.+/=-]"
# Python's own: a match costs a quarter of RE2's, and within _WRAPPED there is one way to match.
_LINE_BREAK = re.compile(_BREAK)
_NEXT_LINE = re.compile(_BREAK + b"(" + _TOKEN + b"+)")
_BEFORE_PREFIX = re.compile(TOKEN_START + b"(?=" + _PREFIX + b")")
_WRAPPED_SHAPE = TOKEN_START + _PREFIX + _TOKEN + b"+(?:" + _BREAK + _TOKEN + b"{6,})+"
# A key of this store on two lines, of which one has at least half of its secret: other words are
# short. The last word of a sentence is no prefix of a key.
_CHAR = rb"[A-Za-z0-9]"
_KEY = re.compile(TOKEN_START + rb"(?!\w[a-z]{11}\.)" + _CHAR + rb"{12}\." + _CHAR + b"{32}")
_WRAPPED_KEY_SHAPE = (
    TOKEN_START + b"(?:" + _CHAR + b"{1,12}" + _BREAK + _CHAR + rb"{0,11}\." + _CHAR + b"{32}"
    b"|" + _CHAR + rb"{12}\." + _CHAR + b"{0,15}" + _BREAK + _CHAR + b"{17,32}"
    b"|" + _CHAR + rb"{12}\." + _CHAR + b"{16,31}" + _BREAK + _CHAR + rb"{1,16})\b"
)
_CODES = [b"%02x" % char for char in range(256)] + [b"%02X" % char for char in range(256)]
_CODE = rb"%(?:25[0-9A-Fa-f]{2}|[013-9A-Fa-f][0-9A-Fa-f]|2[0-46-9A-Fa-f])"
_UNIT = re.compile(rb"(?s)%25[0-9A-Fa-f]{2}|%[0-9A-Fa-f]{2}|.")
_PERCENT = ord("%")
_CHARS = {b"%" + code: unquote_to_bytes(b"%" + code).translate(_SAFE) for code in _CODES}
"""What one code becomes. A text may have a hundred thousand of them apart."""

# The backslash of a slash that is escaped in JSON, as PHP writes it, is hidden too.
_ANY_HIDDEN_SHAPE = hidden_text.shape(rb"(?:^|[^\\])\\", rb"\\+") + rb"|\\/"
_ANY_PART_SHAPE = b"|".join((_ANY_HIDDEN_SHAPE, hidden_text.string_start(), _WRAPPED_SHAPE, _WRAPPED_KEY_SHAPE))
CHANGED = _ANY_PART_SHAPE + b"|" + _CODE
"""RE2: what a view changes."""
# Global because compiling them takes milliseconds. They are constants, so they need no reset.
_ANY_PART = _compiled(_ANY_PART_SHAPE)
_ANY_HIDDEN = _compiled(_ANY_HIDDEN_SHAPE)
_ANY_STRING = _compiled(hidden_text.any_string())
_ANY_WRAPPED = _compiled(_WRAPPED_SHAPE + b"|" + _WRAPPED_KEY_SHAPE)
_WRAPPED = _compiled(_WRAPPED_SHAPE)
_WRAPPED_KEY = _compiled(_WRAPPED_KEY_SHAPE)
_ENCODED = _compiled(rb"%[0-9A-Fa-f]{2}")
# Python's own, for texts in which RE2 has found one: with a hundred thousand parts, RE2's matches
# take ten times as long. They read a text once: a run of backslashes is tried at its beginning
# only, and what a part repeats does not contain the beginning of another part.
_HIDDEN = _run_of(hidden_text.shape)
_STRINGS = _run_of(lambda *slashes: hidden_text.string(slashes[1]) + b"|" + hidden_text.shape(*slashes))
# One match for all that is encoded in a text, with the text between: a match costs half a microsecond.
_ENCODED_PARTS = re.compile(_CODE + rb"(?:[^\x00-\x1f\"%\\\x7f]*+" + _CODE + b")*+")
