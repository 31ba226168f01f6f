"""The site's routes: the API, a page to try it, the admin, and the MCP tools if installed."""

from importlib.util import find_spec

from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import URLPattern, URLResolver, include, path, re_path
from django.views.decorators.csrf import csrf_exempt
from django.views.generic import RedirectView

from trajectories.api.exception_handler import error_response
from trajectories.exceptions import NotFound


@csrf_exempt  # CSRF failures respond with an unrelated HTML page
@transaction.non_atomic_requests
def no_oauth(request: HttpRequest) -> HttpResponse:
    message = "This server has no OAuth. Send an API key as 'Authorization: Bearer KEY'."
    return error_response(NotFound(message), request)


def docs(request: HttpRequest) -> HttpResponseBase:
    """Show the API's documentation; load the page at the first call, because that takes a quarter
    of a start."""
    from drf_spectacular.views import SpectacularSwaggerSplitView

    view = SpectacularSwaggerSplitView.as_view(
        url_name="trajectories:openapi",
        title="Trajectories",
        template_name="docs.html",
        authentication_classes=[],
        permission_classes=[],
    )
    return view(request)


urlpatterns: list[URLPattern | URLResolver] = [
    path("", RedirectView.as_view(pattern_name="docs")),
    path("docs/", docs, name="docs"),
    path("admin/", admin.site.urls),
    path("", include("trajectories.urls")),
    # MCP clients ask these addresses for OAuth before they send a key.
    re_path(r"^(?:\.well-known/.*|register|authorize|token)$", no_oauth),
]

# The distribution trajectories-mcp is optional. Without it, this address is a 404.
if find_spec("trajectories_mcp"):

    @csrf_exempt
    @transaction.non_atomic_requests
    def connect(request: HttpRequest) -> HttpResponse:
        """Serve MCP; load it at the first call, because it takes half a second to import."""
        from trajectory_site import mcp_connect

        return mcp_connect.connect(request)

    urlpatterns.append(path("v1/mcp/connect", connect, name="mcp-connect"))

handler400 = "trajectory_site.errors.bad_request"
handler403 = "trajectory_site.errors.permission_denied"
handler404 = "trajectory_site.errors.page_not_found"
handler500 = "trajectory_site.errors.server_error"
