"""Addresses of the pages of figures, which belong to the admin of trajectories."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib.admin import ModelAdmin
from django.urls import URLPattern, path

from trajectories.admin.compare import compare_view
from trajectories.admin.compare_runs import compare_runs_view
from trajectories.admin.evaluation import evaluation_view
from trajectories.admin.overview import overview_view

VIEWS = {
    "overview": ("overview/", overview_view),
    "compare": ("compare/", compare_view),
    "compare_runs": ("compare/runs/", compare_runs_view),
    "evaluate": ("evaluate/", evaluation_view),
}
"""Path and view by the name of the page."""


def urls(model_admin: ModelAdmin[Any]) -> list[URLPattern]:
    """Return the routes of the pages, for staff of the admin site of ``model_admin``."""
    return [
        path(
            route,
            model_admin.admin_site.admin_view(partial(view, model_admin)),
            name=f"trajectories_trajectory_{name}",
        )
        for name, (route, view) in VIEWS.items()
    ]
