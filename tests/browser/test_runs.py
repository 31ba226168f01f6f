"""People find, read, annotate and save runs in a real browser, at a desk and on a phone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest
from django.test import Client
from playwright.sync_api import Page
from pytest_django.live_server_helper import LiveServer

from tests.admin.rows import AT_US, address, archived, page_of
from tests.browser.conftest import Chromium, Visitor
from tests.examples import body, phase
from trajectories.admin import changelist
from trajectories.models import Trajectory
from trajectories.workspace import Annotation, SavedView

pytestmark = [pytest.mark.outside, pytest.mark.django_db(transaction=True)]

LIST = address("trajectory")
CANDIDATES = [
    {"model": "small", "score": 0.4, "probability": 0.25},
    {"model": "large", "score": 0.8, "probability": 0.75},
]


def runs() -> list[Trajectory]:
    """Three runs, oldest first; the second has times, a loop, lanes, a skip, an error and a
    decision."""
    at = "2026-01-05T12:00:{:02}Z".format
    phases = [
        phase(
            phase_name="code", phase_id="code", started_at=at(0), duration_ms=20_000, outcome="success", model="large"
        ),
        phase(phase_name="unit", started_at=at(20), duration_ms=10_000, depends_on=["code"], outcome="success"),
        phase(phase_name="lint", started_at=at(20), duration_ms=5_000, depends_on=["code"], outcome="success"),
        phase(phase_name="design", outcome="skipped", skip_reason="the change touches one file and nothing else"),
        phase(phase_name="review", started_at=at(30), duration_ms=10_000, outcome="failure", error="x" * 5_000),
        phase(phase_name="code", started_at=at(40), duration_ms=10_000, model="large", candidates=CANDIDATES),
    ]
    long = "W" * 500
    given: tuple[dict[str, Any], ...] = (
        {"request_summary": "Fix the flaky payment test", "project": "billing", "outcome": "success"},
        {
            "request_summary": "Add dark mode",
            "project": "shop",
            "phases": phases,
            "feedback_loops": [{"from_phase": "review", "to_phase": "code", "reason": "two findings"}],
            "tags": ["nightly"],
        },
        {"request_summary": f"Long {long}", "project": long, "phases": [phase(phase_name=long, error=long)] * 50},
    )
    return [archived(body(**one), at_us=AT_US + number) for number, one in enumerate(given)]


@pytest.fixture
def visit(chromium: Chromium, live_server: LiveServer, admin_client: Client) -> Iterator[Callable[..., Visitor]]:
    """Return a maker of visitors who are logged in, with a width in pixels and a colour scheme."""
    made: list[Visitor] = []

    def make(width: int = 1_400, scheme: Literal["dark", "light"] = "light") -> Visitor:
        visitor = Visitor(chromium, chromium.new_page(), live_server.url)
        chromium.run(lambda: visitor.page.set_viewport_size({"width": width, "height": 900}))
        chromium.run(lambda: visitor.page.emulate_media(color_scheme=scheme))
        chromium.run(visitor.listen)
        visitor.enter(admin_client)
        made.append(visitor)
        return visitor

    yield make
    for visitor in made:
        chromium.run(visitor.page.context.close)


def test_a_run_is_found_read_annotated_and_its_list_saved(visit: Callable[..., Visitor]) -> None:
    runs()
    visitor = visit()

    def work(page: Page) -> dict[str, Any]:
        page.fill("#searchbar", "payment flaky")
        page.click("#changelist-search [type=submit]")
        page.wait_for_url("**q=payment**")
        seen: dict[str, Any] = {"by words": page.locator("#result_list .field-request_summary a").all_inner_texts()}
        page.click("a.tj-chip")
        page.select_option("select[name=filter]", "project")
        page.fill("input[name=value]", "shop")
        page.click(".tj-add button")
        page.wait_for_url("**project=shop**")
        seen["by filter"] = page.locator("#result_list .field-request_summary a").all_inner_texts()
        page.click(".tj-save")
        page.fill("#id_name", "The shop")
        page.click("[name=_save]")
        page.click(".tj-view >> text=The shop")
        page.click("#result_list .field-request_summary a")
        box = page.locator(".tj-chart").bounding_box()
        bars = [bar.bounding_box() for bar in page.locator(".tj-chart .tj-bar").all()]
        assert box
        seen["bars"] = [round((bar["x"] - box["x"]) / box["width"], 2) for bar in bars if bar]
        seen["widths"] = [round(bar["width"] / box["width"], 2) for bar in bars if bar]
        page.emulate_media(media="print")
        seen["printed"] = page.evaluate("document.getElementById('phase-1').checkVisibility()")
        page.emulate_media(media="screen")
        seen["closed"] = page.evaluate("document.getElementById('phase-1').checkVisibility()")
        page.click(".tj-names a >> nth=5")
        seen["opened"] = page.locator("#phase-6").is_visible()
        seen["probability"] = page.locator("#phase-6 .tj-candidates tbody tr >> nth=0").inner_text().split()[:3]
        page.fill("#id_note", "Look at the review")
        page.click(".tj-annotate button")
        seen["note"] = page.locator(".tj-note").inner_text()
        page.go_back()
        page.go_back()
        seen["back"] = page.url
        return seen

    seen = visitor.open(LIST, work)
    assert seen["by words"] == ["Fix the flaky payment test"]
    assert seen["by filter"] == ["Add dark mode"]
    assert seen["bars"] == [0, 0.4, 0.4, 0.5, 0.6, 0.8]
    assert [width for at, width in enumerate(seen["widths"]) if at != 3] == [0.4, 0.2, 0.1, 0.2, 0.2]
    assert (seen["printed"], seen["closed"]) == (True, False)
    assert seen["opened"]
    assert seen["probability"] == ["large", "chosen", "75%"]
    assert seen["note"] == Annotation.objects.get().note == "Look at the review"
    assert SavedView.objects.get().querystring == "project=shop"
    assert (visitor.errors, visitor.violations) == ([], [])


def test_the_keyboard_is_enough(visit: Callable[..., Visitor]) -> None:
    old, middle, new = runs()
    visitor = visit()

    def work(page: Page) -> list[str]:
        seen = []

        def press(*keys: str, url: str = "**") -> None:
            for key in keys:
                page.keyboard.press(key)
            page.wait_for_url(url)
            seen.append(page.url.removeprefix(visitor.url))

        press("/")
        page.keyboard.type("mode")
        press("Enter", url="**?q=mode")
        press("j", "Enter", url="**/change/**")
        for view in ("shape", "transcript", "timeline"):
            press("v", url=f"**view={view}")
        press("u", url="**?q=mode")
        page.goto(visitor.url + page_of(middle))
        press("j", url=f"**/{old.pk}/**")
        press("k", url=f"**/{middle.pk}/**")
        press("k", url=f"**/{new.pk}/**")
        page.keyboard.press("?")
        seen.append(page.locator("#tj-keys h2").inner_text())
        page.keyboard.press("Escape")
        page.wait_for_selector("#tj-keys", state="hidden")
        press("g", "o", url="**/overview/**")
        return seen

    seen = visitor.open(LIST, work)
    paths = [one.partition("?")[0] for one in seen]
    assert paths[:2] == [LIST, LIST]
    assert paths[2:6] == [page_of(middle)] * 4
    assert paths[6:10] == [LIST, page_of(old), page_of(middle), page_of(new)]
    assert paths[10] == "Keys"
    assert paths[-1] not in paths[:-2]
    assert visitor.errors == []


def test_keys_lead_past_the_end_of_a_page_and_the_browser_leads_back(
    visit: Callable[..., Visitor], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, middle, new = runs()
    monkeypatch.setattr(changelist, "PAGE_SIZES", (2, 50))
    visitor = visit()

    def work(page: Page) -> list[list[str]]:
        def shown() -> list[str]:
            links = page.locator("#result_list .field-request_summary a").all()
            return [str(link.get_attribute("href")).partition("?")[0] for link in links]

        seen = [shown()]
        for _ in range(3):
            page.keyboard.press("j")
        page.wait_for_url("**p=after**")
        seen.append(shown())
        page.keyboard.press("k")
        page.keyboard.press("k")
        page.wait_for_url("**p=before**")
        seen.append(shown())
        page.go_back()
        page.wait_for_url("**p=after**")
        seen.append(shown())
        return seen

    first, second = [page_of(new), page_of(middle)], [page_of(old)]
    assert visitor.open(f"{LIST}?size=2", work) == [first, second, first, second]
    assert (visitor.errors, visitor.violations) == ([], [])


def test_times_are_those_of_the_reader_and_new_runs_are_counted(
    chromium: Chromium, live_server: LiveServer, admin_client: Client
) -> None:
    runs()
    page = chromium.run(lambda: chromium._browser.new_context(timezone_id="Asia/Tokyo", locale="en-GB").new_page())
    visitor = Visitor(chromium, page, live_server.url)
    chromium.run(visitor.listen)
    visitor.enter(admin_client)

    def times(page: Page) -> tuple[str, str]:
        time = page.locator("#result_list time >> nth=0")
        return time.inner_text(), time.get_attribute("title") or ""

    shown_time, title = visitor.open(f"{LIST}?live=1", times)
    assert shown_time.startswith("6 Jan")
    assert "8:58" in shown_time
    assert title == "2026-01-05 23:58:46.123 UTC"
    archived(body(request_summary="just now"), at_us=AT_US + 10)

    def shown(page: Page) -> str:
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # asks at once
        page.wait_for_selector("[data-live-show]:not([hidden])")
        return page.inner_text("[data-live-text]")

    assert chromium.run(lambda: shown(page)) == "1 new run."
    assert (visitor.errors, visitor.violations) == ([], [])
    chromium.run(page.context.close)
