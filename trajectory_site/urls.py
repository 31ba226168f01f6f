"""The site's routes: the API, a page to try it, and the admin."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularSwaggerSplitView

urlpatterns = [
    path("", RedirectView.as_view(url="/docs/")),
    path(
        "docs/",
        SpectacularSwaggerSplitView.as_view(
            url="/v1/openapi.json",
            title="Trajectories",
            template_name="docs.html",
            authentication_classes=[],
            permission_classes=[],
        ),
        name="docs",
    ),
    path("admin/", admin.site.urls),
    path("", include("trajectories.urls")),
]

handler400 = "trajectory_site.errors.bad_request"
handler403 = "trajectory_site.errors.permission_denied"
handler404 = "trajectory_site.errors.page_not_found"
handler500 = "trajectory_site.errors.server_error"
