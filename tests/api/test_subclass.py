"""A host project replaces a part of the viewset by one attribute of a subclass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import orjson
import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication
from rest_framework.parsers import BaseParser
from rest_framework.permissions import BasePermission
from rest_framework.throttling import BaseThrottle

from tests.examples import body
from trajectories.api.authentication import Caller
from trajectories.api.pagination import PositionPagination
from trajectories.api.responses import ErrorBody
from trajectories.api.views import TrajectoryViewSet
from trajectories.models import SCOPES

pytestmark = pytest.mark.django_db

ACTIONS = {"get": "list", "post": "record"}
JSON = "application/json"


class AlwaysNorth(BaseAuthentication):
    def authenticate(self, request: Any) -> tuple[Any, Caller]:
        return None, Caller("north", frozenset(SCOPES))

    def authenticate_header(self, request: Any) -> str:
        return "Host"  # without it, DRF responds with 403 instead of 401


class HostViewSet(TrajectoryViewSet):
    """The viewset of a host whose requests all belong to one tenant."""

    authentication_classes = (AlwaysNorth,)


def send(view: type[TrajectoryViewSet], request: HttpRequest) -> HttpResponse:
    response: HttpResponse = view.as_view(ACTIONS)(request)
    return response


def post(view: type[TrajectoryViewSet], data: bytes, media_type: str = JSON) -> HttpResponse:
    return send(view, RequestFactory().post("/runs", data, content_type=media_type))


def listed(view: type[TrajectoryViewSet]) -> Any:
    response = send(view, RequestFactory().get("/runs"))
    assert response.status_code == 200, response.content
    return orjson.loads(response.content)


def test_authentication() -> None:
    refused = post(TrajectoryViewSet, orjson.dumps(body()))
    assert (refused.status_code, refused["WWW-Authenticate"]) == (401, 'Bearer realm="trajectories"')
    assert post(HostViewSet, orjson.dumps(body())).status_code == 201
    assert len(listed(HostViewSet)["data"]) == 1


def test_permission() -> None:
    class ReadOnly(BasePermission):
        message = "Runs are recorded by the pipeline only."

        def has_permission(self, request: Any, view: Any) -> bool:
            return bool(request.method == "GET")

    class View(HostViewSet):
        permission_classes = (ReadOnly,)

    listed(View)
    response = post(View, orjson.dumps(body()))
    assert response.status_code == 403
    assert ErrorBody.model_validate_json(response.content).error.message == ReadOnly.message


def test_scopes_of_the_actions() -> None:
    class View(HostViewSet):
        required_scopes: ClassVar[Mapping[str, str]] = {"list": "read", "record": "never granted"}

    listed(View)
    assert post(View, orjson.dumps(body())).status_code == 403


def test_throttle() -> None:
    class Never(BaseThrottle):
        def allow_request(self, request: Any, view: Any) -> bool:
            return False

        def wait(self) -> float:
            return 6.2

    class View(HostViewSet):
        throttle_classes = (Never,)

    response = post(View, orjson.dumps(body()))
    assert (response.status_code, response["Retry-After"]) == (429, "7")


def test_parser() -> None:
    class Enveloped(BaseParser):
        media_type = "application/vnd.host+json"

        def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
            return orjson.dumps(orjson.loads(stream.read())["run"])

    class View(HostViewSet):
        parser_classes = (*TrajectoryViewSet.parser_classes, Enveloped)

    assert post(HostViewSet, b"{}", Enveloped.media_type).status_code == 415
    envelope = orjson.dumps({"run": body(project="enveloped")})
    assert post(View, envelope, Enveloped.media_type).status_code == 201
    assert post(View, orjson.dumps(body())).status_code == 201
    assert listed(View)["data"][1]["project"] == "enveloped"


def test_pagination() -> None:
    class OneEach(PositionPagination):
        default_limit = 1

    class View(HostViewSet):
        pagination_class = OneEach

    for _ in range(2):
        post(View, orjson.dumps(body()))
    assert (len(listed(View)["data"]), listed(View)["has_more"]) == (1, True)


def test_exception_handler() -> None:
    def teapot(exc: Exception, context: dict[str, Any]) -> HttpResponse:
        return HttpResponse(type(exc).__name__, status=418)

    class View(HostViewSet):
        exception_handler = staticmethod(teapot)

    response = post(View, b"{")
    assert (response.status_code, response.content) == (418, b"InvalidInput")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (exceptions.NotAuthenticated(), 401),
        (exceptions.AuthenticationFailed(), 401),
        (exceptions.PermissionDenied(), 403),
        (exceptions.NotFound(), 404),
        (exceptions.MethodNotAllowed("POST"), 405),
        (exceptions.NotAcceptable(), 406),
        (exceptions.UnsupportedMediaType("text/plain"), 415),
        (exceptions.Throttled(wait=6.2), 429),
        (exceptions.ParseError(), 400),
        (exceptions.ValidationError("no"), 400),
        (exceptions.APIException("of ours"), 500),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_an_exception_of_drf_keeps_its_status(error: exceptions.APIException, status: int) -> None:
    class Raising(BasePermission):
        def has_permission(self, request: Any, view: Any) -> bool:
            raise error

    class View(HostViewSet):
        permission_classes = (Raising,)

    response = post(View, orjson.dumps(body()))
    assert response.status_code == status
    shown = ErrorBody.model_validate_json(response.content).error
    assert ("of ours" in shown.message) is False
    assert response.get("WWW-Authenticate") == ("Host" if status == 401 else None)
    assert status != 401 or shown.code in ("not_authenticated", "authentication_failed")
    assert response.get("Retry-After") == ("7" if status == 429 else None)
    assert status != 405 or response["Allow"] == "GET, HEAD, POST"
