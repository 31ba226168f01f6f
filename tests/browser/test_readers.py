"""Every page of the admin is for all readers: axe finds nothing, in both themes, at a desk and on a phone."""

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
from tests.text.injections import HARMLESS
from tests.text.test_admin import rows

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_tier")]

_LOOKS = ((1400, "light"), (390, "dark"), (1400, "dark"), (390, "light"))
_OF_DJANGO = ('id="searchbar"', "select2-")
"""Parts of Django's own templates that have no visible label."""
# Of Django's own frame: links in its breadcrumbs have the colour of the text around them.
_OPTIONS = "{resultTypes: ['violations'], preload: false, rules: {'link-in-text-block': {enabled: false}}}"
_WAIT = "Promise.all(document.getAnimations().map((each) => each.finished))"
"""Django's links fade from the colours of one theme to those of the other."""


def denied(page: Page, width: int, theme: Any) -> list[tuple[str, Any]]:
    """Return what is wrong with a page."""
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=theme)
    page.evaluate(_WAIT)
    page.evaluate(Axe().axe_script)
    violations = page.evaluate(f"axe.run({_OPTIONS}).then((found) => found.violations)")
    nodes = [(rule["id"], node["html"][:200]) for rule in violations for node in rule["nodes"]]
    found: list[tuple[str, Any]] = [one for one in nodes if not any(part in one[1] for part in _OF_DJANGO)]
    shown = page.evaluate("document.documentElement.scrollWidth")
    return found if shown == width else [*found, ("width", shown)]


def pages() -> Iterator[str]:
    """Every page of the app, once, with something of everything on it."""
    sample = archive_sample(3)
    made = rows("canonical", HARMLESS)
    _, full, _ = runs()
    with_outcome(full, name="reverted", value=True)
    several = "&".join(f"run={row.pk}" for row in sample)
    run = page_of(full)
    yield from ("/admin/", *map(address, made), address("auditentry"))
    yield from map(page_of, made.values())
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
    # An axe run takes half a second, so a page has one of the looks. What pages share has all of them.
    for at, (width, theme) in zip(pages(), cycle(_LOOKS), strict=False):
        if found := visitor.open(at, lambda page, width=width, theme=theme: denied(page, width, theme)):  # type: ignore[misc]
            wrong[at, width, theme] = found
    assert wrong == {}
    assert (visitor.violations, visitor.errors) == ([], [])
