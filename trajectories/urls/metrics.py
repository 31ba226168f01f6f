"""The metrics alone, for a prefix or a host of their own."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from trajectories.api.metrics import metrics_text

app_name = "trajectories_metrics"
urlpatterns: list[URLPattern | URLResolver] = [path("metrics", metrics_text, name="metrics")]
