"""Stored integers, bytes and texts as people read them. Unknown stays None."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime

import orjson
from django.utils import timezone

from trajectories.domain.clock import utc
from trajectories.domain.record import NANO_USD
from trajectories.domain.text import visible

# The canonical form begins so. The text may end anywhere behind that, but not inside an escape.
_SUMMARY = re.compile(r'\{"id":"[^"]*","request_summary":"((?:[^"\\]|\\u[0-9a-f]{4}|\\[^u])*)')


def moment(us: int | None, *, timespec: str = "microseconds") -> str | None:
    """Microseconds since 1970 as ``local`` shows them."""
    return None if us is None else local(utc(us), timespec=timespec)


def local(at: datetime, *, timespec: str) -> str:
    """A time in the current time zone: to the microsecond with the zone's name, or short without."""
    # The first and the last hours that a datetime knows exist in UTC alone. Without USE_TZ it is local already.
    with suppress(OverflowError):
        at = at if timezone.is_naive(at) else timezone.localtime(at)
    shown = at.replace(tzinfo=None).isoformat(" ", timespec)
    return f"{shown} {at:%Z}".strip() if timespec == "microseconds" else shown


def usd(nano: int | None) -> str | None:
    """Exact, with at least two decimals."""
    if nano is None:
        return None
    whole, fraction = divmod(nano, NANO_USD)
    return f"${whole:,}.{f'{fraction:09d}'.rstrip('0'):0<2}"


def duration(us: int | None) -> str | None:
    """Short, in the units that its size asks for; rounded down from a second on."""
    if us is None:
        return None
    if us < 1_000_000:
        return f"{us / 1000:g}ms"
    if us < 60_000_000:
        return f"{us // 100_000 / 10}s"
    minutes, s = divmod(us // 1_000_000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,}h {minutes}m" if hours else f"{minutes}m {s}s"


def number(value: int | None) -> str | None:
    return None if value is None else f"{value:,}"


def text(value: str | None) -> str | None:
    """What a client sent, with what would hide in it or turn it made visible."""
    return None if value is None else visible(value)


def summary(head: str) -> str:
    """The request summary out of the beginning of a canonical body, as far as it goes."""
    found = _SUMMARY.match(head)
    return visible(orjson.loads(f'"{found[1]}"')) if found else ""


def members(lines: str) -> list[str]:
    """What ``mirror.members_text`` made of a list."""
    return [visible(orjson.loads(line)) for line in lines.split("\n") if line]


def pretty(body: bytes) -> str:
    """JSON with line breaks; what is not JSON as it is."""
    try:
        return visible(orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2).decode())
    except ValueError:
        return visible(body.decode(errors="backslashreplace"))
