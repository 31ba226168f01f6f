"""The health page: backlog, outbox, worker, Redis and archive, in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, URLPattern, path, reverse

from trajectories.admin import formatting
from trajectories.admin.frame import framed
from trajectories.admin.tenants import tenants_of
from trajectories.domain.clock import now_us
from trajectories.services.health import BAD, GOOD, WARNING, Finding, health
from trajectories.storage.store import get_store

LIVE_EVERY_S = 5


def urls(model_admin: Any) -> list[URLPattern]:
    """Return the address of the page, for ``ModelAdmin.get_urls``."""

    def view(request: HttpRequest) -> HttpResponse:
        # It counts the runs of all tenants, so it is for those who may see all.
        if tenants_of(request) is not None:
            raise PermissionDenied
        context = framed(model_admin, request, "Health")
        findings = health(get_store())
        context |= {
            "findings": [(one, *_link(one, model_admin.admin_site.name)) for one in worst_first(findings)],
            "sentence": sentence(findings),
            "checked": formatting.time_tag(now_us()),
            "is_live": request.GET.get("live") == "1",
            "live_every_s": LIVE_EVERY_S,
        }
        return TemplateResponse(request, "admin/trajectories/health.html", context)

    return [path("health/", model_admin.admin_site.admin_view(view), name="trajectories_health")]


def sentence(findings: Sequence[Finding]) -> str:
    """Say whether a person has to do something."""
    others = [one.part for one in findings if one.state != GOOD]
    if not others:
        return "Every part is good."
    verb = "needs" if len(others) == 1 else "need"
    return f"{len(others)} of {len(findings)} parts {verb} attention: {', '.join(others)}."


def worst_first(findings: Sequence[Finding]) -> list[Finding]:
    """Return the parts that are bad, those with a warning, and the good ones, each in their order."""
    return sorted(findings, key=lambda one: (BAD, WARNING, GOOD).index(one.state))


_LISTS = {"Quarantine": ("quarantined", "Show and replay them"), "Archive": ("trajectory", "Show the newest")}
"""The model whose list shows what a part is about, and the text of the link."""


def _link(found: Finding, site_name: str) -> tuple[str, str]:
    """Return address and text of the list of a part; empty if it has none, the list has no rows or
    cannot be read, or it is not on this site."""
    model, text = _LISTS.get(found.part, ("", ""))
    if not model or (found.part == "Quarantine" and found.state == GOOD) or found.state == BAD:
        return "", ""
    try:
        return reverse(f"admin:trajectories_{model}_changelist", current_app=site_name), text
    except NoReverseMatch:
        return "", ""
