"""Pages of the site around the API."""

from __future__ import annotations

import re
from contextlib import closing

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path
from pytest_django import Settings

from trajectory_site import urls


def test_the_root_leads_to_the_docs(client: Client) -> None:
    assert client.get("/")["Location"] == "/docs/"


@pytest.mark.django_db  # a file that is closed ends a request, which looks at connections that earlier tests have left
def test_the_docs_page_takes_every_asset_from_the_site(client: Client) -> None:
    page = client.get("/docs/").content.decode()
    assets = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(assets) == 6
    for asset in assets:
        with closing(client.get(asset)) as answer:
            assert answer.status_code == 200, asset
    assert '"/v1/openapi.json"' in client.get("/docs/?script=").content.decode()


def test_the_docs_page_does_not_store_a_key_in_the_browser(client: Client) -> None:
    script = client.get("/docs/?script=").content.decode()
    assert '"persistAuthorization": false' in script


@pytest.mark.parametrize("address", ["/v1/", "/v1/agent/other", "/v1/agent/trajectories/"])
def test_an_unknown_address_of_the_api_is_answered_in_json(address: str, client: Client) -> None:
    answer = client.get(address)
    assert answer.status_code == 404
    assert answer.json()["error"].keys() >= {"type", "code", "message"}


@pytest.mark.django_db
def test_an_unknown_address_elsewhere_is_a_page(client: Client) -> None:
    answer = client.get("/nowhere")
    assert answer.status_code == 404
    assert answer["Content-Type"].startswith("text/html")
    page = answer.content.decode()
    assert "Page not found" in page
    for address in re.findall(r'href="([^"]+)"', page):
        with closing(client.get(address)) as linked:
            assert linked.status_code in (200, 302), address


def test_an_unknown_host_gets_a_json_error(client: Client, settings: Settings) -> None:
    settings.ALLOWED_HOSTS = ["store.example"]
    answer = client.get("/v1/openapi.json", HTTP_HOST="other.example")
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "bad_request"


def test_a_failure_of_the_server_is_answered_in_json(settings: Settings) -> None:
    settings.ROOT_URLCONF = "tests.trajectory_site.test_pages"
    client = Client(raise_request_exception=False)
    assert client.get("/v1/fails").json()["error"]["type"] == "server_error"
    assert "its log has the cause" in client.get("/fails").content.decode()


@pytest.mark.django_db
def test_the_admin_requires_a_login(client: Client) -> None:
    assert client.get("/admin/")["Location"].startswith("/admin/login/")
    assert "<title>Log in | Trajectories</title>" in client.get("/admin/login/").content.decode()


def fails(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("this view fails")


urlpatterns = [path("fails", fails), path("v1/fails", fails), *urls.urlpatterns]
handler500 = "trajectory_site.errors.server_error"
