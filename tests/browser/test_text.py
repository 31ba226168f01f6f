"""No text of a client runs as code in a browser."""

from __future__ import annotations

import pytest
from django.test import Client
from playwright.sync_api import Page

from tests.admin.rows import address, page_of
from tests.browser.conftest import Visitor
from tests.text.injections import INJECTIONS
from tests.text.test_admin import rows

pytestmark = [pytest.mark.abuse, pytest.mark.django_db(transaction=True)]

ALL = " ".join(INJECTIONS.values())[:500]


_ELEMENTS = "[onerror], [onfocus], [onclick], img[src=x], a[href^='javascript:']"


def harm(page: Page) -> list[str]:
    """Return the parts of a text that became markup or code, after giving focus to every element."""
    for focusable in page.query_selector_all("[autofocus], [tabindex]"):
        focusable.focus()
    made = [str(element.evaluate("element => element.outerHTML")) for element in page.query_selector_all(_ELEMENTS)]
    return made + (["it has run"] if page.evaluate("window.injected") else [])


@pytest.mark.parametrize(
    "text", [ALL, INJECTIONS["closed tag"], INJECTIONS["attribute"]], ids=["all", "tag", "attribute"]
)
def test_nothing_of_a_text_runs_in_the_admin(text: str, visitor: Visitor, admin_client: Client) -> None:
    made = rows("canonical", text)
    visitor.enter(admin_client)
    for address_ in [*map(address, made), *map(page_of, made.values())]:
        assert visitor.open(address_, harm) == [], address_
    assert visitor.dialogs == []
    assert visitor.errors == []


def test_the_probe_detects_code_that_runs(visitor: Visitor) -> None:
    def inject(page: Page) -> list[str]:
        page.evaluate("document.body.innerHTML = '<b tabindex=0 onfocus=\"window.injected = 1\">x</b>'")
        return harm(page)

    assert any("onfocus" in found for found in visitor.open("/admin/login/", inject))


def test_a_turned_name_is_read_in_the_order_in_which_it_was_sent(visitor: Visitor, admin_client: Client) -> None:
    row = rows("canonical", INJECTIONS["bidi override"])["phase"]
    visitor.enter(admin_client)
    shown = visitor.open(page_of(row), lambda page: page.inner_text("#content"))
    assert "⟦U+202E⟧gnp.exe⟦U+202C⟧" in shown
    assert "\u202e" not in shown
