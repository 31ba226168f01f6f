"""The health page: backlog, outbox, worker, Redis and archive, in sentences."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from trajectories.admin.tenants import tenants_of
from trajectories.services.health import health
from trajectories.storage.store import get_store


def urls(model_admin: Any) -> list[URLPattern]:
    """Return the address of the page, for ``ModelAdmin.get_urls``."""

    def view(request: HttpRequest) -> HttpResponse:
        # It counts the runs of all tenants, so it is for those who may see all.
        if tenants_of(request) is not None or not model_admin.has_view_permission(request):
            raise PermissionDenied
        request.current_app = model_admin.admin_site.name
        context = model_admin.admin_site.each_context(request) | {
            "title": "Health of the store",
            "opts": model_admin.opts,
            "media": model_admin.media,
            "findings": health(get_store()),
        }
        return TemplateResponse(request, "admin/trajectories/health.html", context)

    return [path("health/", model_admin.admin_site.admin_view(view), name="trajectories_health")]
