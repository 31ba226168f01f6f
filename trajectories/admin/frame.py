"""The frame of the app's own pages within the admin site."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.urls import reverse

SCRIPT = forms.Script("trajectories/admin.js", type="module")
_MEDIA = forms.Media(css={"all": ["trajectories/admin.css"]}, js=[SCRIPT])  # type: ignore[list-item]  # the stubs know paths only

_PAGES = (
    ("Overview", "overview", "g o"),
    ("Compare groups", "compare", ""),
    ("Evaluate a policy", "evaluate", ""),
    ("Runs", "changelist", "u"),
)
"""Name, view and key of each page that a page of figures leads to."""


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
        "figure_pages": [
            (
                name,
                reverse(f"admin:trajectories_trajectory_{view}", current_app=request.current_app),
                name == title,
                key,
            )
            for name, view, key in _PAGES
        ],
    }
