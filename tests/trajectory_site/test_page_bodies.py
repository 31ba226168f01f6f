"""Outside the API, a body is bounded before it is read, and a slow one holds one thread."""

from __future__ import annotations

import io
import socket
from contextlib import ExitStack
from selectors import EVENT_READ, DefaultSelector
from urllib.parse import urlsplit

import httpx2
import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client
from pytest_django import Settings

from tests.processes import Site, wait_until
from trajectory_site import page_bodies

THREADS = 4
"""As ``Site.web`` has them."""
LOGIN = "/admin/login/"
FORM = "application/x-www-form-urlencoded"


class Unread(io.BytesIO):
    """A body that may not be read."""

    def read(self, size: int | None = -1) -> bytes:
        raise AssertionError("the body was read")


def announce(client: Client, size: int, path: str = LOGIN) -> HttpResponse:
    headers = {"CONTENT_LENGTH": str(size), "wsgi.input": Unread()}
    return client.generic("POST", path, content_type="multipart/form-data; boundary=x", **headers)  # type: ignore[arg-type, return-value]


@pytest.mark.django_db
@pytest.mark.parametrize("path", [LOGIN, "/docs/", "/nowhere", "/register", "/health/live", "/"])
def test_a_large_body_of_a_stranger_is_refused_unread_on_every_page(path: str) -> None:
    client = Client(enforce_csrf_checks=True)
    client.get(LOGIN)  # its cookie lets the check of the token read the body
    assert announce(client, page_bodies.STRANGER_BYTES + 1, path).status_code == 413


@pytest.mark.django_db
def test_a_user_of_the_admin_may_send_what_a_request_of_the_api_may(settings: Settings) -> None:
    settings.TRAJECTORIES = settings.TRAJECTORIES | {"MAX_REQUEST_BYTES": 2 * 1024**2}
    client = Client()
    client.force_login(User.objects.create_superuser("admin"))
    assert announce(client, 2 * 1024**2 + 1, "/admin/").status_code == 413
    data = {"username": "x" * page_bodies.STRANGER_BYTES}
    assert client.post("/admin/nowhere/", data).status_code == 404


@pytest.mark.django_db
def test_a_user_who_may_not_use_the_admin_is_a_stranger() -> None:
    client = Client()
    client.force_login(User.objects.create_user("someone"))
    assert announce(client, page_bodies.STRANGER_BYTES + 1).status_code == 413


def test_slow_bodies_of_strangers_delay_no_other_client(site: Site) -> None:
    web = site.web()
    cookie = web.http.get(LOGIN).cookies["csrftoken"]
    head = f"POST {LOGIN} HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: csrftoken={cookie}\r\nContent-Type: {FORM}\r\n"
    with ExitStack() as stack:
        answers = stack.enter_context(DefaultSelector())
        for _ in range(2 * THREADS):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", urlsplit(web.url).port), 30))
            connection.sendall(f"{head}Content-Length: 1000\r\n\r\n0123456789".encode())
            answers.register(connection, EVENT_READ, connection)
        assert web.http.get("/health/live").is_success
        refused = login(web.http, cookie)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
        wait_until(lambda: len(answers.select(0)) == 2 * THREADS - 1, 30, "others are refused")
        for answered, _ in answers.select(0):
            assert answered.data.recv(1_000).startswith(b"HTTP/1.1 503 ")
    wait_until(lambda: login(web.http, cookie).status_code == 200, 30, "the next login is read")


def login(http: httpx2.Client, cookie: str) -> httpx2.Response:
    data = {"csrfmiddlewaretoken": cookie, "username": "nobody", "password": "wrong"}
    return http.post(LOGIN, data=data, headers={"Cookie": f"csrftoken={cookie}"})
