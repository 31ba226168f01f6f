"""Output to terminals, escaped: text of a record must not control, hide or reorder anything."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

import click
from pydantic import BaseModel

# Controls C0, DEL and C1; what Unicode lets reorder text (UAX 9) or show nothing: Default_Ignorable_Code_Point,
# separators of lines, other format characters. The store's messages follow the same list.
_HIDDEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_SYMBOLS = "\u00a9\u00ae\u203c\u2049\u2122\u2139\u2190-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"
# Joiners (U+200C, U+200D) stay, because scripts and emoji are wrong without them, and one variation selector after
# a symbol or within a keycap. Others could hide a text.
_EXCEPT = f"(?<![\u200c\u200d])(?<![{_SYMBOLS}][\ufe0e\ufe0f])(?!(?<=[0-9#*]\ufe0f)\u20e3)"
_UNSAFE = re.compile(f"[{_HIDDEN}\ud800-\udfff]{_EXCEPT}")
_UNSAFE_IN_LINE = re.compile(f"[\t\n{_HIDDEN}\ud800-\udfff]{_EXCEPT}")


def escaped(text: str) -> str:
    r"""Return ``text`` on one line, with unsafe characters as escapes: ``\x1b``, ``\n``, ``\u202e``."""
    return _UNSAFE_IN_LINE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Return JSON with unsafe characters as JSON escapes, so that its meaning is unchanged."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return _UNSAFE.sub(lambda found: json.dumps(found[0])[1:-1], text)


def width(text: str) -> int:
    """Return the terminal columns of escaped ``text``."""
    return len(text) if text.isascii() else sum(_columns(character) for character in text)


def cut(text: str, columns: int) -> str:
    """Shorten ``text`` to ``columns``, with an ellipsis if something is left out."""
    if width(text) <= columns:
        return text
    kept, used = [], 1
    for character in text:
        used += _columns(character)
        if used > columns:
            break
        kept.append(character)
    return "".join(kept) + "…"


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def model_json(answer: BaseModel) -> str:
    """Return a response as a line of JSON, without fields that it lacks."""
    return json_text(answer.model_dump(mode="json", by_alias=True, exclude_unset=True))


def write(lines: Iterable[str]) -> None:
    """Write lines to stdout."""
    for line in lines:
        click.echo(line)
