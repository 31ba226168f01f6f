"""The pages of a tenant: export, import, readiness, deletion by filters; and the store's health."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from tests.admin.rows import address, archived, page, quarantined, text_of
from tests.examples import body, phase
from tests.isolation.admin import APP, staff
from trajectories.admin import readiness_lines
from trajectories.admin.health import sentence, worst_first
from trajectories.domain.query import Query
from trajectories.models import AuditEntry, Tenant, Trajectory
from trajectories.services import ingest, reads
from trajectories.services.health import BAD, GOOD, WARNING, Finding
from trajectories.storage.store import get_store
from trajectories.training import readiness
from trajectories.training.measures import Measures

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice() -> Tenant:
    return Tenant.objects.create(slug="alice")


def run(summary: str, **more: Any) -> dict[str, Any]:
    return body(request_summary=summary, **more)


def of_tenant(page_name: str, tenant: str = "alice") -> str:
    return address("tenant", f"{tenant}/{page_name}/")


def content(answer: Any) -> bytes:
    return b"".join(answer.streaming_content)


def test_an_export_has_the_runs_that_match_and_is_noted(admin_client: Client) -> None:
    wanted = archived(run("wanted", project="shop"))
    archived(run("other", project="docs"))
    given = {"format": "jsonl", "file": "jsonl", "compression": "gzip", "project": "shop"}
    answer = admin_client.post(of_tenant("export"), given)
    assert answer["Content-Disposition"] == 'attachment; filename="alice-jsonl.jsonl.gz"'
    lines = gzip.decompress(content(answer)).splitlines()
    assert [json.loads(line)["id"] for line in lines] == [str(wanted.trajectory_id)]
    entry = AuditEntry.objects.get(action="export")
    assert (entry.actor, entry.tenant, entry.count) == ("user admin", "alice", 1)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"min_cost_usd": "much"}, "must be a number of at least 0"),
        ({"split": "train=2"}, "split must have shares above 0"),
        ({"split": "train=0.9,test=0.1"}, "A file has one part of the split"),
    ],
)
def test_a_wrong_field_of_an_export_is_said(
    fields: dict[str, str], said: str, admin_client: Client, alice: Tenant
) -> None:
    given = {"format": "jsonl", "file": "jsonl", "compression": "none"} | fields
    assert said in admin_client.post(of_tenant("export"), given).content.decode()


def test_the_address_of_an_export_fills_its_form(admin_client: Client, alice: Tenant) -> None:
    assert 'name="project" value="shop"' in page(admin_client, of_tenant("export") + "?project=shop")


def imported(client: Client, data: bytes, name: str = "runs.jsonl") -> str:
    answer = client.post(of_tenant("import"), {"file": SimpleUploadedFile(name, data)})
    assert answer.status_code == 200
    return str(answer.content.decode())


@pytest.mark.usefixtures("redis_tier")
@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("runs.jsonl", lambda runs: b"\n".join(runs)),
        ("runs.jsonl.gz", lambda runs: gzip.compress(b"\n".join(runs) + b"\n")),
        ("runs.json", lambda runs: b"[" + b",\n".join(runs) + b"]"),
    ],
)
def test_an_imported_file_is_recorded_and_refused_lines_are_named(
    name: str, wrap: Any, admin_client: Client, alice: Tenant
) -> None:
    runs = [json.dumps(run("first")).encode(), b'{"request_summary": 5}', json.dumps(run("third")).encode()]
    said = imported(admin_client, wrap(runs), name)
    assert "2 runs recorded" in said
    assert "2 new, 0 known before, 1 refused" in said
    assert "<td>2</td>" in said
    found = reads.list_(get_store(), "alice", Query(), after=None, limit=10).records
    assert sorted(json.loads(record.body)["request_summary"] for record in found) == ["first", "third"]
    assert AuditEntry.objects.get(action="import").count == 2


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("runs.jsonl.gz", b"not gzip", "The file is no complete gzip file, as its name says."),
        ("runs.jsonl", b" \n", "The file is empty."),
        ("runs.json", b"[1,", "The file is not JSON"),
        ("runs.jsonl.gz", gzip.compress(b"{}\n" * 100_000 + b"{}"), "A file may have 100,000 runs, got 100,001."),
        ("runs.json", b"[" + b"1," * 100_000 + b"1]", "A file may have 100,000 runs, got 100,001."),
        ("runs.json", b"[[" + b"{}," * 999_999 + b"{}]]", "more than 1,000,000 objects and lists"),
        ("runs.json", b'{"a":\n[' + b"[]," * 1_000_000 + b"0]}", "more than 1,000,000 objects and lists"),
    ],
    ids=["not gzip", "empty", "not JSON", "too many lines", "too many elements", "too many objects", "too many lists"],
)
def test_a_file_that_cannot_be_read_is_refused(
    name: str, data: bytes, said: str, admin_client: Client, alice: Tenant
) -> None:
    assert said in imported(admin_client, data, name)
    assert get_store().outbox.last_n() == 0


@pytest.mark.usefixtures("redis_tier")
def test_readiness_names_a_remedy(admin_client: Client) -> None:
    archived(run("only one", phases=[phase(outcome="success")]))
    shown = page(admin_client, of_tenant("readiness"))
    assert re.search(r"Not yet: \d+ of 18 checks failed. Do what they say. 1 run was measured.", shown)
    first, *_, last = (text_of(row) for row in re.findall(r'<tr class="trajectories-.*?</tr>', shown, re.DOTALL))
    assert first.startswith("Runs with a cost and tools runs failed 0 at least 500 0 of 1 runs have both a cost")
    assert " passed " in last
    assert (
        "Phases that name their model model failed 0% at least 80% 0 of 1 phases that ran name their model"
        in text_of(shown)
    )


def test_readiness_derives_nothing_again_that_the_hot_cache_has(
    admin_client: Client, alice: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest.record(get_store(), alice.pk, json.dumps(run("one", project="shop")).encode())
    monkeypatch.setattr(readiness, "facets_in", None)
    shown = page(admin_client, of_tenant("readiness") + "?project=shop")
    assert "1 run was measured" in shown
    assert f'href="{of_tenant("export")}?project=shop"' in shown
    assert "0 runs were measured" in page(admin_client, of_tenant("readiness") + "?project=none")


def test_each_check_of_readiness_has_a_name_and_the_side_of_its_threshold() -> None:
    empty = readiness.report(get_store(), Measures(), 0, is_complete=True)["checks"]
    assert {check["code"] for check in empty} == set(readiness_lines.TITLES)
    # Without runs, a check of "at most" passes with a value of nothing, and one of "at least" fails.
    for line in readiness_lines.lines(empty):
        assert line.limit.startswith("at most" if line.state == "good" else "at least"), line


@pytest.mark.usefixtures("redis_tier")
def test_a_deletion_by_filters_is_counted_first(admin_client: Client) -> None:
    archived(run("old", project="old"))
    kept = archived(run("kept", project="new"))
    counted = admin_client.post(of_tenant("delete-runs"), {"project": "old"})
    assert "1 run matches now." in counted.content.decode()
    assert Trajectory.objects.count() == 2
    token = counted.context["found"].token
    said = admin_client.post(of_tenant("delete-runs"), {"project": "old", "token": token}, follow=True)
    assert "1 run deleted." in said.content.decode()
    assert Trajectory.objects.get() == kept


def test_a_deletion_needs_a_filter_and_its_own_token(admin_client: Client, alice: Tenant) -> None:
    assert (
        "Fill in at least one filter" in admin_client.post(of_tenant("delete-runs"), {"project": ""}).content.decode()
    )
    said = admin_client.post(of_tenant("delete-runs"), {"project": "old", "token": "x"}).content.decode()
    assert "The token is not one of a dry run" in said


@pytest.mark.parametrize("name", ["export", "import", "readiness", "delete-runs"])
def test_a_page_needs_its_permission_and_its_tenant(name: str) -> None:
    Tenant.objects.create(slug="alice")
    Tenant.objects.create(slug="bob")
    needed = {"import": "add_trajectory", "delete-runs": "delete_trajectory"}.get(name, "view_trajectory")
    allowed = Permission.objects.filter(content_type__app_label=APP, codename__in=["view_tenant", needed])
    other = Permission.objects.filter(content_type__app_label=APP, codename="view_tenant")
    client = staff(tenant="alice", permissions=allowed)
    assert client.get(of_tenant(name)).status_code == 200
    assert client.get(of_tenant(name, "bob")).status_code == 404
    label = f'/{name}/">{name.replace("-", " ").capitalize()}</a>'
    for shown in ("alice/change/", f"alice/{name}/"):
        assert label in page(client, address("tenant", shown))
    assert staff(tenant="bob", permissions=other).get(of_tenant(name, "bob")).status_code == 403


@pytest.mark.usefixtures("redis_tier")
def test_the_health_page_says_how_each_part_is(admin_client: Client) -> None:
    archived(run("one"))
    shown = page(admin_client, address("tenant", "health/"))
    assert "New runs are accepted." in shown
    assert "It has 1 run of 1 tenant;" in shown
    assert "The archive has refused no run." in shown
    assert page(admin_client, address("tenant")).count("health/") == 1


def test_the_health_of_all_parts_is_one_sentence() -> None:
    good, bad = (Finding(part, state, "") for part, state in (("Redis", GOOD), ("Worker", BAD)))
    assert sentence([good, good]) == "Every part is good."
    assert sentence([good, bad]) == "1 of 2 parts needs attention: Worker."
    assert sentence([bad, bad]) == "2 of 2 parts need attention: Worker, Worker."


def test_parts_that_need_attention_come_first() -> None:
    given = [Finding(state, state, "") for state in (GOOD, WARNING, BAD, GOOD)]
    assert [one.state for one in worst_first(given)] == [BAD, WARNING, GOOD, GOOD]


def test_the_health_page_is_among_the_pages_of_those_who_see_all(admin_client: Client) -> None:
    health = address("tenant", "health/")
    assert f'href="{health}"' in page(admin_client, address("trajectory", "overview/"))
    assert "data-reload" not in page(admin_client, health)
    assert 'data-reload="5"' in page(admin_client, health + "?live=1")
    Tenant.objects.create(slug="alice")
    bound = staff(tenant="alice", permissions=Permission.objects.filter(content_type__app_label=APP))
    assert health not in page(bound, address("trajectory", "overview/"))


def test_the_health_page_leads_to_the_quarantined_records(admin_client: Client) -> None:
    quarantined(run("bad"), "value too long")
    assert f'href="{address("quarantined")}">Show and replay them' in page(admin_client, address("tenant", "health/"))


def test_the_health_page_needs_access_to_every_tenant() -> None:
    Tenant.objects.create(slug="alice")
    client = staff(tenant="alice", permissions=Permission.objects.filter(content_type__app_label=APP))
    assert client.get(address("tenant", "health/")).status_code == 403
    assert "health/" not in page(client, address("tenant"))


def test_an_unavailable_redis_is_a_sentence(admin_client: Client) -> None:
    assert "Redis is unavailable." in page(admin_client, address("tenant", "health/"))


# Actions on selected runs.


def act(client: Client, action: str, *rows: Trajectory, **more: str) -> Any:
    data = {"action": action, "_selected_action": [str(row.pk) for row in rows], "index": "0"} | more
    return client.post(address("trajectory"), data, follow=True)


def test_selected_runs_are_exported_in_the_chosen_format(admin_client: Client) -> None:
    first, _, third = (archived(run(name, phases=[phase(outcome="success")])) for name in ("a", "b", "c"))
    assert "Export 2 runs" in act(admin_client, "export_runs", third, first).content.decode()
    given = {"format": "decisions", "file": "jsonl", "compression": "none"}
    lines = content(act(admin_client, "export_runs", third, first, **given)).splitlines()
    ids = [str(row.trajectory_id) for row in (first, third)]
    assert [json.loads(line)["trajectory_id"] for line in lines] == ids
    assert AuditEntry.objects.get(action="export").count == 2


def test_an_export_has_the_runs_of_one_tenant(admin_client: Client) -> None:
    rows = [archived(run("a"), tenant=tenant) for tenant in ("alice", "bob")]
    assert "Select runs of one tenant" in act(admin_client, "export_runs", *rows).content.decode()


@pytest.mark.usefixtures("redis_tier")
def test_selected_runs_are_deleted_after_a_preview(admin_client: Client) -> None:
    gone, kept = (archived(run(name, phases=[phase(), phase()])) for name in ("gone", "kept"))
    preview = act(admin_client, "delete_runs", gone).content.decode()
    assert "<td>runs of alice in the archive</td><td>1</td>" in preview
    assert "<td>their phases</td><td>2</td>" in preview
    assert Trajectory.objects.count() == 2
    assert "1 run deleted." in act(admin_client, "delete_runs", gone, post="yes").content.decode()
    assert Trajectory.objects.get() == kept
    assert AuditEntry.objects.get(action="delete").actor == "user admin"


def test_a_deletion_that_redis_missed_says_so(admin_client: Client) -> None:
    gone = archived(run("gone"))
    assert "Not yet deleted from Redis" in act(admin_client, "delete_runs", gone, post="yes").content.decode()


def test_deleting_runs_needs_its_permission() -> None:
    row = archived(run("a"))
    looker = staff(tenant="alice", permissions=Permission.objects.filter(codename="view_trajectory"))
    shown = page(looker, address("trajectory"))
    assert ("export_runs" in shown, "delete_runs" in shown) == (True, False)
    act(looker, "delete_runs", row, post="yes")
    assert Trajectory.objects.exists()
