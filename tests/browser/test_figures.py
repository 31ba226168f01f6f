"""The pages of figures in a browser: under the policy, for every reader, in both themes and on a phone."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.test import Client
from playwright.sync_api import Page

from tests.admin.rows import address
from tests.admin.sample import archive_sample
from tests.browser.conftest import Visitor
from trajectories.models import Trajectory

pytestmark = pytest.mark.django_db(transaction=True)

OVERVIEW, COMPARE = address("trajectory", "overview/"), address("trajectory", "compare/")
WIDE, PHONE = 1400, 390
_THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
# In Django's own frame, links in breadcrumbs have the colour of the text around them.
_RULES = {"rules": {"link-in-text-block": {"enabled": False}}, "resultTypes": ["violations"], "preload": False}


def seen(page: Page, width: int, theme: Any) -> dict[str, Any]:
    """Return what is wrong with a page at this width and in this theme, and how wide it is."""
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=theme)
    # Django's links fade from the colours of one theme to those of the other.
    page.evaluate("Promise.all(document.getAnimations().map((each) => each.finished))")
    found = Axe().run(page, options=_RULES).response["violations"]
    return {
        "denied": [(rule["id"], node["html"][:200]) for rule in found for node in rule["nodes"]],
        "width": page.evaluate("document.documentElement.scrollWidth"),
    }


def test_every_page_of_figures_is_for_all_readers(visitor: Visitor, admin_client: Client) -> None:
    runs = archive_sample(12)
    visitor.enter(admin_client)
    several = address("trajectory", "compare/runs/?") + "&".join(f"run={row.pk}" for row in runs[-3:])
    groups = f"{COMPARE}?a_policy=router@1&b_policy=router@2"
    pages = [
        (f"{OVERVIEW}?period=7&cells=cost", PHONE, "dark"),
        (groups, WIDE, "dark"),
        (several, PHONE, "light"),
        ("/admin/?period=7", WIDE, "light"),
    ]
    for address_, width, theme in pages:
        found = visitor.open(address_, lambda page, width=width, theme=theme: seen(page, width, theme))  # type: ignore[misc]
        assert (found["denied"], found["width"]) == ([], width), (address_, width, theme)
    assert (visitor.violations, visitor.errors) == ([], [])


def test_the_pictures_have_the_colours_of_the_theme(visitor: Visitor, admin_client: Client) -> None:
    archive_sample(20)
    visitor.enter(admin_client)

    def fills(page: Page) -> list[str]:
        found = []
        for theme in _THEMES:
            page.emulate_media(color_scheme=theme)
            found.append(str(page.evaluate("getComputedStyle(document.querySelector('rect.tj-success')).fill")))
        return found

    assert visitor.open(OVERVIEW, fills) == ["rgb(27, 127, 77)", "rgb(76, 195, 138)"]


def test_a_person_goes_from_a_figure_to_its_runs_and_compares_two(visitor: Visitor, admin_client: Client) -> None:
    archive_sample(20)
    visitor.enter(admin_client)

    def walk(page: Page) -> tuple[str, str, int]:
        page.select_option("select[name=project]", "importer")
        page.click(".tj-filters button")
        narrowed = page.url
        page.click("text=List these runs")
        page.go_back()
        page.goto(visitor.url + address("trajectory"))
        for row in (0, 1):
            page.check(f"#result_list .action-select >> nth={row}")
        page.select_option("select[name=action]", "compare")
        page.click("#changelist button[name=index]")
        return narrowed, page.url, page.locator(".tj-runs thead a").count()

    narrowed, compared, runs = visitor.open("/admin/", walk)
    assert "project=importer" in narrowed
    pks = Trajectory.objects.order_by("-recorded_at_us").values_list("pk", flat=True)[:2]
    assert compared.endswith(f"compare/runs/?run={pks[1]}&run={pks[0]}")
    assert runs == 2
