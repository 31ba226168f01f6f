"""The probes alone, for a prefix or a host of their own."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from trajectories.api.health import LiveView, ReadyView

app_name = "trajectories_health"
urlpatterns: list[URLPattern | URLResolver] = [
    path("health", ReadyView.as_view(), name="health"),
    path("health/live", LiveView.as_view(), name="live"),
    path("health/ready", ReadyView.as_view(), name="ready"),
]
