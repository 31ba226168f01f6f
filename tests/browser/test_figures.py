"""The pages of figures in a browser: their colours in both themes, and the way from a figure to its
runs."""

from __future__ import annotations

from typing import Literal

import pytest
from django.test import Client
from playwright.sync_api import Page

from tests.admin.rows import address
from tests.admin.sample import archive_sample
from tests.browser.conftest import Visitor
from trajectories.models import Trajectory

pytestmark = [pytest.mark.outside, pytest.mark.django_db(transaction=True)]

OVERVIEW = address("trajectory", "overview/")
_THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


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


def test_a_figure_leads_to_its_runs_and_two_can_be_compared(visitor: Visitor, admin_client: Client) -> None:
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
