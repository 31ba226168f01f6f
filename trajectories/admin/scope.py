"""The part of a store that a page of figures is about: a tenant, a period and filters, all in the
URL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.http import urlencode

from trajectories.admin.tenants import own
from trajectories.domain.clock import now_us, utc
from trajectories.domain.query import parse_query
from trajectories.exceptions import InvalidInput
from trajectories.models import Tenant
from trajectories.services import reads
from trajectories.storage.store import get_store

PERIODS = {"7": "7 days", "28": "28 days", "42": "6 weeks", "90": "90 days", "all": "all time"}
DEFAULT_PERIOD = "28"
FILTERS = {"project": "Project", "request_type": "Type", "policy": "Policy"}
STARTED, RECORDED = "started", "recorded"
CLOCKS = {STARTED: ("started_since", "started_until"), RECORDED: ("since", "until")}
"""By which time of a run a period is meant, and the filters of the API for it."""
_LISTED_TENANTS = 100
_LONGEST_IN_DAYS = 45


@dataclass(frozen=True, slots=True)
class Period:
    """Whole days in UTC, from ``start`` to before ``end``; both None for all time.

    Whole days, so that a question stays the same all day and stats can answer it from memory.
    """

    start: date | None
    end: date | None
    name: str

    @property
    def days(self) -> int:
        """Return the length; 0 for all time."""
        return (self.end - self.start).days if self.start and self.end else 0

    @property
    def bucket(self) -> str:
        return "day" if 0 < self.days <= _LONGEST_IN_DAYS else "week"

    def before(self) -> Period | None:
        """Return the period of equal length that ends where this one starts."""
        if self.start is None:
            return None
        return Period(self.start - timedelta(days=self.days), self.start, "the period before")

    def bounds(self, clock: str) -> dict[str, str]:
        """Return the API's filters of the period."""
        names = CLOCKS[clock]
        return {name: at.isoformat() for name, at in zip(names, (self.start, self.end), strict=True) if at}


@dataclass(frozen=True, slots=True)
class Scope:
    """The tenant, filters and period of a page. ``filters`` are the API's, by name; ``clock`` is
    one of CLOCKS."""

    tenant: str
    period: Period
    clock: str
    filters: Mapping[str, str]

    @property
    def parameters(self) -> dict[str, str]:
        """Return the filters of the API that select these runs."""
        return {**self.filters, **self.period.bounds(self.clock)}

    def stats(self, *, bucket: str | None = None) -> dict[str, Any]:
        """Return the answer of stats.

        Raises:
            TrajectoriesError: a filter is invalid, a tier is unavailable, or too many reads run.
        """
        query = parse_query(self.parameters, now_us())
        return reads.stats(get_store(), self.tenant, query, bucket=bucket)

    def with_period(self, period: Period) -> Scope:
        return replace(self, period=period)


def tenants(request: HttpRequest) -> list[str]:
    """Return the slugs that the user may choose from, the one with most records first."""
    return list(
        own(Tenant.objects.order_by("-record_count", "pk"), request, "pk").values_list("pk", flat=True)[
            :_LISTED_TENANTS
        ]
    )


def tenant(request: HttpRequest, listed: list[str]) -> str | None:
    """Return the tenant of the URL, without one the first of ``listed``; None if the user may not
    see it."""
    asked = request.GET.get("tenant", "")
    if not asked or asked in listed:
        return asked or next(iter(listed), None)
    is_seen = "\x00" not in asked and own(Tenant.objects.filter(pk=asked), request, "pk").exists()
    return asked if is_seen else None


def period(asked: str) -> Period:
    """Return the period of the URL: a number of days, ``all``, or the first and the last day,
    ``A..B``.

    Raises:
        InvalidInput: a day is not a date, or the last one is before the first.
    """
    if ".." in asked:
        first, last = map(_day, asked.split("..", 1))
        if last < first:
            raise InvalidInput(f"The last day of 'period' is before the first: {first}..{last}.", param="period")
        return Period(first, last + timedelta(days=1), f"{first}..{last}")
    asked = asked if asked in PERIODS else DEFAULT_PERIOD
    if asked == "all":
        return Period(None, None, PERIODS[asked])
    end = utc(now_us()).date() + timedelta(days=1)
    return Period(end - timedelta(days=int(asked)), end, f"the last {PERIODS[asked]}")


def _day(text: str) -> date:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        found = date.min
    # Far enough from the ends of the calendar that periods before and after exist.
    if not 1970 <= found.year <= 9000:
        raise InvalidInput("'period' must have dates such as 2026-01-05..2026-01-31.", param="period")
    return found


def filters(given: Mapping[str, str], names: Mapping[str, Any] = FILTERS) -> dict[str, str]:
    """Return those of ``names`` that the URL gives."""
    return {name: given[name] for name in names if given.get(name)}


def runs_address(site_name: str, tenant: str, **given: str) -> str:
    """Return the address of the list of runs with these filters of the API; empty if it is not
    registered."""
    try:
        address = reverse("admin:trajectories_trajectory_changelist", current_app=site_name)
    except NoReverseMatch:
        return ""
    return f"{address}?{urlencode({'tenant': tenant} | given)}"
