"""The health page: backlog, outbox, worker, Redis and archive, in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, URLPattern, path, reverse

from trajectories.admin import formatting
from trajectories.admin.tenants import tenants_of
from trajectories.domain.clock import now_us
from trajectories.services.health import GOOD, Finding, health
from trajectories.storage.store import get_store


def urls(model_admin: Any) -> list[URLPattern]:
    """Return the address of the page, for ``ModelAdmin.get_urls``."""

    def view(request: HttpRequest) -> HttpResponse:
        # It counts the runs of all tenants, so it is for those who may see all.
        if tenants_of(request) is not None or not model_admin.has_view_permission(request):
            raise PermissionDenied
        findings = health(get_store())
        request.current_app = model_admin.admin_site.name
        context = model_admin.admin_site.each_context(request) | {
            "title": "Health of the store",
            "opts": model_admin.opts,
            "media": model_admin.media,
            "findings": [(one, _address(one, model_admin.admin_site.name)) for one in findings],
            "sentence": sentence(findings),
            "checked": formatting.time_tag(now_us()),
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


def _address(found: Finding, site_name: str) -> str:
    """Return the list of the quarantined records; empty if there are none, or they are not on this site."""
    if found.part != "Quarantine" or found.state == GOOD:
        return ""
    try:
        return reverse("admin:trajectories_quarantined_changelist", current_app=site_name)
    except NoReverseMatch:
        return ""
