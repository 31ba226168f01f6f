"""The audit trail: who did what with records and keys, when and how many, never what was in them."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.test import Client
from pytest_django import Settings

from tests import baker_recipes
from tests.admin.rows import address, archived, page, page_of, quarantined
from tests.api.client import ID, PATH, archive_all, client_of, error, exported, issue, posted
from tests.examples import body, phase
from tests.storage.away import archive_away
from trajectories import persistence
from trajectories.api import authentication
from trajectories.domain.clock import DAY_US, SECOND_US, now_us
from trajectories.domain.record import tenant_digest
from trajectories.models import ApiKey, AuditEntry, Phase, Tenant
from trajectories.services import erasure
from trajectories.storage.store import get_store
from trajectories.training import export

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis_tier")]


def trail() -> list[tuple[str, str, str, str, int]]:
    """Return the entries in their order, without those of keys that a test needs to begin."""
    rows = AuditEntry.objects.order_by("pk").exclude(action="create_key", actor="code")
    return list(rows.values_list("action", "actor", "tenant", "target", "count"))


def client_with(*ids: str, scopes: str = "record read export admin") -> tuple[Client, str]:
    """Return a client with a key, its actor, and records of these ids in the archive."""
    key, text = issue(scopes=scopes)
    client = client_of(text)
    for id_ in ids:
        posted(client, body(id=id_, request_summary="a secret plan"))
    archive_all()
    return client, f"key {key.prefix}"


def other(number: int) -> str:
    return f"{number:08d}-f296-5e3b-9266-7052b77cbfe9"


def test_a_deletion_names_its_record_and_a_deletion_by_filters_its_count() -> None:
    client, actor = client_with(ID, other(1), other(2))
    before = now_us()
    assert client.delete(f"{PATH}/{ID}").status_code == 200
    archive_all()
    filters = {"since": "7d"}
    token = client.delete(f"{PATH}?since=7d&dry_run=1").json()["token"]
    assert trail() == [("delete", actor, "north", ID, 1)]  # a dry run deletes nothing
    assert client.delete(f"{PATH}?since={filters['since']}&token={token}").json()["deleted"] == 2
    assert trail()[1:] == [("delete", actor, "north", "", 2)]
    assert before <= AuditEntry.objects.order_by("pk").last().at_us <= now_us()  # type: ignore[union-attr]


def test_a_refused_deletion_leaves_no_entry() -> None:
    client, _ = client_with(ID, scopes="record read export")
    error(client.delete(f"{PATH}/{ID}"), 403, "scope_missing")
    client, _ = client_with()
    error(client.delete(f"{PATH}/{other(9)}"), 404, "not_found")
    assert trail() == []


def test_an_export_is_noted_with_its_count_when_it_ends_or_breaks_off() -> None:
    client, actor = client_with(ID, other(1))
    exported(client)
    assert trail() == [("export", actor, "north", "", 2)]
    lines = export.export(get_store(), "north", export.parse_request({}, 0), actor=actor)
    assert next(lines)
    lines.close()  # type: ignore[attr-defined]  # the client has gone
    assert trail()[1:] == [("export", actor, "north", "", 2)]


def test_a_name_of_a_repository_is_kept_whole_up_to_the_size_of_the_column() -> None:
    AuditEntry.objects.note("export", "code", {"north": 1}, longest := "org/" + "r" * 252)
    AuditEntry.objects.note("export", "code", {"north": 1}, longest + "more")
    assert [entry[3] for entry in trail()] == [longest, longest]
    assert AuditEntry._meta.get_field("target").max_length == len(longest)


def test_keys_are_noted_when_they_are_created_changed_and_revoked(admin_client: Client) -> None:
    Tenant.objects.create(slug="alice")
    given = {"tenant": "alice", "name": "secret name", "scopes": ["read"], "expires_at_0": "", "expires_at_1": ""}
    admin_client.post(address("apikey", "") + "add/", given)
    key = ApiKey.objects.get()
    admin_client.post(page_of(key), given | {"scopes": ["read", "record"]})
    admin_client.post(address("apikey"), {"action": "revoke", "_selected_action": [key.pk]})
    of_key = ("user admin", "alice", key.prefix, 1)
    assert trail() == [("create_key", *of_key), ("change_key", *of_key), ("revoke_key", *of_key)]


def test_commands_are_noted_with_the_user_who_runs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "olga")
    call_command("create_api_key", "alice", "--scopes", "read")
    key = ApiKey.objects.get()
    call_command("revoke_api_key", key.prefix)
    client_with(ID)
    call_command("prune", "--older-than", "0s")
    assert trail() == [
        ("create_key", "command olga", "alice", key.prefix, 1),
        ("revoke_key", "command olga", "alice", key.prefix, 1),
        ("delete", "command olga", "north", "", 1),
    ]


def test_retention_is_noted_and_the_trail_itself_expires(
    settings: Settings, trajectories_settings: dict[str, Any]
) -> None:
    settings.TRAJECTORIES = trajectories_settings | {"RETENTION_DAYS": {"*": 1}, "AUDIT_KEEP_S": 60}
    archived(body(), at_us=now_us() - 3 * DAY_US, tenant="alice")
    AuditEntry.objects.note("export", "code", {"alice": 1})
    AuditEntry.objects.update(at_us=now_us() - 61 * SECOND_US)
    assert persistence.retain(get_store(), 10)
    assert trail() == [("delete", "retention", "alice", "", 1)]


def test_an_erasure_leaves_its_own_entry_alone_with_a_digest(celery_broker: str) -> None:
    _, actor = client_with(ID)
    AuditEntry.objects.note("export", actor, {"north": 1, "bob": 1})
    erasure.erase(get_store(), "north", timeout_s=5, actor="command olga")
    digest = tenant_digest("north")
    assert trail() == [("export", actor, "bob", "", 1), ("erase", "command olga", digest, "", 1)]
    AuditEntry.objects.note("delete", actor, {"north": 1}, ID)  # of a request that was under way
    assert trail()[2:] == [("delete", actor, digest, "", 1)]
    assert not AuditEntry.objects.filter(tenant="north").exists()


@pytest.mark.django_db(transaction=True)
def test_without_the_database_the_audit_entry_of_a_deletion_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client, actor = client_with()
    posted(client, body(id=ID))
    with archive_away():
        error(client.delete(f"{PATH}/{ID}"), 503, "deletion_incomplete")
    assert "The audit trail in the database lacks an entry" in caplog.text
    assert f"delete {ID} of north by {actor}, 1" in caplog.text


def test_the_admin_audits_views_of_records(admin_client: Client) -> None:
    alice, bob = archived(body(phases=[phase()]), tenant="alice"), archived(body(phases=[phase()]), tenant="bob")
    refused = quarantined(body(), "too long", tenant="alice")
    page(admin_client, address("trajectory"))
    page(admin_client, page_of(bob))
    page(admin_client, page_of(Phase.objects.get(trajectory=alice)))
    page(admin_client, page_of(refused))
    page(admin_client, address("tenant"))
    assert sorted(trail()[:2]) == [("list", "user admin", name, "", 1) for name in ("alice", "bob")]
    assert trail()[2:] == [
        ("view", "user admin", "bob", str(bob.trajectory_id), 1),
        ("view", "user admin", "alice", str(alice.trajectory_id), 1),
        ("view", "user admin", "alice", str(refused.trajectory_id), 1),
    ]
    page(admin_client, address("auditentry"))
    assert len(trail()) == 5  # looking at the trail is not noted


def test_staff_see_the_trail_of_their_tenants_and_change_nothing(client: Client) -> None:
    for name in ("alice", "bob"):
        AuditEntry.objects.note("export", f"key of-{name}", {name: 7}, "")
    staff = baker_recipes.staff_of("alice")
    staff.user_permissions.set(Permission.objects.filter(codename__endswith="auditentry"))
    client.force_login(staff)
    shown = page(client, address("auditentry"))
    assert "key of-alice" in shown
    assert "of-bob" not in shown
    mine = AuditEntry.objects.get(tenant="alice")
    assert "key of-alice" in page(client, page_of(mine))
    for path in (page_of(mine), page_of(mine, "delete"), address("auditentry") + "add/"):
        assert client.post(path, {"post": "yes", "actor": "nobody"}).status_code == 403
    assert AuditEntry.objects.get(pk=mine.pk).actor == "key of-alice"


def test_no_entry_has_text_of_a_record_or_a_key(admin_client: Client) -> None:
    client, _ = client_with(ID)
    key, text = issue()
    exported(client)
    authentication.revoke(key)
    client.delete(f"{PATH}/{ID}")
    page(admin_client, address("trajectory"))
    assert User.objects.count() == 1
    held = " ".join(str(value) for row in AuditEntry.objects.values_list() for value in row)
    assert "secret" not in held
    assert text.partition(".")[2] not in held
