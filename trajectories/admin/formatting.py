"""Format stored integers, bytes and texts for display. Unknown stays None."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime

import orjson
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from trajectories.domain.clock import rfc3339, utc
from trajectories.domain.record import NANO_USD
from trajectories.domain.text import visible

# The canonical form begins like this. The text may be cut anywhere after that, but not inside an
# escape.
_SUMMARY = re.compile(r'\{"id":"[^"]*","request_summary":"((?:[^"\\]|\\u[0-9a-f]{4}|\\[^u])*)')


def moment(us: int | None, *, timespec: str = "microseconds") -> str | None:
    """Return microseconds since 1970 in the format of ``local``."""
    return None if us is None else local(utc(us), timespec=timespec)


def local(at: datetime, *, timespec: str) -> str:
    """Return a time in the current time zone.

    It has microseconds and the zone's name, or a shorter precision without the zone.
    """
    # The first and last hours of the datetime range exist in UTC only. Without USE_TZ the time is
    # local already.
    with suppress(OverflowError):
        at = at if timezone.is_naive(at) else timezone.localtime(at)
    shown = at.replace(tzinfo=None).isoformat(" ", timespec)
    return f"{shown} {at:%Z}".strip() if timespec == "microseconds" else shown


def usd(nano: int | None) -> str | None:
    """Return the exact amount, with at least two decimals."""
    if nano is None:
        return None
    whole, fraction = divmod(abs(nano), NANO_USD)
    return f"{'-' if nano < 0 else ''}${whole:,}.{f'{fraction:09d}'.rstrip('0'):0<2}"


def dollars(amount: float | None) -> str | None:
    """Return the exact amount of a number of dollars, rounded to nano-dollars."""
    return None if amount is None else usd(round(amount * NANO_USD))


def milliseconds(ms: float | None) -> str | None:
    """Return the short form of a number of milliseconds."""
    return None if ms is None else duration(round(ms * 1000))


def duration(us: int | None) -> str | None:
    """Return a short form in units that suit the size; rounded down from one second on."""
    if us is None:
        return None
    if us < 1_000_000:
        return f"{us / 1000:g} ms"
    if us < 60_000_000:
        return f"{us // 100_000 / 10} s"
    minutes, s = divmod(us // 1_000_000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} m" if hours else f"{minutes} m {s} s"


def short_usd(nano: int | None) -> str | None:
    """Return the amount with three significant digits below a dollar, and cents from there on."""
    if nano is None or nano == 0 or abs(nano) >= NANO_USD:
        return None if nano is None else f"{'-' if nano < 0 else ''}${abs(nano) / NANO_USD:,.2f}"
    digits = max(2, 12 - len(str(abs(nano))))
    return f"{'-' if nano < 0 else ''}${abs(nano) / NANO_USD:.{digits}f}"


def percent(share: float) -> str:
    """Return a share of 1 in percent, with one decimal where it has one."""
    return f"{share:.1%}".replace(".0%", "%")


def time_tag(us: int | None, *, timespec: str = "seconds") -> SafeString | None:
    """Return a time of the reader's zone: the script of the pages converts it, its title is in UTC."""
    if us is None:
        return None
    shown = local(utc(us), timespec=timespec)
    return format_html(
        '<time class="tj-time" datetime="{}" title="{} UTC">{}</time>',
        rfc3339(us).decode(),
        utc(us).replace(tzinfo=None).isoformat(" ", "milliseconds"),
        shown,
    )


def number(value: int | None) -> str | None:
    return None if value is None else f"{value:,}"


def text(value: str | None) -> str | None:
    """Return text from a client with invisible and direction-changing characters made visible."""
    return None if value is None else visible(value)


def summary(head: str) -> str:
    """Return the request summary from the beginning of a canonical body, as far as it goes."""
    found = _SUMMARY.match(head)
    return visible(orjson.loads(f'"{found[1]}"')) if found else ""


def members(lines: str) -> list[str]:
    """Return the list that ``archive_rows.members_text`` encoded."""
    return [visible(orjson.loads(line)) for line in lines.split("\n") if line]


def pretty(body: bytes) -> str:
    """Return JSON with line breaks; return text that is not JSON unchanged."""
    try:
        return visible(orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2).decode())
    except ValueError:
        return visible(body.decode(errors="backslashreplace"))
