"""The Content-Security-Policy lets every page work, and nothing else."""

from __future__ import annotations

import orjson
import pytest
from django.test import Client
from playwright.sync_api import Page

from tests.admin.rows import address
from tests.api.test_openapi import DOCS
from tests.browser.conftest import Visitor
from tests.text.injections import HARMLESS
from tests.text.test_admin import rows

pytestmark = [pytest.mark.outside, pytest.mark.django_db(transaction=True)]


def test_the_docs_page_shows_every_operation_without_a_violation(visitor: Visitor) -> None:
    def operations(page: Page) -> list[str]:
        page.wait_for_selector(".opblock")
        page.click(".opblock-summary-get >> nth=0")
        page.wait_for_selector(".opblock-body")
        page.click(".btn.authorize >> nth=0")
        page.wait_for_selector(".modal-ux")
        page.fill(".modal-ux input", "prefix.secret")
        page.click(".modal-ux button.authorize")
        page.wait_for_selector(".modal-ux >> text=Logout")
        assert page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])") == "[{},{}]"
        return [block.inner_text() for block in page.query_selector_all(".opblock-summary-path")]

    paths = orjson.loads((DOCS / "openapi.json").read_bytes())["paths"].values()
    assert len(visitor.open("/docs/", operations)) == sum(map(len, paths))
    assert (visitor.violations, visitor.errors) == ([], [])


def test_a_tenant_can_be_looked_for_in_the_form_of_a_key(visitor: Visitor, admin_client: Client) -> None:
    rows("canonical", HARMLESS)
    visitor.enter(admin_client)

    def found(page: Page) -> str:
        page.click(".select2-selection")
        page.wait_for_selector(".select2-results__option >> text=alice")
        return page.inner_text(".select2-results")

    assert "alice" in visitor.open(address("apikey", "add/"), found)
    assert (visitor.violations, visitor.errors) == ([], [])


@pytest.mark.parametrize(
    ("directive", "script"),
    [
        ("script-src-elem", "const s = document.createElement('script'); s.textContent = '1'; document.body.append(s)"),
        ("script-src-attr", "document.body.innerHTML = '<b onclick=\"1\">x</b>'"),
        (
            "style-src-elem",
            "const s = document.createElement('style'); s.textContent = 'b {}'; document.body.append(s)",
        ),
    ],
)
def test_injected_content_does_not_run(directive: str, script: str, visitor: Visitor) -> None:
    def inject(page: Page) -> None:
        page.evaluate(f"() => {{ {script} }}")
        page.wait_for_function("window.violations.length > 0")

    visitor.open("/admin/login/", inject)
    assert visitor.violations[0].startswith(f"{directive} inline")
