"""The app under a prefix, by one ``include()``."""

from django.urls import include, path

urlpatterns = [path("store/", include("trajectories.urls"))]
