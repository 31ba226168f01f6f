"""Values of the Redis tier that cannot be read count as an unavailable Redis."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from redis.exceptions import RedisError

from trajectories.domain.compression import UnreadableBody

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")
_BOUND = 2**63
_LAST_US = 2**53


class UnreadableValue(RedisError):
    """Redis holds a value that no release of this app writes, or that a later one wrote."""


def checked(method: Callable[P, R]) -> Callable[P, R]:
    """Let a method of the tier raise ``UnreadableValue`` for a value that it cannot parse.

    Callers go on without Redis, as in an outage, and the relay and workers try again.
    """

    @functools.wraps(method)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except (ValueError, TypeError, OverflowError, UnreadableBody) as error:
            logger.error(
                "Redis holds a value that this release cannot read, so reads go on without Redis: %s: %s. If this goes on,"
                " empty the database of the Redis tier; workers fill it again from the archive.",
                type(error).__name__,
                error,
            )
            raise UnreadableValue(f"unreadable value: {type(error).__name__}") from error

    return wrapped


def number(value: Any) -> int:
    """Return an integer of 64 bits, as every tier stores them; 0 for a missing one.

    Raises:
        ValueError, OverflowError: it is none.
    """
    found = int(value or 0)
    if not -_BOUND <= found < _BOUND:
        raise OverflowError("more than 64 bits")
    return found


def moment_us(value: Any) -> int:
    """Return microseconds since 1970, as ``number``.

    Raises:
        ValueError, OverflowError: it is none, or after the year 2255. The next version of a record
            has a later stamp, and so has a host's next record, so these must have room.
    """
    found = number(value)
    if found > _LAST_US:
        raise OverflowError("a time after 2255")
    return found
