"""Alerts of a tenant as sentences, each with the runs that it is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from trajectories.admin import scope
from trajectories.domain.clock import utc
from trajectories.domain.text import visible
from trajectories.exceptions import TrajectoriesError
from trajectories.learning import drift
from trajectories.storage.store import get_store

MAX_ALERTS = 20


class Line(NamedTuple):
    """A sentence, and the address of its runs; the address is empty where runs are not on the site."""

    text: str
    href: str


class Lines(NamedTuple):
    """The first MAX_ALERTS alerts, and how many more there are. ``problem`` says why they are
    unknown."""

    shown: list[Line]
    more: int
    weeks: int
    problem: str = ""


def lines(tenant: str, site_name: str, filters: Mapping[str, str]) -> Lines:
    """Return the alerts of the last weeks.

    Args:
        filters: of the page. Alerts of another type of request are left out, and links have all of
            them.
    """
    store = get_store()
    try:
        answer = drift.alerts(store, tenant)
    except TrajectoriesError as error:
        return Lines([], 0, drift.DEFAULT_WEEKS, error.message)
    since = utc(drift.since_us(store.now_us(), answer["weeks"])).date().isoformat()
    kinds = (None, filters.get("request_type"))
    found = [one for one in answer["alerts"] if one["request_type"] in kinds or kinds[1] is None]
    shown = [Line(visible(one["message"]), _runs(site_name, tenant, filters, one, since)) for one in found[:MAX_ALERTS]]
    return Lines(shown, len(found) - len(shown), answer["weeks"])


def _runs(site_name: str, tenant: str, filters: Mapping[str, str], alert: dict[str, Any], since: str) -> str:
    given = {name: alert[name] for name in ("phase", "model", "request_type") if alert[name]}
    return scope.runs_address(site_name, tenant, **{**filters, **given}, since=since)
