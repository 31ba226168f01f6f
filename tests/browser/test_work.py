"""People work with runs in a real browser: compare, export, import, delete, keys, and the value of
a policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from django.test import Client
from playwright.sync_api import Page

from tests.admin.rows import address, page_of
from tests.api.client import archive_all, client_of, post
from tests.browser.conftest import Visitor
from tests.browser.test_runs import runs
from tests.examples import body
from trajectories.models import ApiKey, Trajectory

pytestmark = [pytest.mark.outside, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_tier")]

LIST = address("trajectory")


def act(page: Page, action: str, *rows: int) -> None:
    """Run an action on rows of the list that the page shows, the newest of which is 0."""
    for row in rows:
        page.check(f"#result_list .action-select >> nth={row}")
    page.select_option("select[name=action]", action)
    page.click("#changelist button[name=index]")


def downloaded(page: Page, button: str) -> bytes:
    with page.expect_download() as waiting:
        page.click(button)
    return Path(waiting.value.path()).read_bytes()


def test_runs_are_compared_exported_imported_and_deleted(visitor: Visitor, admin_client: Client) -> None:
    payment, shop, _ = runs()
    visitor.enter(admin_client)

    def compare_and_export(page: Page) -> dict[str, Any]:
        act(page, "compare", 1, 2)
        page.wait_for_url("**/compare/runs/**")
        seen: dict[str, Any] = {"heads": page.locator(".tj-runs thead a").all_inner_texts()}
        page.click(".tj-runs td >> nth=-1 >> a.tj-chip")
        page.wait_for_url("**#phase-6")
        seen["opened"] = page.locator("#phase-6").is_visible()
        page.go_back()
        page.go_back()
        page.wait_for_selector("#result_list")
        act(page, "export_runs", 1, 2)
        page.wait_for_selector("select[name=format]")
        seen["exported"] = downloaded(page, ".submit-row [type=submit]")
        return seen

    seen = visitor.open(LIST, compare_and_export)
    assert seen["heads"] == ["Fix the flaky payment test", "Add dark mode"]
    assert seen["opened"]
    exported = [orjson.loads(line)["id"] for line in seen["exported"].splitlines()]
    assert exported == [str(row.trajectory_id) for row in (payment, shop)]

    given = [orjson.dumps(body(request_summary=f"imported {at}")) for at in range(2)]
    file = {"name": "runs.jsonl", "mimeType": "application/x-ndjson", "buffer": b"\n".join([*given, b'{"phases": 1}'])}

    def import_(page: Page) -> str:
        page.set_input_files("#id_file", file)  # type: ignore[arg-type]
        page.click(".submit-row [type=submit]")
        page.wait_for_selector("h2 >> text=2 runs recorded")
        return page.inner_text("#content")

    summary = visitor.open(address("tenant", "alice/import/"), import_)
    assert "2 new, 0 known before, 1 refused." in summary
    archive_all()

    def delete(page: Page) -> tuple[str, str, list[str]]:
        page.click("text=List the newest runs")
        page.wait_for_selector("#result_list")
        act(page, "delete_runs", 1)
        preview = page.inner_text("#content")
        page.click(".submit-row [type=submit]")
        page.wait_for_selector(".messagelist")
        names = page.locator("#result_list .field-request_summary a").all_inner_texts()
        return preview, page.inner_text(".messagelist"), names

    preview, said, names = visitor.chromium.run(lambda: delete(visitor.page))
    assert "imported 0" in preview
    assert "runs of alice in the archive\t1" in preview
    assert "1 run deleted." in said
    assert names[0] == "imported 1"
    assert "imported 0" not in names
    assert Trajectory.objects.count() == 4
    assert (visitor.errors, visitor.violations, visitor.dialogs) == ([], [], [])


def test_a_key_is_made_copied_used_and_revoked(visitor: Visitor, admin_client: Client) -> None:
    runs()
    visitor.enter(admin_client)

    def make(page: Page) -> tuple[str, str]:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.fill("#id_name", "ci")
        for scope in ("record", "read"):
            page.check(f"input[name=scopes][value={scope}]")
        page.click("[name=_save]")
        page.click("[data-copies=issued-key]")
        page.wait_for_selector("[data-copies=issued-key] >> text=Copied")
        return str(page.evaluate("navigator.clipboard.readText()")), page.inner_text("#issued-curl")

    text, command = visitor.open(address("apikey", "add/"), make)
    assert ApiKey.objects.get().tenant_id == "alice"  # the only tenant is chosen already
    assert f"Bearer {text}" in command
    assert command.startswith(f"curl -sS {visitor.url}/v1/agent/trajectories ")
    assert post(client_of(text), body()).status_code == 201

    def revoke(page: Page) -> str:
        act(page, "revoke", 0)
        page.wait_for_selector(".messagelist")
        return page.inner_text("#result_list .field-state")

    assert visitor.open(address("apikey"), revoke) == "revoked"
    assert post(client_of(text), body()).status_code == 401
    assert (visitor.errors, visitor.violations) == ([], [])


def test_a_policy_is_evaluated_and_keys_lead_around_by_keyboard_alone(visitor: Visitor, admin_client: Client) -> None:
    _, shop, _ = runs()
    visitor.enter(admin_client)

    def work(page: Page) -> list[str]:
        seen = []
        page.focus("input[name=otherwise]")
        page.keyboard.type("large")
        page.keyboard.press("Enter")
        page.wait_for_selector(".tj-sentence")
        seen.append(page.inner_text(".tj-sentence"))
        page.focus("nav.tj-pages a")
        page.keyboard.press("?")
        seen.append(page.inner_text("#tj-keys h2"))
        page.keyboard.press("Escape")
        page.wait_for_selector("#tj-keys", state="hidden")
        page.keyboard.press("g")
        page.keyboard.press("o")
        page.wait_for_url("**/overview/**")
        page.keyboard.press("/")
        page.wait_for_url(f"**{LIST}")
        page.goto(visitor.url + page_of(shop))
        page.focus("[data-folds]")
        page.keyboard.press("Enter")
        seen.append(page.inner_text("[data-folds]"))
        seen.append(str(page.locator("#phases details[open]").count()))
        return seen

    refusal, *rest = visitor.open(address("trajectory", "evaluate/"), work)
    assert "have no propensity" in refusal
    assert rest == ["Keys", "Close all", "6"]
    assert (visitor.errors, visitor.violations) == ([], [])
