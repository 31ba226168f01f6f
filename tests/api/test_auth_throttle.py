"""Bad keys: an address that sends many of them gets 429; good keys are not affected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client, RequestFactory
from pytest_django import Settings

from tests.api.client import ID, PATH, client_of, error, ids, issue, post
from tests.examples import body
from trajectories.api import auth_throttle as module
from trajectories.api.auth_throttle import AuthThrottle, address_of
from trajectories.api.authentication import KeyCache
from trajectories.conf import read_settings
from trajectories.exceptions import RateLimited
from trajectories.storage.store import get_store

pytestmark = pytest.mark.django_db

ATTACKER = "203.0.113.7"
FEW = 3


@pytest.fixture(autouse=True)
def few(settings: Settings, trajectories_settings: dict[str, Any]) -> None:
    settings.TRAJECTORIES = trajectories_settings | {"KEY_FAILURES_PER_MINUTE": FEW}


def get(text: str, address: str = ATTACKER, **headers: str) -> Any:
    return client_of(text).get(PATH, headers=headers, REMOTE_ADDR=address)


def attack(address: str = ATTACKER, **headers: str) -> None:
    """Try unknown keys, each once; every answer says that the key is unknown."""
    for at in range(FEW):
        error(get(f"abcdefghijkl.{address}.{at}", address, **headers), 401, "invalid_api_key")


# Slowed.


def test_further_bad_keys_of_an_address_are_429_with_the_time_to_wait() -> None:
    attack()
    response = get("abcdefghijkl.one-more")
    refused = error(response, 429, "too_many_bad_keys")
    assert refused.type == "rate_limit_error"
    assert 0 < int(response["Retry-After"]) <= 61
    assert "X-RateLimit-Limit" not in response


def test_other_addresses_are_not_slowed() -> None:
    attack()
    error(get("abcdefghijkl.one-more", "203.0.113.8"), 401, "invalid_api_key")


def test_a_bad_key_that_comes_again_and_again_does_not_ask_the_database(django_assert_num_queries: Any) -> None:
    attack()
    error(get("abcdefghijkl.stuck"), 429, "too_many_bad_keys")
    with django_assert_num_queries(0):
        for _ in range(5):
            error(get("abcdefghijkl.stuck"), 429, "too_many_bad_keys")


def test_a_body_that_comes_with_a_bad_key_is_not_looked_at() -> None:
    attack()
    response = post(client_of("abcdefghijkl.one-more"), b"{")
    assert response.status_code == 401  # from another address
    client = client_of("abcdefghijkl.one-more")
    error(client.post(PATH, b"{", content_type="text/plain", REMOTE_ADDR=ATTACKER), 429, "too_many_bad_keys")


def test_a_request_without_a_key_is_401_and_does_not_count() -> None:
    for _ in range(FEW + 1):
        error(Client().get(PATH, REMOTE_ADDR=ATTACKER), 401, "missing_api_key")
    attack()
    error(Client().get(PATH, REMOTE_ADDR=ATTACKER), 401, "missing_api_key")


def test_an_unavailable_database_counts_as_no_bad_key(without_tables: Callable[..., Any]) -> None:
    with without_tables("apikey"):
        for _ in range(FEW + 1):
            error(get("abcdefghijkl.secret"), 503, "key_lookup_unavailable")
    attack()


# Without a way to lock anybody out.


def test_a_good_key_is_served_at_once_from_an_address_that_is_over() -> None:
    verified, new = issue()[1], issue()[1]
    assert get(verified).status_code == 200
    attack()
    for _ in range(5):
        error(get("abcdefghijkl.one-more"), 429, "too_many_bad_keys")
        assert get(verified).status_code == 200
    # Neither need it be known to this process, nor older than the attack.
    assert get(new).status_code == 200
    assert get(issue()[1]).status_code == 200
    get_store().part(KeyCache).clear()
    assert get(verified).status_code == 200


def test_wrong_secrets_behind_the_prefix_of_a_good_key_do_not_lock_it_out() -> None:
    key, text = issue()
    for at in range(FEW):
        error(get(f"{key.prefix}.{at}"), 401, "invalid_api_key")
    error(get(f"{key.prefix}.{FEW}"), 429, "too_many_bad_keys")
    assert get(text).status_code == 200
    assert client_of(text).get(PATH).status_code == 200


def test_good_keys_do_not_use_up_failures_and_do_not_excuse_them() -> None:
    good = issue()[1]
    for at in range(FEW):
        assert get(good).status_code == 200
        error(get(f"abcdefghijkl.{at}"), 401, "invalid_api_key")
    error(get("abcdefghijkl.one-more"), 429, "too_many_bad_keys")


def test_a_revoked_key_that_was_mended_is_good_at_once() -> None:
    key, text = issue()
    key.is_revoked = True
    key.save()
    attack()
    error(get(text), 429, "too_many_bad_keys")
    key.is_revoked = False
    key.save()
    assert get(text).status_code == 200


def test_a_verified_key_works_during_a_database_outage(
    without_tables: Callable[..., Any],
) -> None:
    good = issue()[1]
    assert get(good).status_code == 200
    attack()
    get_store().part(KeyCache).clear()
    with without_tables("apikey"):
        assert get(good).status_code == 200


# The minute, and the bounds.


class Clock:
    now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def is_slowed(failures: AuthThrottle, address: str, text: str = "bad") -> bool:
    try:
        failures.note(address, text, is_unknown=True)
    except RateLimited:
        return True
    return False


def test_after_the_minute_an_address_gets_401_again() -> None:
    clock = Clock()
    failures = AuthThrottle(read_settings(), clock)
    assert [is_slowed(failures, ATTACKER) for _ in range(FEW + 1)] == [False] * FEW + [True]
    clock.now_s += 59.9
    assert is_slowed(failures, ATTACKER)
    clock.now_s += 0.1
    failures.expect_not_known_bad(ATTACKER, "bad")
    assert [is_slowed(failures, ATTACKER) for _ in range(FEW + 1)] == [False] * FEW + [True]


def test_no_more_addresses_and_keys_are_remembered_than_the_bounds_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_ADDRESSES", 3)
    monkeypatch.setattr(module, "_MAX_KEYS", 4)
    failures = AuthThrottle(read_settings())
    for at in range(20):
        is_slowed(failures, str(at), str(at))
    assert (len(failures._addresses), len(failures._unknown)) == (3, 4)


# Which address.


def request_from(address: str, forwarded: str | None = None) -> Any:
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    return RequestFactory().get(PATH, REMOTE_ADDR=address, headers=headers)


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("", ""),
    ],
)
def test_an_address_of_ipv6_counts_as_its_64(address: str, counted: str) -> None:
    assert address_of(request_from(address)) == counted


@pytest.mark.parametrize(
    ("proxies", "forwarded", "counted"),
    [
        (0, "198.51.100.1", "192.0.2.1"),
        (1, "198.51.100.1", "198.51.100.1"),
        (1, "203.0.113.9, 198.51.100.1", "198.51.100.1"),
        (2, "203.0.113.9, 198.51.100.1, 192.0.2.2", "198.51.100.1"),
        (2, "198.51.100.1", "192.0.2.1"),
        (1, None, "192.0.2.1"),
        (1, "nonsense", "192.0.2.1"),
        (1, "2001:db8::1", "2001:db8::/64"),
    ],
)
def test_only_trusted_proxies_are_believed(
    proxies: int, forwarded: str | None, counted: str, settings: Settings, trajectories_settings: dict[str, Any]
) -> None:
    settings.TRAJECTORIES = trajectories_settings | {"TRUSTED_PROXIES": proxies}
    assert address_of(request_from("192.0.2.1", forwarded)) == counted


def test_behind_a_proxy_each_client_has_a_count_of_its_own(
    settings: Settings, trajectories_settings: dict[str, Any]
) -> None:
    settings.TRAJECTORIES = trajectories_settings | {"KEY_FAILURES_PER_MINUTE": FEW, "TRUSTED_PROXIES": 1}
    attack(address="192.0.2.1", **{"X-Forwarded-For": "198.51.100.1"})
    slowed = get("abcdefghijkl.one-more", "192.0.2.1", **{"X-Forwarded-For": "203.0.113.9, 198.51.100.1"})
    error(slowed, 429, "too_many_bad_keys")
    error(get("abcdefghijkl.x", "192.0.2.1", **{"X-Forwarded-For": "198.51.100.2"}), 401, "invalid_api_key")


def test_recording_continues_from_an_address_over_its_limit() -> None:
    good = issue()[1]
    attack()
    response = client_of(good).post(PATH, body(id=ID), content_type="application/json", REMOTE_ADDR=ATTACKER)
    assert response.status_code == 201
    assert ids(client_of(good)) == [ID]
