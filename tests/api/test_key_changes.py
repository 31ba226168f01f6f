"""A revoked or changed key takes effect in every process, not only in the one that changed it."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from tests.api.client import issue
from tests.storage.hosts import WebProcess
from trajectories.api import authentication
from trajectories.api.authentication import KeyCache, caller_of
from trajectories.caller import Caller
from trajectories.exceptions import AuthenticationFailure
from trajectories.models import ApiKey
from trajectories.relay import Relay
from trajectories.storage.store import using

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis_tier")]


def caller_at(process: WebProcess, text: str) -> Caller:
    with using(process.store):
        return caller_of(text)


def revoke_at(process: WebProcess, key: ApiKey) -> None:
    with using(process.store):
        authentication.revoke(key)


def test_a_key_revoked_in_one_process_is_refused_by_the_next_request_of_another(
    own: WebProcess, beside: WebProcess
) -> None:
    key, text = issue()
    assert caller_at(beside, text).tenant == caller_at(own, text).tenant == "north"
    revoke_at(own, key)
    for process in (beside, own):
        with pytest.raises(AuthenticationFailure, match="revoked"):
            caller_at(process, text)


def test_a_relay_brings_a_revocation_to_its_host(own: WebProcess, other_host: WebProcess) -> None:
    key, text = issue()
    _, another = issue()
    caller_at(other_host, text)
    caller_at(other_host, another)
    relay = Relay(other_host.store)
    revoke_at(own, key)
    assert caller_at(other_host, text).tenant == "north"  # it cannot know yet
    relay._follow_keys()
    with pytest.raises(AuthenticationFailure, match="revoked"):
        caller_at(other_host, text)
    assert other_host.outbox.remembered_key(key.prefix, 0) is None
    assert other_host.outbox.remembered_key(another.partition(".")[0], 0)


def test_each_step_of_a_relay_looks_for_revocations(
    own: WebProcess, other_host: WebProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trajectories.relay.close_old_connections", lambda: None)  # there is no broker
    key, text = issue()
    caller_at(other_host, text)
    revoke_at(own, key)
    Relay(other_host.store).step()
    with pytest.raises(AuthenticationFailure, match="revoked"):
        caller_at(other_host, text)


def test_a_relay_reads_each_revocation_once_with_any_clocks(own: WebProcess, other_host: WebProcess) -> None:
    tier = own.store.redis_tier
    tier.change_key("first", 2_000_000)
    seen = tier.changed_keys(0)
    tier.change_key("second", 1_000_000)  # of a host whose clock is slow
    assert seen == {"first": 2_000_000}
    assert tier.changed_keys(seen["first"]) == {"second": 2_000_001}
    relay = Relay(other_host.store)
    relay._follow_keys()
    changes = other_host.outbox.key_changes()
    relay._keys_looked_at = float("-inf")
    relay._follow_keys()
    assert other_host.outbox.key_changes() == changes


def test_a_key_that_was_looked_up_before_a_revocation_is_not_cached_after_it(
    own: WebProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, text = issue()
    verify = authentication._verify

    def revoked_meanwhile(*args: Any) -> Any:
        verified = verify(*args)
        revoke_at(own, key)
        own.store.part(KeyCache).follow(own.outbox)  # as another thread does
        return verified

    with monkeypatch.context() as patched:
        patched.setattr(authentication, "_verify", revoked_meanwhile)
        caller_at(own, text)
    with pytest.raises(AuthenticationFailure, match="revoked"):
        caller_at(own, text)


def test_a_scope_that_the_admin_takes_from_a_key_is_gone_in_other_processes(
    admin_client: Client,
    own: WebProcess,
    beside: WebProcess,
    django_capture_on_commit_callbacks: Any,
) -> None:
    key, text = issue(scopes="record read")
    assert caller_at(beside, text).scopes == {"record", "read"}
    page = reverse("admin:trajectories_apikey_change", args=[key.pk])
    with using(own.store), django_capture_on_commit_callbacks() as callbacks:
        admin_client.post(page, {"name": "x", "scopes": ["read"], "expires_at_0": "", "expires_at_1": ""})
        assert caller_at(beside, text).scopes == {"read"}
        changes = own.outbox.key_changes()
    with using(own.store):
        for tell in callbacks:
            tell()
    assert own.outbox.key_changes() == changes + 1


def test_a_revocation_succeeds_without_redis_and_reports_the_delay(
    own: WebProcess, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    key, text = issue()
    tier = settings.CACHES["trajectories"] | {"LOCATION": "redis://127.0.0.1:1/0"}
    settings.CACHES = settings.CACHES | {"trajectories": tier}
    revoke_at(own, key)
    assert f"API key {key.prefix} has changed; some processes may accept it for 60 s" in caplog.text
    with pytest.raises(AuthenticationFailure, match="revoked"):
        caller_at(own, text)
