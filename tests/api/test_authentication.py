"""Who may do what: keys, scopes, and what becomes of them while the database is away."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

import trajectories
from tests.api.client import ID, NDJSON, PATH, archive_all, client_of, error, ids, issue, post, posted, stats, update
from tests.examples import body
from tests.processes import wait_until
from trajectories.api import authentication
from trajectories.api.authentication import KeyCache
from trajectories.domain.clock import now_us
from trajectories.models import SCOPES
from trajectories.storage.store import get_store

pytestmark = pytest.mark.django_db

WithoutTables = Callable[..., AbstractContextManager[None]]
ADDRESSES = {
    "record": ("POST", PATH),
    "list": ("GET", PATH),
    "retrieve": ("GET", f"{PATH}/{ID}"),
    "stats": ("GET", f"{PATH}/stats"),
    "readiness": ("GET", f"{PATH}/readiness"),
    "export": ("GET", f"{PATH}/export"),
    "update": ("PATCH", f"{PATH}/{ID}"),
}
NEEDED = {
    "record": "record",
    "update": "record",
    "list": "read",
    "retrieve": "read",
    "stats": "read",
    "readiness": "read",
    "export": "export",
}


def call(client: Client, operation: str) -> Any:
    method, address = ADDRESSES[operation]
    if method == "PATCH":
        return update(client, ID, {})
    return post(client, body(id=ID)) if method == "POST" else client.get(address)


# Good and bad keys.


@pytest.mark.parametrize("operation", ADDRESSES)
@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "missing_api_key"),
        ("", "missing_api_key"),
        ("Bearer", "missing_api_key"),
        ("Bearer  ", "missing_api_key"),
        ("Basic bm9ydGg6c2VjcmV0", "missing_api_key"),
        ("Bearer nonsense", "invalid_api_key"),
        ("Bearer é.ü", "invalid_api_key"),
        ("Bearer abcdefghijkl.secret", "invalid_api_key"),
        ("Bearer " + "a" * 5_000, "invalid_api_key"),
    ],
)
def test_without_a_good_key_there_is_nothing(operation: str, header: str | None, code: str) -> None:
    client = Client(headers={} if header is None else {"authorization": header}, raise_request_exception=False)
    response = call(client, operation)
    refused = error(response, 401, code)
    assert refused.type == "authentication_error"
    assert response["WWW-Authenticate"].startswith("Bearer")


def test_a_key_is_known_by_its_secret_and_not_by_its_prefix() -> None:
    key, text = issue()
    assert call(client_of(text), "list").status_code == 200
    error(call(client_of(f"{key.prefix}.{'x' * 32}"), "list"), 401, "invalid_api_key")
    error(call(client_of(text + "x"), "list"), 401, "invalid_api_key")
    assert call(client_of(text), "list").status_code == 200


def test_the_scheme_may_be_written_in_every_way() -> None:
    _, text = issue()
    assert Client(headers={"authorization": f"bearer  {text} "}).get(PATH).status_code == 200


@pytest.fixture
def two_hours_later(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Set the clock forward that expiry is compared with."""
    return lambda: monkeypatch.setattr(authentication, "now_us", lambda: now_us() + 2 * 3600 * 1_000_000)


def in_an_hour() -> datetime:
    return timezone.now() + timedelta(hours=1)


def test_an_expired_key_is_refused_after_it_was_accepted(two_hours_later: Callable[[], None]) -> None:
    error(call(client_of(issue(expires_at=timezone.now())[1]), "list"), 401, "expired_api_key")
    good = client_of(issue(expires_at=in_an_hour())[1])
    assert call(good, "list").status_code == 200
    two_hours_later()
    # It is still in the cache of verified keys.
    error(call(good, "list"), 401, "expired_api_key")


def test_a_revoked_key_is_refused_once_it_is_looked_up_again(
    settings: Any, trajectories_settings: dict[str, Any]
) -> None:
    settings.TRAJECTORIES = trajectories_settings | {"KEY_CACHE_S": 0.2}
    key, text = issue()
    client = client_of(text)
    assert call(client, "list").status_code == 200
    key.is_revoked = True
    key.save()
    wait_until(lambda: call(client, "list").status_code == 401)
    error(call(client, "list"), 401, "revoked_api_key")


def test_a_verified_key_is_accepted_from_the_cache_until_it_expires(django_assert_num_queries: Any) -> None:
    _, text = issue()
    assert call(client_of(text), "record").status_code == 201
    with django_assert_num_queries(0):
        assert call(client_of(text), "record").status_code == 200


def test_no_more_keys_are_remembered_than_the_bound_says(
    settings: Any, trajectories_settings: dict[str, Any], django_assert_num_queries: Any
) -> None:
    settings.TRAJECTORIES = trajectories_settings | {"KEY_CACHE_MAX": 1}
    first, second = (client_of(issue()[1]) for _ in range(2))
    for client in (first, second):
        call(client, "record")
    with django_assert_num_queries(0):
        call(second, "record")
    with django_assert_num_queries(1):
        call(first, "record")


# Scopes.


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("operation", ADDRESSES)
def test_each_operation_wants_its_own_scope(operation: str, scope: str) -> None:
    client = client_of(issue(scopes=scope)[1])
    if operation in ("retrieve", "update"):
        posted(client_of(issue()[1]), body(id=ID))
    response = call(client, operation)
    if NEEDED[operation] == scope:
        assert response.status_code in (200, 201)
    else:
        refused = error(response, 403, "scope_missing")
        assert refused.type == "permission_error"
        assert repr(NEEDED[operation]) in refused.message


def test_ndjson_wants_the_scope_of_recording_too() -> None:
    reader = client_of(issue(scopes="read")[1])
    error(post(reader, b"{}", content_type=NDJSON), 403, "scope_missing")


def test_permissions_are_checked_before_the_request_is_read() -> None:
    reader = client_of(issue(scopes="read")[1])
    error(post(reader, b"{", content_type="text/plain"), 403, "scope_missing")
    error(reader.get(f"{PATH}/export", {"nonsense": "1"}), 403, "scope_missing")


# While the database is away.


def test_a_key_that_cannot_be_looked_up_is_503_and_never_401(without_tables: WithoutTables) -> None:
    client = client_of(issue()[1])
    with without_tables("apikey"):
        for operation in ADDRESSES:
            error(call(client, operation), 503, "key_lookup_unavailable")
        error(call(client_of("abcdefghijkl.unknown"), "list"), 503, "key_lookup_unavailable")
    assert call(client, "list").status_code == 200


def test_a_key_that_was_good_works_on_while_the_database_is_away(without_tables: WithoutTables) -> None:
    client = client_of(issue()[1])
    ids(client)
    with without_tables("apikey", "trajectory"):
        assert call(client, "record").status_code == 201
        assert ids(client) == [ID]
        assert stats(client)["count"] == 1


def test_a_process_that_has_just_started_still_knows_the_good_keys(without_tables: WithoutTables) -> None:
    key, text = issue()
    ids(client_of(text))
    get_store().part(KeyCache).clear()
    with without_tables("apikey"):
        assert call(client_of(text), "record").status_code == 201
        error(call(client_of(f"{key.prefix}.{'x' * 32}"), "list"), 401, "invalid_api_key")


def test_it_knows_their_scopes_and_when_they_expire(
    without_tables: WithoutTables, two_hours_later: Callable[[], None]
) -> None:
    reader, short = issue(scopes="read")[1], issue(expires_at=in_an_hour())[1]
    for text in (reader, short):
        ids(client_of(text))
    get_store().part(KeyCache).clear()
    with without_tables("apikey"):
        assert call(client_of(reader), "list").status_code == 200
        error(call(client_of(reader), "record"), 403, "scope_missing")
        assert call(client_of(short), "list").status_code == 200
        two_hours_later()
        error(call(client_of(short), "list"), 401, "expired_api_key")


def test_a_key_is_remembered_no_longer_than_the_setting_says(
    settings: Any, trajectories_settings: dict[str, Any], without_tables: WithoutTables
) -> None:
    settings.TRAJECTORIES = trajectories_settings | {"KEY_OFFLINE_S": 0.0}
    client = client_of(issue()[1])
    ids(client)
    get_store().part(KeyCache).clear()
    with without_tables("apikey"):
        error(call(client, "list"), 503, "key_lookup_unavailable")


@pytest.mark.parametrize("end", ["revoked", "deleted"])
def test_a_deleted_key_is_not_accepted_again(end: str, without_tables: WithoutTables) -> None:
    key, text = issue()
    client = client_of(text)
    ids(client)
    if end == "revoked":
        key.is_revoked = True
        key.save()
    else:
        key.delete()
    get_store().part(KeyCache).clear()
    assert call(client, "list").status_code == 401
    with without_tables("apikey"):
        error(call(client, "list"), 503, "key_lookup_unavailable")


# Tenants that the host project knows.


@pytest.fixture
def host_settings(settings: Any, trajectories_settings: dict[str, Any]) -> Callable[[str], None]:
    def take_from(function: str) -> None:
        settings.TRAJECTORIES = trajectories_settings | {"TENANT_FROM_REQUEST": f"tests.api.tenants.{function}"}

    return take_from


def test_a_host_project_says_whose_request_it_is(host_settings: Callable[[str], None]) -> None:
    host_settings("slug")
    north, south = (Client(headers={"X-Team": team}) for team in ("north", "south"))
    posted(north, body(id=ID))
    assert (ids(north), ids(south)) == ([ID], [])
    # A tenant of the host's has no row here until something of it is archived.
    assert [record.tenant for record in archive_all()] == ["north"]


def test_a_request_of_no_tenant_is_not_authenticated(host_settings: Callable[[str], None]) -> None:
    host_settings("slug")
    _, text = issue()
    response = call(client_of(text), "list")
    error(response, 401, "not_authenticated")
    assert response["WWW-Authenticate"] == 'Login realm="trajectories"'


def test_a_login_of_a_host_project_that_fails_says_nothing_of_api_keys(host_settings: Callable[[str], None]) -> None:
    host_settings("of_token")
    for header, code in (("Token made.up", "authentication_failed"), ("", "not_authenticated")):
        response = call(Client(headers={"authorization": header}), "list")
        assert "key" not in error(response, 401, code).message.lower()
        assert response["WWW-Authenticate"] == 'Token realm="trajectories"'


def test_a_host_project_may_name_scopes_too(host_settings: Callable[[str], None]) -> None:
    host_settings("reader")
    anybody = Client()
    assert ids(anybody) == []
    error(call(anybody, "record"), 403, "scope_missing")


@pytest.mark.parametrize("operation", SCOPES)
def test_a_slug_may_record_and_read_and_nothing_more(host_settings: Callable[[str], None], operation: str) -> None:
    host_settings("slug")
    client = Client(headers={"X-Team": "north"})
    if operation == "admin":
        response = client.delete(f"{PATH}/{ID}")
    else:
        response = call(client, {"record": "record", "read": "list", "export": "export"}[operation])
    if operation in ("record", "read"):
        assert response.status_code in (200, 201)
    else:
        error(response, 403, "scope_missing")


def test_scopes_that_are_none_are_an_error_of_the_server(host_settings: Callable[[str], None]) -> None:
    host_settings("letters")
    client = Client(raise_request_exception=False)
    error(call(client, "list"), 500, "server_error")


def test_a_caller_has_a_short_path_and_keeps_its_first_one() -> None:
    assert trajectories.Caller is authentication.Caller


@pytest.mark.parametrize("name", ["a{b}", "t" * 65, "", "a b", "ä"])
def test_a_name_that_no_tier_can_hold_is_a_server_error_and_stores_nothing(
    name: str, host_settings: Callable[[str], None]
) -> None:
    host_settings("slug")
    client = Client(headers={"X-Team": name}, raise_request_exception=False)
    error(call(client, "record"), 500, "server_error")
