"""A bound of the values in JSON, counted before it is parsed.

A value may take two bytes on the wire and a hundred in memory, each with its share of every pass
over a body. So bytes alone do not bound what a body costs.
"""

from __future__ import annotations

from trajectories.exceptions import TooLarge

MAX_VALUES = 100_000
"""Values that one body may have. A record of 64 kB with 232 phases has about 4,000, and a mebibyte of
ordinary runs 60,000; a mebibyte has room for 350,000 empty lists."""
_SEPARATORS = b",[{"
"""Each value but the first follows one of these, or a key that does."""
_OTHERS = bytes(byte for byte in range(256) if byte not in _SEPARATORS)


def values_in(data: bytes) -> int:
    """Return about how many values ``data`` has, which is JSON: never fewer, and one more for each
    empty list or object.

    Commas in texts count only if there are few.
    """
    count = 1 + sum(data.count(byte) for byte in _SEPARATORS)
    if count > MAX_VALUES:
        # Without what is between quotes. A match of a pattern for each string would take ten times as long.
        unescaped = data.replace(rb"\\", b"").replace(rb"\"", b"")
        count = 1 + len(b"".join(unescaped.split(b'"')[::2]).translate(None, delete=_OTHERS))
    return count


def expect_few_values(data: bytes, *, name: str = "record", around: int = 0) -> None:
    """Check that ``data``, JSON of any validity, has at most ``MAX_VALUES`` values.

    Args:
        around: more values that it may have, around a record.

    Raises:
        TooLarge: 413.
    """
    if (found := values_in(data)) > MAX_VALUES + around:
        raise TooLarge(
            f"A {name} must not have more than {MAX_VALUES:,} JSON values, got about {found:,}. Send long lists as one"
            " text, or name a file that has them.",
            code="record_too_large",
        )
