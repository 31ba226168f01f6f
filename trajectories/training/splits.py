"""Parts of an export, such as train and test, by a hash: a run lies in the same part each time.

Runs of one project, or of one session, lie in one part, so what a model has seen of one of them
is not tested on another.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from trajectories.domain import redaction
from trajectories.exceptions import InvalidInput
from trajectories.training.run import Run

SPLIT_BY = ("session", "project")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}", re.ASCII)
_BUCKETS = 1_000_000
MAX_PARTS = 10


class Part(NamedTuple):
    """A part, and the buckets of the hash that are in it: from ``start`` until before ``end``."""

    name: str
    start: int
    end: int


class Split(NamedTuple):
    """The parts in the order in which they were given."""

    parts: tuple[Part, ...]
    by: str

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(part.name for part in self.parts)

    def part_of(self, run: Run) -> str | None:
        """Return the part of a run; None if the shares leave it out."""
        bucket = _bucket(group_of(run, self.by))
        return next((part.name for part in self.parts if part.start <= bucket < part.end), None)


def group_of(run: Run, by: str) -> str:
    """Return the key of the runs that stay together.

    By session: runs of a session; else a run and the runs that name it as their parent. By project:
    runs of a project; a run without one is treated as by session.
    """
    fields = run.fields
    if by == "project" and fields.get("project") is not None:
        return f"project:{fields['project']}"
    if fields.get("session_id") is not None:
        return f"session:{fields['session_id']}"
    return f"run:{fields.get('parent_id') or run.id}"


def _bucket(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest()) % _BUCKETS


def parse_split(text: str, by: str = SPLIT_BY[0]) -> Split:
    """Parse shares such as ``train=0.9,test=0.1``. The rest up to 1 is in no part.

    Raises:
        InvalidInput: 400; the message says what is wrong.
    """
    if by not in SPLIT_BY:
        raise _invalid(f"must be {' or '.join(SPLIT_BY)}", by, "split_by")
    parts: list[Part] = []
    start = 0
    pieces = text.split(",", MAX_PARTS)
    if len(pieces) > MAX_PARTS:
        raise _invalid(f"must have at most {MAX_PARTS} parts", text, "split")
    for piece in pieces:
        name, _, share = piece.strip().partition("=")
        if not _NAME.fullmatch(name) or not re.fullmatch(r"\d*\.?\d+", share, re.ASCII):
            raise _invalid("must be names and shares, such as train=0.9,test=0.1", text, "split")
        if name in (part.name for part in parts):
            raise _invalid(f"has the part {name} twice", text, "split")
        # More digits than the buckets have are cut.
        end = start + round(float(share[:20]) * _BUCKETS)
        if end > _BUCKETS or end == start:
            raise _invalid("must have shares above 0 that add up to at most 1", text, "split")
        parts.append(Part(name, start, end))
        start = end
    return Split(tuple(parts), by)


def _invalid(message: str, text: str, param: str) -> InvalidInput:
    shown = redaction.quoted(text, max_chars=80)
    return InvalidInput(f"{param} {message}, got {shown!r}.", code="invalid_parameter", param=param)
