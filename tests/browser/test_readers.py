"""Every page of the admin is for all readers: axe finds nothing, in both themes, at a desk and on a
phone."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.test import Client
from playwright.sync_api import Page

from tests.admin.rows import address, page_of, with_outcome
from tests.admin.sample import archive_sample
from tests.browser.conftest import Visitor
from tests.browser.test_runs import runs
from tests.browser.test_work import act
from tests.text.injections import HARMLESS
from tests.text.test_admin import rows

pytestmark = [pytest.mark.outside, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_tier")]

_LOOKS = ((1400, "light"), (1400, "dark"), (390, "dark"), (390, "light"))
_OF_DJANGO = ('id="searchbar"', "select2-")
"""Parts of Django's own templates that have no visible label."""
_COMMON = "resultTypes: ['violations'], preload: false"
# Of Django's own frame: links in its breadcrumbs have the colour of the text around them.
_RULES = f"{{{_COMMON}, rules: {{'link-in-text-block': {{enabled: false}}, 'color-contrast': {{enabled: false}}}}}}"
_CONTRAST = f"{{{_COMMON}, runOnly: ['color-contrast']}}"
_WAIT = "Promise.all(document.getAnimations().map((each) => each.finished))"
"""Django's links fade from the colours of one theme to those of the other."""
_MARK_COLOURS = """() => {
  const ground = (at) => {
    const own = at ? getComputedStyle(at).backgroundColor : '';
    return at && own === 'rgba(0, 0, 0, 0)' ? ground(at.parentElement) : own;
  };
  const seen = new Set();
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const one = texts.currentNode.parentElement;
    one.removeAttribute('data-colour');
    if (!texts.currentNode.data.trim() || !one.checkVisibility()) continue;
    const style = getComputedStyle(one);
    const colours = [style.color, style.fill, style.fontSize, style.fontWeight, style.opacity, ground(one)].join();
    if (!seen.has(colours)) one.setAttribute('data-colour', '');
    seen.add(colours);
  }
}"""
"""Marks one text of each colour, size and background: contrast is slow, and the same for all like
it."""


def violations(page: Page, of: str, options: str) -> list[tuple[str, Any]]:
    found = page.evaluate(f"axe.run({of}, {options}).then((found) => found.violations)")
    nodes = [(rule["id"], node["html"][:200]) for rule in found for node in rule["nodes"]]
    return [one for one in nodes if not any(part in one[1] for part in _OF_DJANGO)]


def denied(page: Page, at: int) -> dict[Any, list[tuple[str, Any]]]:
    """Return what is wrong with a page in each look: contrast and width in all, other rules in look
    ``at``."""
    page.evaluate(Axe().axe_script)
    found = {}
    for number, (width, theme) in enumerate(_LOOKS):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        page.evaluate(_WAIT)
        page.evaluate(_MARK_COLOURS)
        wrong = violations(page, "{include: [['[data-colour]']]}", _CONTRAST)
        if number == at:
            wrong += violations(page, "document", _RULES)
        page.evaluate("document.querySelectorAll('details').forEach((one) => one.open = true)")
        shown = page.evaluate("document.documentElement.scrollWidth")
        if wrong or shown != width:
            found[width, theme] = [*wrong, ("width", shown)]
    return found


def pages() -> Iterator[str]:
    """Every page of the app, once, with something of everything on it."""
    sample = archive_sample(3)
    made = rows("canonical", HARMLESS)
    _, full, long = runs()
    with_outcome(full, name="reverted", value=True)
    several = "&".join(f"run={row.pk}" for row in sample)
    run = page_of(full)
    yield from ("/admin/", *map(address, made), address("auditentry"))
    yield from map(page_of, made.values())
    yield from (page_of(row, "history") for row in made.values())
    yield from (address("tenant", "add/"), "/admin/auth/user/", "/admin/auth/user/add/")
    yield page_of(long)
    yield f"{address('trajectory')}?live=1&strip=duration&project=shop"
    yield from (run, f"{run}?view=shape", f"{run}?view=transcript")
    yield address("apikey", "add/")
    yield from (
        address("trajectory", rest)
        for rest in (
            "overview/?period=7&cells=cost",
            "compare/?a_policy=router@1&b_policy=router@2",
            f"compare/runs/?{several}",
            "evaluate/?otherwise=large&feature=phase&value=review&use=small",
        )
    )
    yield from (address("tenant", f"alice/{name}/") for name in ("export", "import", "readiness", "delete-runs"))
    yield address("tenant", "health/")


def test_every_page_is_for_all_readers(visitor: Visitor, admin_client: Client) -> None:
    visitor.enter(admin_client)
    wrong = {}
    for at, look in zip(pages(), cycle(range(len(_LOOKS))), strict=False):
        if found := visitor.open(at, lambda page, look=look: denied(page, look)):  # type: ignore[misc]
            wrong[at] = found
        assert (visitor.violations, visitor.errors) == ([], []), at
    assert wrong == {}


def test_the_pages_that_actions_lead_to_are_for_all_readers(visitor: Visitor, admin_client: Client) -> None:
    runs()
    visitor.enter(admin_client)

    def after(page: Page, list_: str, action: str, look: int) -> dict[Any, list[tuple[str, Any]]]:
        page.set_viewport_size({"width": 1400, "height": 900})
        page.goto(visitor.url + list_)
        act(page, action, 0)
        page.wait_for_selector("#content .submit-row")
        return denied(page, look)

    def issued(page: Page, look: int) -> dict[Any, list[tuple[str, Any]]]:
        page.goto(visitor.url + address("apikey", "add/"))
        page.check("input[name=scopes][value=record]")
        page.click("[name=_save]")
        page.wait_for_selector("#issued-key")
        return denied(page, look)

    def walk(page: Page) -> list[dict[Any, list[tuple[str, Any]]]]:
        list_ = address("trajectory")
        actions = ((list_, "export_runs"), (list_, "delete_runs"), (address("tenant"), "push_to_hub"))
        return [issued(page, 3), *(after(page, *one, look) for look, one in enumerate(actions))]

    assert visitor.open("/admin/login/", walk) == [{}] * 4
    assert (visitor.violations, visitor.errors) == ([], [])


def test_text_without_contrast_is_noticed_in_the_look_that_has_it(visitor: Visitor, admin_client: Client) -> None:
    visitor.enter(admin_client)

    def spoiled(page: Page) -> dict[Any, list[tuple[str, Any]]]:
        page.evaluate("document.querySelector('#site-name').after(document.createElement('i'))")
        page.evaluate(
            "Object.assign(document.querySelector('#site-name + i'), {textContent: 'unreadable', id: 'spoiled'})"
        )
        page.evaluate("document.querySelector('#spoiled').style.color = 'light-dark(#fff, #222)'")
        page.evaluate("document.querySelector('#spoiled').style.background = '#000'")
        return denied(page, 0)

    assert list(visitor.open("/admin/", spoiled)) == [(1400, "dark"), (390, "dark")]
