"""All routes of the app, under any prefix; ``api``, ``health`` and ``metrics`` are its parts.

The parts have application namespaces of their own, so that a project may include several of them.
"""

from __future__ import annotations

from django.urls import URLPattern, URLResolver

from trajectories.urls import api, health, metrics

app_name = "trajectories"
urlpatterns: list[URLPattern | URLResolver] = [*api.urlpatterns, *health.urlpatterns, *metrics.urlpatterns]
