"""The overview: what the runs of a tenant did, what they cost and what changed, from stats alone."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from django.contrib.admin import ModelAdmin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, reverse
from django.utils.http import urlencode
from django.views.decorators.debug import sensitive_variables

from trajectories.admin import alerts, cards, figures, heat, scope
from trajectories.admin.cards import Address, Answer
from trajectories.admin.frame import framed
from trajectories.admin.scope import CLOCKS, FILTERS, PERIODS, RECORDED, STARTED, Period, Scope
from trajectories.domain.stats import RELATIVE_ERROR
from trajectories.domain.text import counted
from trajectories.exceptions import TrajectoriesError

TEMPLATE = "admin/trajectories/overview.html"
_MAX_OPTIONS = 200


class Tile(NamedTuple):
    """One figure of the period, and by how much it changed."""

    name: str
    value: str
    change: str
    note: str = ""
    href: str = ""


def overview_view(model_admin: ModelAdmin[Any], request: HttpRequest) -> HttpResponse:
    """Return the page of the overview.

    Raises:
        PermissionDenied: 403; the user may not view trajectories.
    """
    context = framed(model_admin, request, "Overview")
    return TemplateResponse(request, TEMPLATE, context | context_of(request, model_admin.admin_site.name))


def context_of(request: HttpRequest, site_name: str) -> dict[str, Any]:
    """Return what the overview shows.

    Stats are asked at most five times, whatever the number of runs, models and phases.
    """
    listed = scope.tenants(request)
    chosen = scope.tenant(request, listed)
    context: dict[str, Any] = {
        "tenants": listed if chosen in listed else [*filter(None, [chosen]), *listed],
        "tenant": chosen,
        "kept": [(name, request.GET[name]) for name in ("cells", "clock") if request.GET.get(name)],
        "address": view_address("overview", site_name),
        "curl": curl(request),
    }
    if chosen is None:
        return context | {"problem": no_tenant(request)}
    try:
        return context | _figures(request, site_name, chosen)
    except TrajectoriesError as error:
        return context | {"problem": error.message}


def _figures(request: HttpRequest, site_name: str, tenant: str) -> dict[str, Any]:
    asked = Scope(tenant, scope.period(request.GET.get("period", "")), STARTED, scope.filters(request.GET))
    whole = Scope(tenant, Period(None, None, ""), STARTED, {}).stats()
    given_clock = request.GET.get("clock")
    asked, now = _by_clock(asked, given_clock, has_runs=bool(whole["count"]))
    before_period = asked.period.before()
    before = asked.with_period(before_period).stats() if before_period else None
    runs = partial(_runs, site_name, asked)
    measure = request.GET.get("cells", "")
    measure = measure if measure in heat.MEASURES else "success"
    series = cards.buckets(now, asked.period.bucket, asked.period.start, asked.period.end)
    return {
        "scope": asked,
        "periods": periods(asked.period),
        "selects": selects(asked, whole),
        "has_runs": bool(whole["count"]),
        "count": now["count"],
        "is_complete": now["window"]["complete"],
        "clock_note": asked.clock == RECORDED and given_clock != RECORDED,
        "sentence": sentence(asked.period, now, before),
        "tiles": tiles(now, before, runs),
        "all_runs": runs(),
        "over_time": cards.over_time(series, runs, CLOCKS[asked.clock]),
        "models": [cards.cost_against_success(now, runs), cards.cost_by_model(now, runs)],
        "alerts": alerts.lines(tenant, site_name, asked.filters),
        "evaluation": view_address("evaluate", site_name, tenant=tenant),
        "heat": heat.heat_map(now, runs, measure),
        "measures": [(name, text, _with(request, cells=name)) for name, text in heat.MEASURES.items()],
        "groups": [cards.policies(now, runs), cards.projects(now, runs)],
        "skips": cards.skips(now, runs),
        "last": [cards.selection_methods(now, runs), cards.unattributed(now, runs)],
        "comparisons": _comparisons(site_name, asked, now),
    }


def periods(shown: Period) -> list[tuple[str, str, bool]]:
    """Return the options of the period; the dates of the URL are one more."""
    found = [(days, text, shown.name.endswith(text)) for days, text in PERIODS.items()]
    return found if any(is_chosen for _, _, is_chosen in found) else [(shown.name, shown.name, True), *found]


def selects(asked: Scope, whole: Answer) -> list[tuple[str, str, list[tuple[str, str, bool]]]]:
    """Return name, title and options of each filter that the runs of the tenant have values for."""
    found = []
    for name, values in cards.options(whole, FILTERS).items():
        chosen = asked.filters.get(name)
        listed = values[:_MAX_OPTIONS] + ([chosen] if chosen and chosen not in values[:_MAX_OPTIONS] else [])
        if listed:
            found.append((name, FILTERS[name], [(value, figures.label(value), value == chosen) for value in listed]))
    return found


def _by_clock(asked: Scope, given: str | None, *, has_runs: bool) -> tuple[Scope, Answer]:
    """Return the scope and its answer by the time of start; by that of recording where no run has a
    start.

    A run without a start is in no period of starts, so a store of such runs would seem empty.
    """
    recorded = Scope(asked.tenant, asked.period, RECORDED, asked.filters)
    if given == RECORDED:
        return recorded, recorded.stats(bucket=asked.period.bucket)
    found = asked.stats(bucket=asked.period.bucket)
    if found["count"] or given == STARTED or not has_runs:
        return asked, found
    other = recorded.stats(bucket=asked.period.bucket)
    return (recorded, other) if other["count"] else (asked, found)


def sentence(period: Period, now: Answer, before: Answer | None) -> str:
    """Say in plain words what happened in the period, and what changed since the one before."""
    count = now["count"]
    runs = counted(count, "run")
    rate, cost = now["success_rate"], now["cost_usd"]["sum"]
    parts = [f"In {period.name}, {runs} started" if period.days else f"Over all time, {runs} started"]
    if before is None or not before["count"]:
        if before is not None:
            parts[0] += " (none in the period before)"
        if rate["rate"] is not None:
            parts.append(f"{figures.percent(rate['rate'])} of those with a known outcome succeeded")
        if cost is not None:
            parts.append(f"they cost {figures.money(cost)}")
        return "; ".join(parts) + "."
    old = before["success_rate"]
    parts[0] += f", {_more(before['count'], count)} the {period.days} days before"
    if rate["rate"] is not None and old["rate"] is not None:
        found = figures.compared(old, rate)
        changed = "not distinguishable from" if found.startswith("not") else f"{found} than"
        parts.append(f"{figures.percent(rate['rate'])} succeeded, {changed} the {figures.percent(old['rate'])} before")
    if cost is not None:
        changed = figures.change(before["cost_usd"]["sum"], cost)
        parts.append(f"they cost {figures.money(cost)}" + (f" ({changed})" if changed else ""))
    return "; ".join(parts) + "."


def _more(old: int, new: int) -> str:
    if old == new:
        return "as many as in"
    return f"{abs(new - old):,} {'more' if new > old else 'fewer'} than in"


def tiles(now: Answer, before: Answer | None, runs: Address) -> list[Tile]:
    """Return the figures on top, each with the address of its runs."""
    old: Answer = before if before and before["count"] else {}

    def tile(name: str, *path: str, text: Any, note: str = "", **given: str) -> Tile:
        value = figures.at(now, *path)
        href = "" if value is None else runs(**given)
        return Tile(name, text(value), figures.change(figures.at(old, *path), value), note, href)

    rate = now["success_rate"]
    bounds = f"95 %: {100 * rate['low']:.0f} to {100 * rate['high']:.0f}" if rate["rate"] is not None else ""
    verdict = figures.compared(old["success_rate"], rate) if old else ""
    return [
        tile("Runs", "count", text=figures.count),
        Tile("Success", figures.percent(rate["rate"]), verdict, bounds, runs(outcome="success")),
        tile("Cost", "cost_usd", "sum", text=figures.money),
        tile("Cost per success", "cost_per_success_usd", text=figures.money),
        tile("Tokens", "tokens", "sum", text=figures.count),
        tile("Median time", "duration_ms", "p50", text=figures.span),
        tile("p95 time", "duration_ms", "p95", text=figures.span, **_at_least(now, "duration_ms", "p95")),
        tile("Unattributed", "unattributed_cost_usd", "sum", text=figures.money, note="in no phase"),
    ]


def _at_least(now: Answer, measure: str, percentile: str) -> dict[str, str]:
    """Return the filter that selects the runs at or above a percentile."""
    value = figures.at(now, measure, percentile)
    # The run at the rank may be below the percentile by its error.
    return {} if value is None else {f"min_{measure}": f"{value * (1 - RELATIVE_ERROR):.0f}"}


# Addresses.


def view_address(view: str, site_name: str, **given: str) -> str:
    """Return the address of a page of figures; empty if the admin of trajectories is not on this
    site."""
    try:
        address = reverse(f"admin:trajectories_trajectory_{view}", current_app=site_name)
    except NoReverseMatch:
        return ""
    return f"{address}?{urlencode(given)}" if given else address


def _runs(site_name: str, asked: Scope, **given: str) -> str:
    return scope.runs_address(site_name, asked.tenant, **asked.parameters | given)


def _with(request: HttpRequest, **given: str) -> str:
    changed = request.GET.copy()
    for name, value in given.items():
        changed[name] = value
    return f"?{changed.urlencode()}"


def _comparisons(site_name: str, asked: Scope, now: Answer) -> list[tuple[str, str]]:
    """Return links to comparisons that this page suggests: of periods, and of the two largest
    policies."""
    given = {"tenant": asked.tenant, **asked.filters}
    found = []
    if before := asked.period.before():
        sides = {"a": before, "b": asked.period}
        bounds = {f"{side}_{name}": at for side, one in sides.items() for name, at in one.bounds(asked.clock).items()}
        found.append(("This period against the one before", view_address("compare", site_name, **given | bounds)))
    policies = cards.options(now, ["policy"])["policy"]
    if len(policies) > 1:
        bounds = {**asked.period.bounds(asked.clock), "a_policy": policies[1], "b_policy": policies[0]}
        text = f"{figures.label(policies[1])} against {figures.label(policies[0])}"
        found.append((text, view_address("compare", site_name, **given | bounds)))
    return [(text, href) for text, href in found if href]


def no_tenant(request: HttpRequest) -> str:
    """Return why there is nothing to show."""
    if slug := request.GET.get("tenant"):
        return f"There is no tenant {figures.label(slug)}, or your groups do not let you see it."
    return "There is no tenant yet that you may see. Add a tenant and an API key, then record a run."


@sensitive_variables("key")
def curl(request: HttpRequest, key: str = "KEY") -> str:
    """Return the command that records a run on this host; empty if the API is not among its
    addresses."""
    try:
        address = request.build_absolute_uri(reverse("trajectories:trajectory-list"))
    except NoReverseMatch:
        return ""
    body = '{"request_summary": "My first run", "phases": [{"phase_name": "code", "outcome": "success"}]}'
    return (
        f"curl -sS {address} \\\n  -H 'Authorization: Bearer {key}' \\\n"
        f"  -H 'Content-Type: application/json' \\\n  -d '{body}'"
    )
