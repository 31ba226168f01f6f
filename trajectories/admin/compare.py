"""Compare two groups of runs: any two filters of the API, in the URL, from two answers of stats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from django.contrib.admin import ModelAdmin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from trajectories.admin import cards, figures, scope
from trajectories.admin.cards import Answer, Card, Cell, name_cell, rate_cell
from trajectories.admin.frame import framed
from trajectories.admin.overview import curl, no_tenant
from trajectories.domain.clock import now_us
from trajectories.domain.query import FILTERS, parse_query
from trajectories.exceptions import TrajectoriesError
from trajectories.services import reads
from trajectories.storage.store import get_store

TEMPLATE = "admin/trajectories/compare.html"
SIDES = ("a", "b")
_SHOWN = {
    "policy": "Policy",
    "project": "Project",
    "request_type": "Type",
    "model": "Model",
    "started_since": "Started since",
    "started_until": "Started before",
}
"""Fields of the form; the URL takes every filter of the API."""
_SUGGESTED = {"policy", "project", "request_type", "model"}
_MAX_OPTIONS = 100


class Row(NamedTuple):
    """A figure of both sides; ``name``, then the path to it in an answer, and its format."""

    name: str
    path: tuple[str, ...]
    text: Callable[[float | None], str]


_ROWS = (
    Row("Runs", ("count",), figures.count),
    Row("Cost of a run", ("cost_usd", "mean"), figures.money),
    Row("Cost per success", ("cost_per_success_usd",), figures.money),
    Row("Duration of a run", ("duration_ms", "mean"), figures.span),
    Row("Duration, median", ("duration_ms", "p50"), figures.span),
    Row("Duration, p95", ("duration_ms", "p95"), figures.span),
    Row("Tokens of a run", ("tokens", "mean"), figures.count),
    Row("Unattributed, of a run", ("unattributed_cost_usd", "mean"), figures.money),
)


def compare_view(model_admin: ModelAdmin[Any], request: HttpRequest) -> HttpResponse:
    """Return the page that compares group A, the old one, with group B, the new one.

    Parameters that begin with ``a_`` or ``b_`` are of one group, the others of both. Without any,
    the groups are the last four weeks and those before.

    Raises:
        PermissionDenied: 403; the user may not view trajectories.
    """
    context = framed(model_admin, request, "Compare groups")
    listed = scope.tenants(request)
    tenant = scope.tenant(request, listed)
    context |= {
        "is_open": not any(name[:2] in ("a_", "b_") for name in request.GET),
        "tenants": listed if tenant in listed else [*filter(None, [tenant]), *listed],
        "tenant": tenant,
        "curl": curl(request),
    }
    if tenant is None:
        return TemplateResponse(request, TEMPLATE, context | {"problem": no_tenant(request)})
    sides = {side: _given(request.GET, side) for side in SIDES}
    if sides["a"] == sides["b"]:
        sides = _periods(sides)
    try:
        context |= _figures(model_admin.admin_site.name, tenant, sides)
    except TrajectoriesError as error:
        context["problem"] = error.message
    context["said"] = [(side.upper(), _said(sides[side])) for side in SIDES]
    return TemplateResponse(request, TEMPLATE, context | _form(tenant, sides))


def _said(given: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {figures.label(value)}" for name, value in given.items()) or "all runs"


def _given(given: Mapping[str, str], side: str) -> dict[str, str]:
    """Return the filters of the API that the URL gives for one side."""
    both = {name: given[name] for name in FILTERS if given.get(name)}
    own = {name: given[key] for name in FILTERS if given.get(key := f"{side}_{name}")}
    return both | own


def _periods(sides: Mapping[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """Return both sides with the last period for B and the one before for A."""
    last = scope.period(scope.DEFAULT_PERIOD)
    bounds = {"a": (last.before() or last).bounds(scope.STARTED), "b": last.bounds(scope.STARTED)}
    return {side: given | bounds[side] for side, given in sides.items()}


def _figures(site_name: str, tenant: str, sides: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    now = now_us()
    old, new = (reads.stats(get_store(), tenant, parse_query(sides[side], now)) for side in SIDES)
    runs = {side: partial(scope.runs_address, site_name, tenant, **sides[side]) for side in SIDES}
    return {
        "sentence": sentence(old, new),
        "totals": totals(old, new, *(runs[side]() for side in SIDES)),
        "phases": by_phase(old, new),
        "is_complete": old["window"]["complete"] and new["window"]["complete"],
    }


def sentence(old: Answer, new: Answer) -> str:
    """Say in plain words what differs."""
    if not old["count"] or not new["count"]:
        empty = [name for name, answer in (("A", old), ("B", new)) if not answer["count"]]
        verb = "has" if len(empty) == 1 else "have"
        return f"{' and '.join(empty)} {verb} no runs, so there is nothing to compare."
    rates = old["success_rate"], new["success_rate"]
    found = figures.verdict(*rates)
    parts = [f"Success {figures.percent(rates[0]['rate'])} → {figures.percent(rates[1]['rate'])}, {found}"]
    for name, path, text in (_ROWS[1], _ROWS[3]):
        one, other = figures.at(old, *path), figures.at(new, *path)
        if change := figures.change(one, other):
            parts.append(f"{name[0].lower()}{name[1:]} {text(one)} → {text(other)} ({change})")
    return "; ".join(parts) + "."


def totals(old: Answer, new: Answer, a_runs: str, b_runs: str) -> Card:
    """Return the figures of whole runs."""
    rows = [
        [
            Cell("Success", is_number=False),
            rate_cell(old["success_rate"]),
            rate_cell(new["success_rate"]),
            Cell(figures.verdict(old["success_rate"], new["success_rate"]), is_number=False),
        ]
    ]
    for name, path, text in _ROWS:
        one, other = figures.at(old, *path), figures.at(new, *path)
        links = (a_runs, b_runs) if path == ("count",) else ("", "")
        cells = [Cell(text(value), href) for value, href in zip((one, other), links, strict=True)]
        rows.append(
            [Cell(name, is_number=False), *cells, Cell(figures.change(one, other) or figures.UNKNOWN, is_number=False)]
        )
    note = "Success has 95 % intervals; that of the difference is Newcombe's. Means have none: stats keep sums."
    return Card("Runs", ["", "A", "B", "Change"], rows, note, is_wide=True)


def by_phase(old: Answer, new: Answer) -> Card:
    """Return the figures of the phases of both sides, in the order of B."""
    sides = [{group["phase"]: group for group in answer["by_phase"]} for answer in (old, new)]
    rows = []
    for phase in list(dict.fromkeys([*sides[1], *sides[0]]))[: cards.MAX_ROWS]:
        one, other = (side.get(phase) for side in sides)
        rates = [group["credited_success_rate"] if group else cards.rate_of(0, 0) for group in (one, other)]
        rows.append(
            [
                name_cell(phase),
                Cell(" → ".join(figures.count(group["count"] if group else 0) for group in (one, other))),
                Cell(" → ".join(figures.percent(rate["rate"]) for rate in rates)),
                Cell(figures.compared(*rates), is_number=False, note=figures.points(*rates)),
                Cell(" → ".join(figures.percent(figures.at(group, "success_rate", "rate")) for group in (one, other))),
                *(
                    _old_and_new(figures.at(one, name, "mean"), figures.at(other, name, "mean"), text)
                    for name, text in (("cost_usd", figures.money), ("duration_ms", figures.span))
                ),
                Cell(" → ".join(figures.percent(figures.at(group, "skip_rate")) for group in (one, other))),
            ]
        )
    head = ["Phase", "Count", "Credited success", "Where B differs", "By own outcome", "Cost", "Duration", "Skipped"]
    return Card("Phases", head, rows, is_wide=True, empty="No run has phases.")


def _old_and_new(old: float | None, new: float | None, text: Callable[[float | None], str]) -> Cell:
    return Cell(f"{text(old)} → {text(new)}", note=figures.change(old, new))


def _form(tenant: str, sides: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Return the rows of the form, and the values that its fields suggest."""
    fields = [(name, text, [(side, sides[side].get(name, "")) for side in SIDES]) for name, text in _SHOWN.items()]
    kept = [(f"{side}_{name}", value) for side in SIDES for name, value in sides[side].items() if name not in _SHOWN]
    try:
        whole = reads.stats(get_store(), tenant, parse_query({}, now_us()))
    except TrajectoriesError:
        return {"fields": fields, "kept": kept, "suggestions": {}}
    found = cards.options(whole, sorted(_SUGGESTED))
    return {
        "fields": fields,
        "kept": kept,
        "suggestions": {name: values[:_MAX_OPTIONS] for name, values in found.items()},
    }
