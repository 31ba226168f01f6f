"""Lines of a request. The cost of refused ones is bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from trajectories.exceptions import InvalidInput, NotRead, TooLarge, TrajectoriesError
from trajectories.storage.outbox_rows import Draft

MAX_PROBLEMS = 10_000
"""Problems in the lines of a request after which no further line is read. A problem takes about 5
microseconds of CPU and a few bytes, so an unbounded request of 16 MiB could take minutes."""
_REFUSAL = 2
"""A refused line, in problems."""


def drafts_of(
    lines: Iterable[bytes], draft: Callable[[int, bytes], Draft]
) -> tuple[dict[int, Draft], dict[int, TrajectoriesError]]:
    """Return the drafts of valid lines and the errors of the others, each by the line's index from
    0.

    Blank lines are skipped. After ``MAX_PROBLEMS`` the other lines are not read: their error is
    ``NotRead``.

    Args:
        draft: makes a draft of the index and the bytes of a line. It raises InvalidInput or
            TooLarge.
    """
    not_read = NotRead("Not read: too many lines before it were refused. Send it again.")
    drafts: dict[int, Draft] = {}
    errors: dict[int, TrajectoriesError] = {}
    problems = 0
    for index, line in enumerate(lines):
        if not line.strip():
            continue
        if problems > MAX_PROBLEMS:
            errors[index] = not_read
            continue
        try:
            drafts[index] = draft(index, line)
        except (InvalidInput, TooLarge) as error:
            problems += _REFUSAL + (error.found if isinstance(error, InvalidInput) else 1)
            # Without its frames, thousands of which take longer to collect than the lines to read.
            error.__context__ = None
            errors[index] = error.with_traceback(None)
    return drafts, errors
