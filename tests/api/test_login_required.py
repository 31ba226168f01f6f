"""Django's ``LoginRequiredMiddleware`` in a host project: this app authenticates by itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.contrib.auth.models import AnonymousUser
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.urls import URLPattern, URLResolver
from pytest_django import Settings

from tests.api.client import ID, PATH, client_of, issue
from trajectories import urls


def patterns(of: Iterable[URLPattern | URLResolver]) -> Iterator[URLPattern]:
    for one in of:
        if isinstance(one, URLResolver):
            yield from patterns(one.url_patterns)
        else:
            yield one


@pytest.mark.parametrize("pattern", list(patterns(urls.urlpatterns)), ids=lambda pattern: str(pattern.pattern))
def test_no_url_of_the_app_requires_a_login(pattern: URLPattern) -> None:
    request = RequestFactory().get("/")
    request.user = AnonymousUser()
    middleware = LoginRequiredMiddleware(lambda request: HttpResponse())
    assert middleware.process_view(request, pattern.callback, (), {}) is None


@pytest.mark.django_db
def test_requests_get_their_own_answers(settings: Settings) -> None:
    login = "django.contrib.auth.middleware.LoginRequiredMiddleware"
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, login]
    settings.TRAJECTORIES = settings.TRAJECTORIES | {"METRICS_ACCESS": "open"}
    statuses = {
        path: Client().get(path).status_code
        for path in ("/health/live", "/health/ready", "/metrics", "/v1/openapi.json", PATH, f"{PATH}/{ID}", f"{PATH}/")
    }
    assert list(statuses.values()) == [200, 200, 200, 200, 401, 401, 404], statuses
    assert client_of(issue()[1]).get(PATH).status_code == 200
