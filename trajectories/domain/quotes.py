"""Texts of callers and records in messages: without credentials, short, and at a bounded cost.

A request may have thousands of problems, each in the same nested keys of a kilobyte. So ``Quotes``
searches each text for credentials once, and all of them have a limit together.
"""

from __future__ import annotations

import difflib

from pydantic import BaseModel

from trajectories.domain import redaction
from trajectories.domain.contract_types import MAX_PROBLEMS, Loc
from trajectories.domain.text import counted, quoted

MAX_SEARCHED_CHARS = 32 * 2**10
"""Characters of one request that are searched. In the worst of them each takes half a microsecond."""
MAX_FULL_ERRORS = 100
"""Refused lines of a request of which more than the first problem is listed."""
MAX_PATH = 200
"""Maximum characters of a path. With 64 keys of 100 characters it would be 30 times as long."""
_MAX_KEY = 100
_MAX_HINTS = 100
"""Maximum keys of one request that are compared with the known ones: each takes 0.1 ms."""
_MAX_HINTS_OF_BODY = 3
"""The same of one body; more unknown keys are not typing errors."""


def in_quotes(text: str, *, max_chars: int) -> str:
    """Return a text for a message: without credentials, then cut, in quotes, with every character
    escaped that shows nothing. Quotes and escapes are not counted."""
    return quoted(redaction.quoted(text, max_chars=max_chars))


class Quotes:
    """What the errors of one request quote.

    Args:
        max_details: maximum problems of one body that are listed.
    """

    def __init__(self, *, max_details: int = MAX_PROBLEMS) -> None:
        self._max_details = max_details
        self._bodies = 0
        self._chars_left = MAX_SEARCHED_CHARS
        self._hints_left = _MAX_HINTS
        self._hints_left_of_body = 0
        self._quoted: dict[tuple[str, int], str] = {}
        self._hints: dict[tuple[type[BaseModel], str], str] = {}

    def next_body(self) -> int:
        """Begin with the errors of another body; return how many of its problems to list."""
        self._bodies += 1
        is_full = self._bodies <= MAX_FULL_ERRORS
        self._hints_left_of_body = _MAX_HINTS_OF_BODY if is_full else 0
        return self._max_details if is_full else 1

    def key(self, key: str) -> str:
        """Return a key for a message or a path."""
        return self.text(key, max_chars=_MAX_KEY)

    def text(self, text: str, *, max_chars: int) -> str:
        """Return a text without credentials, cut. After ``MAX_SEARCHED_CHARS`` it is only counted."""
        known = self._quoted.get((text, max_chars))
        if known is None:
            searched = min(len(text), redaction.MAX_QUOTED_READ)
            if searched > self._chars_left:
                return f"({counted(len(text), 'character')})"
            self._chars_left -= searched
            known = self._quoted[text, max_chars] = redaction.quoted(text, max_chars=max_chars)
        return known

    def path(self, loc: Loc, shown: frozenset[str]) -> str:
        """Return the path of a problem; the middle of a long one is left out.

        Args:
            shown: keys without credentials.
        """
        parts = [
            f"[{part}]" if isinstance(part, int) else f".{part if part in shown else self.key(part)}" for part in loc
        ]
        path = "".join(parts).removeprefix(".")
        return path if len(path) <= MAX_PATH else f"{path[: MAX_PATH // 2 - 1]}…{path[-MAX_PATH // 2 :]}"

    def hint(self, key: str, model: type[BaseModel]) -> str:
        """Return the known key that is most like an unknown one, in words, or "."."""
        known = self._hints.get((model, key))
        if known is None:
            if not self._hints_left_of_body or not self._hints_left:
                return "."
            self._hints_left_of_body -= 1
            self._hints_left -= 1
            near = difflib.get_close_matches(key[:_MAX_KEY], model.model_fields, 1)
            known = self._hints[model, key] = f"; did you mean {near[0]!r}?" if near else "."
        return known
