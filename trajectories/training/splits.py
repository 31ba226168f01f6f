"""Parts of an export, such as train and test, by a hash: a run lies in the same part each time.

Runs of one project, or of one session, lie in one part, so what a model has seen of one of them
is not tested on another.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable
from typing import NamedTuple

from trajectories.domain.export_facts import BUCKETS, bucket_of, project_of, session_of
from trajectories.domain.quotes import in_quotes
from trajectories.exceptions import InvalidInput
from trajectories.training.run import Run

SPLIT_BY = ("session", "project")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}", re.ASCII)
NO_PART, OTHER_PART = "in no part of the split", "in another part of the split"
MAX_PARTS = 10


class Part(NamedTuple):
    """A part. It has the buckets of the hash from the end of the part before it until before ``end``."""

    name: str
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
        bucket = bucket_of(group_of(run, self.by))
        return next((part.name for part in self.parts if bucket < part.end), None)

    def left_out_by(self, only: str | None) -> Callable[[int], str | None]:
        """Return what says why the runs of a bucket are left out, None of those that are not.

        Args:
            only: the part that is exported; None exports all.
        """
        # The parts lie one after the other, from bucket 0 on.
        ends = [part.end for part in self.parts]
        reasons = [OTHER_PART if only not in (None, part.name) else None for part in self.parts] + [NO_PART]
        return lambda bucket: reasons[bisect_right(ends, bucket)]


def group_of(run: Run, by: str) -> str:
    """Return the key of the runs that stay together.

    By session: runs of a session; else a run and the runs that name it as their parent. By project:
    runs of a project; a run without one is treated as by session.
    """
    return project_of(run.fields) if by == SPLIT_BY[1] else session_of(run.fields)


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
        end = start + round(float(share[:20]) * BUCKETS)
        if end > BUCKETS or end == start:
            raise _invalid("must have shares above 0 that add up to at most 1", text, "split")
        parts.append(Part(name, end))
        start = end
    return Split(tuple(parts), by)


def _invalid(message: str, text: str, param: str) -> InvalidInput:
    shown = in_quotes(text, max_chars=80)
    return InvalidInput(f"{param} {message}, got {shown}.", code="invalid_parameter", param=param)
