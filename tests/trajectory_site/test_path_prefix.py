"""The site below a path of its host name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin

import httpx2
import pytest
from asgiref.sync import async_to_sync
from django.core.asgi import get_asgi_application
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from django.urls import clear_script_prefix
from pytest_django import Settings

from tests.api.client import ID, PATH, issue
from trajectory_site.path_prefix import below_prefix, below_prefix_asgi

PREFIX = "/team/store"


@pytest.fixture(scope="module")
def application() -> Any:
    return below_prefix(get_wsgi_application())


@pytest.fixture
def served() -> Iterator[None]:
    """Requests as Django's own client sends them: the connection is the test's, and none of a
    request's."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)
    clear_script_prefix()


@pytest.fixture
def browser(application: Any, db: None, served: None) -> Iterator[httpx2.Client]:
    with httpx2.Client(transport=httpx2.WSGITransport(application), base_url="http://localhost") as client:
        yield client


def links(page: httpx2.Response) -> list[str]:
    return [urljoin(str(page.url), link) for link in re.findall(r'(?:href|src)="([^"#]+)"', page.text)]


@pytest.mark.parametrize("path", ["/admin/login/", "/docs/"])
@pytest.mark.parametrize("sent", [PREFIX, ""])
@pytest.mark.parametrize("by_header", [True, False])
def test_every_link_of_a_page_is_below_the_prefix_and_answers(
    browser: httpx2.Client, settings: Settings, path: str, sent: str, by_header: bool
) -> None:
    """``sent`` is what a proxy leaves of the prefix."""
    assert browser.get("/docs/").is_success  # a page without the prefix comes first
    settings.TRUST_X_FORWARDED_PREFIX, settings.URL_PREFIX = by_header, "" if by_header else PREFIX
    headers = {"X-Forwarded-Prefix": f"{PREFIX}/"} if by_header else {}
    page = browser.get(sent + path, headers=headers)
    assert page.is_success
    found = links(page)
    assert len(found) > 3
    for link in found:
        address = httpx2.URL(link)
        assert address.path.startswith(f"{PREFIX}/")
        answer = browser.get(sent + address.raw_path.decode().removeprefix(PREFIX), headers=headers)
        # The page of the admin sends to its login.
        assert answer.status_code == (302 if address.path == f"{PREFIX}/admin/" else 200), link


def test_the_first_page_leads_to_the_docs_and_their_document_to_the_prefix(
    browser: httpx2.Client, settings: Settings
) -> None:
    settings.URL_PREFIX = PREFIX
    assert browser.get(f"{PREFIX}/").headers["Location"] == f"{PREFIX}/docs/"
    assert f"{PREFIX}/v1/openapi.json" in browser.get(f"{PREFIX}/docs/?script=").text
    assert browser.get(f"{PREFIX}/v1/openapi.json").json()["servers"] == [{"url": PREFIX}]


def test_the_api_answers_below_the_prefix(browser: httpx2.Client, settings: Settings) -> None:
    settings.URL_PREFIX = PREFIX
    headers = {"Authorization": f"Bearer {issue()[1]}"}
    sent = browser.post(f"{PREFIX}{PATH}", headers=headers, json={"id": ID, "request_summary": "x", "phases": []})
    assert sent.headers["Location"] == f"{PREFIX}{PATH}/{ID}"
    assert browser.get(sent.headers["Location"], headers=headers).is_success
    assert browser.get(f"{PREFIX}/v1/nothing").json()["error"]["code"] == "not_found"


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("sent", [PREFIX, ""])
@pytest.mark.parametrize("by_header", [True, False])
def test_an_asgi_server_serves_the_same_addresses_below_the_prefix(
    settings: Settings, sent: str, by_header: bool
) -> None:
    settings.TRUST_X_FORWARDED_PREFIX, settings.URL_PREFIX = by_header, "" if by_header else PREFIX
    headers = {"X-Forwarded-Prefix": f"{PREFIX}/"} if by_header else {}
    paths = ("/", "/docs/", "/v1/openapi.json", "/v1/nothing", f"/other{PREFIX}/docs/")

    async def answers() -> list[httpx2.Response]:
        transport = httpx2.ASGITransport(below_prefix_asgi(get_asgi_application()))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
            return [await client.get(sent + path) for path in paths]

    first, docs, document, nothing, elsewhere = async_to_sync(answers)()
    assert first.headers["Location"] == f"{PREFIX}/docs/"
    assert docs.is_success
    assert all(httpx2.URL(link).path.startswith(f"{PREFIX}/") for link in links(docs))
    assert document.json()["servers"] == [{"url": PREFIX}]
    assert (nothing.status_code, elsewhere.status_code) == (404, 404)


@pytest.mark.parametrize(
    ("is_trusted", "prefix"),
    [
        (False, PREFIX),
        (True, "//evil.example"),
        (True, '/a"b'),
        (True, "https://evil.example"),
        (True, "/.."),
        (True, "/a/../b"),
        (True, "/."),
    ],
)
def test_a_prefix_that_is_not_trusted_or_no_path_is_ignored(
    browser: httpx2.Client, settings: Settings, is_trusted: bool, prefix: str
) -> None:
    settings.TRUST_X_FORWARDED_PREFIX = is_trusted
    answer = browser.get("/", headers={"X-Forwarded-Prefix": prefix})
    assert answer.headers["Location"] == "/docs/"


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "path", ["/.well-known/oauth-authorization-server", "/.well-known/x/v1/mcp/connect", "/register"]
)
def test_clients_that_look_for_oauth_get_an_error_in_the_shape_of_the_api(
    browser: httpx2.Client, method: str, path: str
) -> None:
    answer = browser.request(method, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_health_without_a_part_says_whether_writes_are_accepted(browser: httpx2.Client) -> None:
    health, ready = browser.get("/health"), browser.get("/health/ready")
    assert (health.status_code, health.json().keys()) == (200, ready.json().keys())
