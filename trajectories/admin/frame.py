"""The frame of the app's own pages within the admin site."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from django import forms
from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse

from trajectories.admin.tenants import tenants_of

SCRIPT = forms.Script("trajectories/admin.js", type="module")
_MEDIA = forms.Media(css={"all": ["trajectories/admin.css"]}, js=[SCRIPT])  # type: ignore[list-item]  # the stubs know paths only

_PAGES = (
    ("Overview", "trajectories_trajectory_overview", "g o"),
    ("Compare groups", "trajectories_trajectory_compare", ""),
    ("Evaluate a policy", "trajectories_trajectory_evaluate", ""),
    ("Runs", "trajectories_trajectory_changelist", "u"),
)
"""Name, view and key of each page that a page of figures leads to."""
_HEALTH = "Health", "trajectories_health", ""


def framed(model_admin: ModelAdmin[Any], request: HttpRequest, title: str) -> dict[str, Any]:
    """Return the context that every page needs, for the admin site of ``model_admin``.

    Raises:
        PermissionDenied: 403; the user may not view the rows of ``model_admin``.
    """
    if not model_admin.has_view_permission(request):
        raise PermissionDenied
    request.current_app = model_admin.admin_site.name  # for the links of the page
    return {
        **model_admin.admin_site.each_context(request),
        "title": title,
        "opts": model_admin.opts,
        "media": _MEDIA,
        "figure_pages": list(_pages(request, title)),
    }


def _pages(request: HttpRequest, title: str) -> Iterator[tuple[str, str, bool, str]]:
    """Yield name, address and key of each page that this admin site has, and whether it is shown."""
    sees_health = tenants_of(request) is None and request.user.has_perm("trajectories.view_tenant")
    for name, view, key in (*_PAGES, *([_HEALTH] if sees_health else [])):
        with suppress(NoReverseMatch):
            yield name, reverse(f"admin:{view}", current_app=request.current_app), name == title, key
