"""Replace credentials in a record by ``[redacted:kind]`` before any tier stores it.

It works on canonical JSON. Credentials contain neither quotes nor control characters, so a match
lies within one string, a value or a key. A match between strings, such as a number, is kept, and so
is one that begins within an escape. So the result is JSON of the same shape. Every string is
searched, since a credential may be pasted anywhere. Model names, ids, paths and hashes stay because
the rules require an issuer's own prefix or a word that announces a credential. Passwords without
either are not found.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson
import re2

from trajectories.domain import credential_rules, search_text
from trajectories.domain.search_text import TooManyCredentials as TooManyCredentials
from trajectories.domain.text import counted

COUNT_KEY = "trajectories:redacted"
"""Key in a record's ``metadata`` under which the server stores the number of placeholders of each
kind."""
MAX_NAME = 512
"""Same as ``contract_types.MAX_NAME``, which this lower layer cannot import."""
UNLIMITED = frozenset({"request_summary", "error", "skip_reason", "reason", "tools_used", "metadata"})
"""Contract fields whose text may be longer than a name."""

MAX_QUOTED_READ = 1_024
"""Characters of a text that are searched before it is quoted. The text may be as long as a body,
and be quoted a hundred times."""
_SPACE = " \t\r\n"
_UNCERTAIN_END = 200
_MAX_WORD = 2_000
"""Characters of a password or a token, far above those of known ones."""


MAX_CREDENTIALS = 10_000
"""Credentials that one body may have. A body of 1 MiB has room for 131,072, which take a second."""
MAX_CANDIDATES = 20_000
"""Texts in the place of a credential that one body may have, those of templates (``a://:$PASSWORD@``) and
words included. Each takes two microseconds."""
MAX_COMMANDS = 20_000
"""Commands of curl that may be read of one body, and options of other commands after them, in all its
views together. Each takes three microseconds. They are read only in a text with options of curl."""

_ROUNDS = 3
"""A placeholder may end the word that hid the beginning of the next credential."""


class Redacted(NamedTuple):
    """A body without credentials, and the number of credentials found in it, by kind."""

    body: bytes
    found: Mapping[str, int]


def redact(body: bytes) -> Redacted:
    """Return a canonical body without credentials; the same bytes if it has none.

    Idempotent: the result has no match, so an exported record can be posted back unchanged.
    ``metadata[COUNT_KEY]`` counts the record's placeholders of each kind. It is written if a match
    was found, and then replaces a client's value. Without a match a client's value stays.

    Raises:
        TooManyCredentials: there are more than ``MAX_CREDENTIALS``, ``MAX_CANDIDATES`` or ``MAX_COMMANDS``,
            or more broken lines than ``search_text.MAX_BREAKS``.
    """
    clean, found = replace(body, max_found=MAX_CREDENTIALS)
    if not found:
        return Redacted(body, {})
    fields = _shortened(_loads(clean))
    placeholders = (match[1].decode() for match in _PLACEHOLDER.finditer(clean))
    count = Counter(kind for kind in placeholders if kind in credential_rules.KINDS)
    metadata = fields.get("metadata", {}) | {COUNT_KEY: dict(sorted(count.items()))}
    return Redacted(orjson.dumps(fields | {"metadata": dict(sorted(metadata.items()))}), found)


def replace(data: bytes, *, max_found: int | None = None, is_json: bool = True) -> Redacted:
    """Return JSON without credentials; no count is added to it.

    Args:
        is_json: false for a text, whose quotes and backslashes are its own.

    Raises:
        TooManyCredentials: there are more than ``max_found``, or more broken lines than
            ``search_text.MAX_BREAKS``.
    """
    if not credential_rules.ANY.search(data):
        return Redacted(data, {})
    found: Counter[str] = Counter()
    commands = _Commands(None if max_found is None else MAX_COMMANDS)
    for _ in range(_ROUNDS):
        before = found.total()
        for base_of in (search_text.unchanged, search_text.decoded):
            base = base_of(data)
            for form_of in search_text.forms_of(base):
                view = base and form_of(base)
                if view and credential_rules.CREDENTIAL.search(view.text):
                    earlier = found.total()
                    data = _replaced(data, view, found, commands, max_found, is_json=is_json)
                    # Decoding takes longer than a search.
                    base = base_of(data) if found.total() > earlier else base
        if found.total() == before:
            break
    return Redacted(data, found)


class _Commands:
    """Where the commands are that have options, and how many may still be read."""

    def __init__(self, left: int | None) -> None:
        self._left = left
        self._spans: dict[Any, list[tuple[int, int]]] = {}

    def spans_of(self, pattern: Any, text: bytes) -> list[tuple[int, int]]:
        """Return the spans of a pattern's matches. The placeholders of earlier rules do not move
        them."""
        if (known := self._spans.get(pattern)) is None:
            known = self._spans[pattern] = []
            for match in pattern.finditer(text):
                self.spend()
                known.append(match.span())
        return known

    def spend(self) -> None:
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise TooManyCredentials

    def leave(self) -> None:
        """Forget the places, which are those of one text."""
        self._spans.clear()


def _replaced(
    data: bytes,
    view: search_text.View,
    found: Counter[str],
    commands: _Commands,
    max_found: int | None,
    *,
    is_json: bool,
) -> bytes:
    """Return ``data`` with placeholders for what the rules find in its view, and count them."""
    text, places, candidates = view.text, list[tuple[int, int, str]](), 0
    earlier = found.total()
    # Lazily, since a rule sees what earlier ones have replaced.
    for rule in (rule for group in credential_rules.GROUPS if group.any.search(text) for rule in group.rules):
        parts: list[bytes] = []
        end = previous = 0
        for match in rule.matches(text, commands.spans_of):
            if match is None:
                commands.spend()
                continue
            start, stop = match.span(1)
            candidates += 1
            if rule.is_credential(text[start:stop]) and (not is_json or _is_in_string(text, match, previous)):
                # Later rules see no credential here, and the same positions.
                parts += (text[end:start], b"]" * (stop - start))
                end = stop
                places.append((start, stop, rule.kind))
            if max_found is not None and (earlier + len(places) > max_found or candidates > MAX_CANDIDATES):
                raise TooManyCredentials
            previous = stop
        if parts:
            text = b"".join((*parts, text[end:]))
    commands.leave()
    clean: list[bytes] = []
    done = 0
    outer = _outermost(places)
    originals = view.originals((start, stop) for start, stop, _ in outer)
    for (start, stop), (_, _, kind) in zip(originals, outer, strict=True):
        clean += (data[done:start], placeholder(kind).encode())
        done = stop
    found.update(kind for _, _, kind in outer)
    return b"".join((*clean, data[done:]))


def _is_in_string(text: bytes, match: Any, previous: int) -> bool:
    r"""Return whether a match is characters of a string. ``\npm_…`` is a line break and ``pm_…``, and
    ``{"x-key":0.1234567890123456}`` has a number: a placeholder in its place would not be JSON.

    Args:
        previous: where the match before this one ends. Runs of backslashes are read from there.
    """
    start = match.start(1)
    if text[start - 1 : start] == b"\\":
        run = text[previous:start]
        return (len(run) - len(run.rstrip(b"\\"))) % 2 == 0
    # What announces a value is in a string, also after a quote that it begins with, as in "-u".
    before = text[match.start() + 1 : start]
    return b'"' not in before or _ESCAPE.sub(b"", before).count(b'"') % 2 == 0


def _outermost(places: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Return start, end and kind of credentials in order, without those within another one: the
    header of a private key may have a token.
    """
    outer: list[tuple[int, int, str]] = []
    for place in sorted(places, key=lambda place: (place[0], -place[1])):
        if not outer or place[0] >= outer[-1][1]:
            outer.append(place)
    return outer


def quoted(text: str, *, max_chars: int) -> str:
    """Return a caller's text for a message, without credentials and then cut.

    It is cut last, because the rest of a cut credential would not be recognized. Of a text that is
    too long to be searched, the word at the end of what is searched is left out for the same reason.
    """
    if len(text) <= MAX_QUOTED_READ:
        return replace_text(text)[:max_chars]
    whole_words = text[: 1 + max(text.rfind(space, 0, MAX_QUOTED_READ) for space in _SPACE)]
    return replace_text(whole_words)[:max_chars].rstrip() or f"({counted(len(text), 'character')})"


def without_end(text: str) -> str:
    """Return ``text``, which was cut before it was redacted, without its last 200 characters and
    the rest of the word before: they may be half of a credential, which is not recognized.
    """
    kept = text[:-_UNCERTAIN_END]
    before, _, word = kept.rpartition(" ")
    # A longer word is no credential, and may be all of the text.
    return before if len(word) < _MAX_WORD else kept


def replace_text(text: str) -> str:
    """Return a text without credentials, which may contain lone surrogates."""
    return replace(text.encode(errors="surrogatepass"), is_json=False).body.decode(errors="surrogatepass")


def placeholder(kind: str) -> str:
    return f"[redacted:{kind}]"


def _loads(clean: bytes) -> dict[str, Any]:
    if not _PLACEHOLDER_IN_KEY.search(clean):
        return dict(orjson.loads(clean))
    return dict(json.loads(clean, object_pairs_hook=_object))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Number keys that redaction has made equal, so that none of their values is lost.

    Each key has a counter, so the time is linear even if all keys have become equal.
    """
    if not any("[redacted:" in key for key, _ in pairs):
        return dict(pairs)
    found: dict[str, Any] = {}
    numbers: Counter[str] = Counter()
    for key, value in pairs:
        free = key
        while free in found:
            numbers[key] += 1
            free = f"{key} {numbers[key] + 1}"
        found[free] = value
    return dict(sorted(found.items()))  # the canonical form sorts the keys of free objects


def _shortened(value: Any, unlimited: frozenset[str] = UNLIMITED) -> Any:
    """Replace each name that redaction has made too long by a placeholder for the whole name."""
    if isinstance(value, dict):
        if any(len(key) > MAX_NAME for key in value):
            value = _object([(_shortened(key), item) for key, item in value.items()])
        return {
            key: item if key in unlimited else _shortened(item, frozenset() if key == "external_refs" else unlimited)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_shortened(item, unlimited) for item in value]
    if isinstance(value, str) and len(value) > MAX_NAME:
        return next((match[0].decode() for match in _PLACEHOLDER.finditer(value.encode())), value)
    return value


_ESCAPE = re.compile(rb"(?s)\\.")
_PLACEHOLDER = re2.compile(rb"\[redacted:([a-z0-9-]+)\]")
_PLACEHOLDER_IN_KEY = re2.compile(rb"\[redacted:[a-z0-9-]+\](?:[^\"\\]|\\.)*\":")
