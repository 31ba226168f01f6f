"""The API and its OpenAPI document."""

from __future__ import annotations

import orjson
from django.contrib.auth.decorators import login_not_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, URLResolver, path, re_path
from django.views.decorators.csrf import csrf_exempt
from rest_framework.routers import DynamicRoute, Route, SimpleRouter

from trajectories.api.exception_handler import error_response
from trajectories.api.learning_views import LearningViewSet
from trajectories.api.request_ids import HEADER, request_id
from trajectories.api.views import TrajectoryViewSet
from trajectories.exceptions import NotFound


class Router(SimpleRouter):
    """Name the actions as the API does; no trailing slash."""

    routes = [  # noqa: RUF012  as in SimpleRouter
        Route(
            r"^{prefix}$",
            {"get": "list", "post": "record", "delete": "delete_matching"},
            "{basename}-list",
            detail=False,
            initkwargs={},
        ),
        DynamicRoute(r"^{prefix}/{url_path}$", "{basename}-{url_name}", detail=False, initkwargs={}),
        Route(
            r"^{prefix}/{lookup}$",
            {"get": "retrieve", "patch": "update", "delete": "delete_one"},
            "{basename}-detail",
            detail=True,
            initkwargs={},
        ),
        DynamicRoute(r"^{prefix}/{lookup}/{url_path}$", "{basename}-{url_name}", detail=True, initkwargs={}),
    ]


router = Router()
router.register("v1/agent/trajectories", TrajectoryViewSet, basename="trajectory")
api_urlpatterns: list[URLPattern | URLResolver] = [
    *router.urls,
    path("v1/agent/outcomes", TrajectoryViewSet.as_view({"post": "record_outcomes"}), name="outcome-list"),
    path(
        "v1/agent/recommendations",
        LearningViewSet.as_view({"get": "recommend_models", "post": "recommend"}),
        name="recommendations",
    ),
    path("v1/agent/alerts", LearningViewSet.as_view({"get": "alerts"}), name="alerts"),
    path("v1/agent/evaluations", LearningViewSet.as_view({"post": "evaluate"}), name="evaluations"),
    path("v1/intelligence/cost-forecast", LearningViewSet.as_view({"get": "forecast_cost"}), name="cost-forecast"),
]


@login_not_required
@transaction.non_atomic_requests
def openapi_json(request: HttpRequest) -> HttpResponse:
    """Return the OpenAPI document. It contains no tenant data, so it needs no key."""
    # Here and not above: drf-spectacular and the models of answers take 7 MB of each web process.
    from trajectories.api.openapi import openapi

    prefix = request.path.removesuffix("/v1/openapi.json")
    return HttpResponse(
        orjson.dumps(openapi(api_urlpatterns, prefix), option=orjson.OPT_INDENT_2),
        content_type="application/json",
        headers={HEADER: request_id(request)},
    )


@login_not_required
@csrf_exempt  # CSRF failures respond with an unrelated HTML page
@transaction.non_atomic_requests
def nothing_here(request: HttpRequest) -> HttpResponse:
    return error_response(NotFound("No endpoint has this path. Paths of the API have no trailing slash."), request)


app_name = "trajectories"
urlpatterns: list[URLPattern | URLResolver] = [
    *api_urlpatterns,
    path("v1/openapi.json", openapi_json, name="openapi"),
    re_path(
        r"^v1/(?:agent/(?:trajectories|outcomes|recommendations|evaluations|alerts)|intelligence/cost-forecast)",
        nothing_here,
    ),
]
