"""Addresses and methods: what is there, and the one shape of the answer where nothing is."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.api.client import ID, JSON, PATH, archive_all, error, post, posted
from tests.examples import body

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"]
ALLOWED = {
    PATH: {"GET", "HEAD", "POST", "DELETE"},
    f"{PATH}/{ID}": {"GET", "HEAD", "PATCH", "DELETE"},
    f"{PATH}/stats": {"GET", "HEAD"},
    f"{PATH}/readiness": {"GET", "HEAD"},
    f"{PATH}/export": {"GET", "HEAD"},
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("address", ALLOWED)
def test_a_method_that_an_address_has_not_is_405_with_those_that_it_has(
    north: Client, address: str, method: str
) -> None:
    posted(north, body(id=ID))
    archive_all()
    response = north.generic(method, address, b"{}" if method in ("POST", "PATCH") else b"", content_type=JSON)
    if method in ALLOWED[address]:
        assert response.status_code == {"POST": 400, "DELETE": 403}.get(method, 200)
    else:
        refused = error(response, 405, "method_not_allowed")
        assert {allowed.strip() for allowed in response["Allow"].split(",")} == ALLOWED[address]
        assert method in refused.message


def test_a_wrong_method_is_reported_before_a_missing_key() -> None:
    error(Client().put(PATH), 405, "method_not_allowed")


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("address", [f"{PATH}/", f"{PATH}/stats/", f"{PATH}/{ID}/", f"{PATH}/{ID}/phases", f"{PATH}x"])
def test_an_address_that_is_not_there_is_404_in_json_and_no_redirect(north: Client, method: str, address: str) -> None:
    response = north.generic(method, address, b"{}", content_type=JSON)
    assert error(response, 404, "not_found").type == "not_found_error"


def test_a_browser_session_does_not_authenticate(north: Client, admin_client: Client) -> None:
    error(admin_client.get(PATH), 401, "missing_api_key")
    error(post(admin_client, body()), 401, "missing_api_key")


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "*/*", "application/json; version=2", ""])
def test_answers_have_one_form_for_any_accept_header(north: Client, accept: str) -> None:
    response = north.get(PATH, headers={"Accept": accept})
    assert response.status_code == 200
    assert response["Content-Type"] == JSON


def test_a_format_parameter_chooses_nothing(north: Client) -> None:
    assert error(north.get(PATH, {"format": "xml"}), 400, "unknown_parameter").param == "format"


def test_head_answers_without_a_body(north: Client) -> None:
    posted(north, body())
    response = north.head(PATH)
    assert (response.status_code, response.content) == (200, b"")
