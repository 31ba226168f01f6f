"""Requests below /v1/ pass the middleware of the API, and other requests that of pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock, patch

import httpx2
import pytest
from asgiref.sync import async_to_sync
from asgiref.testing import ApplicationCommunicator
from django.conf import settings as site_settings
from django.core.asgi import get_asgi_application
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from django.urls import get_resolver
from pytest_django import Settings

from trajectory_site.api_requests import ApiWSGIHandler, by_path, by_path_asgi

communicator: Any = ApplicationCommunicator  # has no types


def marked_api(get_response: Any) -> Any:
    return _marked(get_response, "api")


def marked_page(get_response: Any) -> Any:
    return _marked(get_response, "page")


def _marked(get_response: Any, mark: str) -> Any:
    def middleware(request: Any) -> Any:
        response = get_response(request)
        response["X-Passed"] = mark
        return response

    return middleware


@pytest.fixture(autouse=True)
def connections_of_others() -> Iterator[None]:
    """Leave the connections that other tests have opened alone, as Django's test client does."""
    request_started.disconnect(close_old_connections)
    request_finished.disconnect(close_old_connections)
    yield
    request_started.connect(close_old_connections)
    request_finished.connect(close_old_connections)


@pytest.fixture
def marks(settings: Settings) -> None:
    settings.API_MIDDLEWARE = [f"{__name__}.marked_api"]
    settings.MIDDLEWARE = [f"{__name__}.marked_page"]


def answered(path: str, **environ: str) -> httpx2.Response:
    transport = httpx2.WSGITransport(by_path(get_wsgi_application()))
    with httpx2.Client(transport=transport, base_url="http://localhost") as client:
        return client.get(path, headers=environ)


@pytest.mark.django_db
@pytest.mark.usefixtures("marks")
@pytest.mark.parametrize(
    ("path", "passed"),
    [("/v1/agent/trajectories", "api"), ("/v1/nowhere", "api"), ("/v1", "page"), ("/docs/", "page"), ("/", "page")],
)
def test_a_path_decides_which_middleware_a_request_passes(path: str, passed: str) -> None:
    assert answered(path).headers["X-Passed"] == passed
    # The pages' list is as it was.
    assert [f"{__name__}.marked_page"] == site_settings.MIDDLEWARE


@pytest.mark.usefixtures("marks")
@pytest.mark.parametrize(("path", "passed"), [("/store/v1/openapi.json", "api"), ("/store/v2/", "page")])
def test_asgi_decides_by_the_path_below_its_prefix(path: str, passed: str) -> None:
    async def headers() -> dict[bytes, bytes]:
        scope = {"type": "http", "method": "GET", "path": path, "root_path": "/store", "headers": []}
        asked: Any = communicator(by_path_asgi(get_asgi_application()), scope | {"query_string": b""})
        await asked.send_input({"type": "http.request", "body": b"", "more_body": False})
        start = await asked.receive_output(60)
        await asked.wait(60)
        return dict(start["headers"])

    assert async_to_sync(headers)()[b"X-Passed"].decode() == passed


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/v1/agent/trajectories", "/v1/openapi.json", "/v1/nowhere"])
def test_an_answer_of_the_api_has_the_headers_that_keep_a_browser_in(path: str) -> None:
    answer = answered(path)
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert "Set-Cookie" not in answer.headers


def test_an_address_without_parameters_is_looked_up_once() -> None:
    handler = ApiWSGIHandler()
    resolver = Mock(wraps=get_resolver())
    with patch("django.core.handlers.base.get_resolver", return_value=resolver):
        transport = httpx2.WSGITransport(handler)
        with httpx2.Client(transport=transport, base_url="http://localhost") as client:
            paths = [
                f"/v1/agent/{end}"
                for end in ("trajectories", "trajectories/stats", "trajectories/1", "trajectories?", "x")
            ]
            answers = [[client.get(path).status_code for path in paths] for _ in range(2)]
    assert answers == [[401, 401, 401, 401, 404]] * 2
    looked_up = [call.args[0].removeprefix("/v1/agent/") for call in resolver.resolve.call_args_list]
    assert looked_up == ["trajectories", "trajectories/stats", "trajectories/1", "x", "trajectories/1", "x"]


def test_the_api_refuses_a_host_that_is_not_served_here() -> None:
    answer = answered("/v1/agent/trajectories", Host="elsewhere.example")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request")


def test_the_middleware_of_the_api_is_part_of_that_of_pages() -> None:
    own = "trajectory_site.api_requests.content_security_policy"
    assert [name for name in site_settings.API_MIDDLEWARE if name not in site_settings.MIDDLEWARE] == [own]
