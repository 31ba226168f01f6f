"""Tenants and keys in the admin."""

from __future__ import annotations

import html
import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.contrib.sessions.models import Session
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from tests import baker_recipes
from tests.admin.rows import address, archived, page, page_of
from tests.examples import body
from trajectories.api.authentication import KeyCache, caller_of
from trajectories.exceptions import AuthenticationFailure
from trajectories.models import ApiKey, Tenant
from trajectories.storage.store import get_store

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice() -> Tenant:
    row: Tenant = baker_recipes.tenant.make(name="Alice")
    return row


def issue(tenant: Tenant, **fields: object) -> tuple[ApiKey, str]:
    key, text = ApiKey.objects.issue(tenant=tenant, name="laptop", scopes=["read"])
    ApiKey.objects.filter(pk=key.pk).update(**fields)
    return key, text


def add_key(client: Client, **fields: object) -> HttpResponse:
    given = {"tenant": "alice", "name": "ci", "scopes": ["record"]} | fields
    return client.post(address("apikey", "add/"), given)  # type: ignore[return-value]


def text_in(answer: HttpResponse) -> str:
    """The key on the page that shows it."""
    found = re.search(r'value="([^"]+)"[^>]* aria-label="API key"', answer.content.decode())
    assert found
    return html.unescape(found[1])


def test_a_key_made_in_the_admin_works_and_is_shown_once(admin_client: Client, alice: Tenant) -> None:
    answer = add_key(admin_client, scopes=["export", "record"], source="ci")
    text = text_in(answer)
    caller = caller_of(text)
    assert (caller.tenant, sorted(caller.scopes), caller.source) == ("alice", ["export", "record"], "ci")
    key = ApiKey.objects.get()
    secret = text.partition(".")[2]
    assert (key.name, key.scopes, secret in key.hashed_key) == ("ci", "record export", False)
    for url in (address("apikey"), page_of(key), page_of(key, "history")):
        assert secret not in page(admin_client, url)


def test_the_text_of_a_key_is_left_nowhere(admin_client: Client, alice: Tenant) -> None:
    answer = add_key(admin_client)
    secret = text_in(answer).partition(".")[2]
    assert "no-store" in answer["Cache-Control"]
    assert secret not in str(answer.cookies)
    assert not [session for session in Session.objects.all() if secret in str(session.get_decoded())]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"scopes": []}, "This field is required"),
        ({"scopes": ["everything"]}, "is not one of the available choices"),
        ({"tenant": "bob"}, "not one of the available choices"),
        ({"expires_at_0": "2020-01-01", "expires_at_1": "00:00"}, "has expired already"),
        (
            {"expires_in_days": "30", "expires_at_0": "2100-01-01", "expires_at_1": "00:00"},
            "Choose one: a number of days",
        ),
    ],
)
def test_a_key_that_makes_no_sense_is_refused(
    fields: dict[str, object], why: str, admin_client: Client, alice: Tenant
) -> None:
    assert why in add_key(admin_client, **fields).content.decode()
    assert not ApiKey.objects.exists()


def test_a_key_may_last_a_number_of_days_and_says_when_it_ends_soon(admin_client: Client, alice: Tenant) -> None:
    add_key(admin_client, expires_in_days="30")
    key = ApiKey.objects.get()
    assert key.expires_at is not None
    assert timedelta(days=29) < key.expires_at - timezone.now() <= timedelta(days=30)
    list_ = address("apikey")
    assert 'field-state">good<' in page(admin_client, list_)
    assert 'field-last_used_at">never<' in page(admin_client, list_)
    ApiKey.objects.update(expires_at=timezone.now() + timedelta(days=7, hours=1))
    assert 'field-state">good, expires in 7 days<' in page(admin_client, list_)
    ApiKey.objects.update(expires_at=timezone.now() + timedelta(hours=1))
    assert 'field-state">good, expires soon<' in page(admin_client, list_)


def test_a_key_is_revoked_from_its_own_page(admin_client: Client, client: Client, alice: Tenant) -> None:
    key, _ = issue(alice)
    form = re.search(r'<form[^>]*class="tj-revoke">.*?</form>', page(admin_client, page_of(key)), re.DOTALL)
    assert form
    given = dict(re.findall(r'name="(action|index|_selected_action)" value="([^"]*)"', form[0]))
    answer = admin_client.post(address("apikey"), given, follow=True)
    assert "1 API key revoked." in answer.content.decode()
    assert ApiKey.objects.get().is_revoked
    shown = page(admin_client, page_of(key))
    assert "tj-revoke" not in shown
    assert shown.count('<time class="tj-time"') == 1  # when it was made, in the zone of the reader; it was never used
    looker = baker_recipes.staff_of("alice")
    looker.user_permissions.set(Permission.objects.filter(codename="view_apikey"))
    client.force_login(looker)
    assert "tj-revoke" not in page(client, page_of(issue(alice)[0]))


def test_only_name_scopes_and_expiry_of_a_key_can_be_changed(admin_client: Client, alice: Tenant) -> None:
    key, text = issue(alice)
    baker_recipes.tenant.make(slug="bob")
    given = {
        "tenant": "bob",
        "name": "new name",
        "scopes": ["read", "admin"],
        "prefix": "x",
        "hashed_key": "x",
        "is_revoked": "on",
    }
    assert admin_client.post(page_of(key), given).status_code == 302
    changed = ApiKey.objects.get()
    assert (changed.name, changed.scopes) == ("new name", "read admin")
    for name in ("tenant", "prefix", "hashed_key", "is_revoked"):
        assert getattr(changed, name) == getattr(key, name)
    assert caller_of(text).tenant == "alice"
    assert 'value="read" id="id_scopes_1" checked' in page(admin_client, page_of(key))


def revoke(client: Client, *keys: ApiKey) -> None:
    client.post(address("apikey"), {"action": "revoke", "_selected_action": [key.pk for key in keys]})


def test_a_revoked_key_is_refused_and_no_longer_remembered_by_this_host(admin_client: Client, alice: Tenant) -> None:
    key, text = issue(alice)
    caller_of(text)
    assert get_store().outbox.remembered_key(key.prefix, 0)
    revoke(admin_client, key)
    assert get_store().outbox.remembered_key(key.prefix, 0) is None
    get_store().part(KeyCache).clear()
    with pytest.raises(AuthenticationFailure, match="revoked"):
        caller_of(text)
    assert "Revoked." in page(admin_client, page_of(key, "history"))


def test_staff_with_view_permission_can_neither_create_nor_revoke_keys(client: Client, alice: Tenant) -> None:
    looker = baker_recipes.staff_of("alice")
    looker.user_permissions.set(Permission.objects.filter(codename="view_apikey"))
    client.force_login(looker)
    key, _ = issue(alice)
    assert "laptop" in page(client, page_of(key))
    assert add_key(client).status_code == 403
    revoke(client, key)
    assert not ApiKey.objects.get().is_revoked


@pytest.mark.parametrize("model", ["tenant", "apikey"])
def test_neither_tenants_nor_keys_are_deleted(model: str, admin_client: Client, alice: Tenant) -> None:
    row = {"tenant": alice, "apikey": issue(alice)[0]}[model]
    assert admin_client.post(page_of(row, "delete"), {"post": "yes"}).status_code == 403
    assert "delete_selected" not in page(admin_client, address(model))


def test_the_state_of_a_key_is_said_and_filtered_by(admin_client: Client, alice: Tenant) -> None:
    keys = {
        "good": issue(alice)[0],
        "revoked": issue(alice, is_revoked=True)[0],
        "expired": issue(alice, expires_at=timezone.now() - timedelta(days=1))[0],
    }

    def states(asked: str) -> list[str]:
        return sorted(re.findall(r'field-state">(\w+)<', page(admin_client, address("apikey", asked))))

    assert states("") == sorted(keys)
    assert states("?state=good") == ["good"]
    assert states("?state=other") == ["expired", "revoked"]
    assert states(f"?q={keys['revoked'].prefix}") == ["revoked"]
    shown = page(admin_client, address("tenant"))
    assert 'field-good_keys">1<' in shown
    assert f'<a href="{address("apikey")}?tenant=alice">3</a>' in shown


def test_a_tenant_shows_how_much_it_has_archived(admin_client: Client) -> None:
    for _ in range(3):
        archived(body())
    shown = page(admin_client, address("tenant"))
    assert f'<a href="{address("trajectory")}?tenant=alice">3</a>' in shown
    assert 'field-last_recorded"><time class="tj-time" datetime="2026-01-05T23:58:46.123456Z"' in shown


def test_a_tenant_keeps_its_slug(admin_client: Client, alice: Tenant) -> None:
    assert admin_client.post(page_of(alice), {"slug": "bob", "name": "Bob"}).status_code == 302
    assert list(Tenant.objects.values_list("slug", "name")) == [("alice", "Bob")]
    answer = admin_client.post(address("tenant", "add/"), {"slug": "no {braces}", "name": ""})
    assert "Enter a valid value" in answer.content.decode()
