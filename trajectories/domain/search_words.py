"""The words by which people find a run in the admin, and those of what they type.

Both databases store and compare these words as they are: neither has a say in where a word ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any

from trajectories.domain.text import fold

MAX_WORDS = 20_000
MAX_BYTES = 500_000
"""Distinct words of a record that are searched, and their size. A tsvector of Postgres has at most
1 MB."""
MAX_WORD = 64
"""Characters of a word that are compared."""
MAX_TEXT = 200_000
"""Characters of one text that are searched; a log in an error may be longer."""

MORE = "\ue000"
"""The word of a record of whose names, such as tags and tools, some words are not there.

No text has it, since it is no letter.
"""

# Scripts that are written without blanks: each character is a word of its own.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")

_OF_RUN = ("request_summary", "request_type", "source", "project", "policy", "error", "outcome")
_OF_PHASE = (
    "phase_name",
    "phase_id",
    "agent",
    "model",
    "requested_model",
    "model_selection_method",
    "selection_rule",
    "error",
    "skip_reason",
    "status_reason",
)


def words_in(text: str) -> list[str]:
    """Return the words of ``text`` in their order, folded, each cut to MAX_WORD characters."""
    return _words(text[:MAX_TEXT])


def _words(text: str) -> list[str]:
    return [word[:MAX_WORD] for word in _WORD.findall(fold(text))]


def words_of(fields: Mapping[str, Any]) -> list[str]:
    """Return the distinct words of a parsed canonical body in their order, up to MAX_WORDS and
    MAX_BYTES.

    They are those of the request, errors and reasons, tags, tools, models, agents and names.
    Phases, tools and models come before the errors of later phases, so a long log hides nothing
    else. MORE follows if something else is hidden.
    """
    found = _distinct((*_texts(fields), *_errors(fields)))
    if len(found) <= MAX_WORDS and len("".join(found).encode()) <= MAX_BYTES:
        return found
    sizes = accumulate(len(word.encode()) for word in found)
    kept = [word for word, size in zip(found[:MAX_WORDS], sizes, strict=False) if size <= MAX_BYTES]
    return kept if len(_distinct(_texts(fields))) <= len(kept) else [*kept, MORE]


def _distinct(texts: Iterable[str]) -> list[str]:
    # Together, since most of a word's cost is that of the call. No word goes across the end of a line,
    # and a text that is there twice has no new words.
    return list(dict.fromkeys(_words("\n".join([text[:MAX_TEXT] for text in dict.fromkeys(texts)]))))


def _texts(fields: Mapping[str, Any]) -> Iterator[str]:
    yield from (fields[name] for name in _OF_RUN if name in fields and name != "error")
    yield from fields.get("tags", ())
    for phase in fields["phases"]:
        yield from (phase[name] for name in _OF_PHASE if name in phase and name != "error")
        yield from dict.fromkeys(phase.get("tools_used", ()))
        yield from (attempt["model"] for attempt in phase.get("attempts", ()))


def _errors(fields: Mapping[str, Any]) -> Iterator[str]:
    for holder in (fields, *fields["phases"]):
        yield from (one["error"] for one in (holder, *holder.get("attempts", ())) if "error" in one)
