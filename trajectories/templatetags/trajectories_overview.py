"""The overview as a tag, for a template of the admin's index."""

from __future__ import annotations

from typing import Any

from django import template
from django.template import Context
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from trajectories.admin.overview import context_of, view_address

register = template.Library()


@register.simple_tag(takes_context=True)
def trajectories_overview(context: Context) -> SafeString | str:
    """Return the overview; empty if the user may not view trajectories, or this site does not have
    them."""
    request: Any = context["request"]
    site_name = getattr(request, "current_app", None) or "admin"
    if not view_address("overview", site_name) or not request.user.has_perm("trajectories.view_trajectory"):
        return ""
    return render_to_string("admin/trajectories/figures/overview.html", context_of(request, site_name), request)
