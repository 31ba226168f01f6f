"""The overview: its figures are those of stats, and its work does not grow with the runs."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from unittest.mock import Mock
from urllib.parse import parse_qsl, urlsplit

import pytest
from django.contrib.auth.models import Permission
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import clear_script_prefix, set_script_prefix

from tests import baker_recipes
from tests.admin.rows import address, archived, page
from tests.admin.sample import archive_sample
from tests.api.client import client_of, issue, stats
from tests.examples import body, phase
from tests.text.injections import HARMLESS, INJECTIONS
from tests.text.markup import Markup
from trajectories.admin import figures, heat
from trajectories.admin.cards import rate_of
from trajectories.exceptions import TooManyReads
from trajectories.models import Tenant
from trajectories.services import reads
from trajectories.storage.store import get_store

pytestmark = pytest.mark.django_db

OVERVIEW = address("trajectory", "overview/")


def today() -> date:
    return datetime.now(UTC).date()


def text_of(shown: str) -> str:
    """Return the text that a reader sees, with single blanks."""
    return " ".join(Markup(shown).text.split())


def tile(shown: str, name: str) -> str:
    found = re.search(rf"<dt>{name}</dt><dd class=\"tj-figure\">(?:<a [^>]*>)?([^<]*)<", shown)
    assert found, name
    return html.unescape(found[1])


def table(shown: str, title: str) -> list[list[str]]:
    """The rows of the table of a card, without the drawings in them."""
    card = shown.partition(f"<h2>{title}</h2>")[2].partition("</section>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", card.partition("<tbody>")[2], re.DOTALL)
    return [[text_of(cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)] for row in rows]


@pytest.fixture
def api() -> Client:
    """A client of the API for the tenant of the sample runs."""
    get_store().verify()
    return client_of(issue("alice")[1])


def test_its_figures_are_those_of_the_api(admin_client: Client, api: Client) -> None:
    archive_sample(120)
    since, until = today() - timedelta(days=6), today() + timedelta(days=1)
    expected = stats(api, started_since=since.isoformat(), started_until=until.isoformat(), bucket="day")
    shown = page(admin_client, f"{OVERVIEW}?period=7")
    assert tile(shown, "Runs") == f"{expected['count']:,}"
    assert tile(shown, "Success") == figures.percent(expected["success_rate"]["rate"])
    assert tile(shown, "Cost") == figures.money(expected["cost_usd"]["sum"])
    assert tile(shown, "Cost per success") == figures.money(expected["cost_per_success_usd"])
    assert tile(shown, "p95 time") == figures.span(expected["duration_ms"]["p95"])
    series = [[one["start"], figures.money(one["cost_usd"]["sum"])] for one in expected["series"]]
    assert table(shown, "Cost") == series[::-1]
    durations = [
        [one["start"], *(one["duration_ms"][name] for name in ("p50", "p95", "mean"))] for one in expected["series"]
    ]
    shown_durations = [[start, *map(figures.span, values)] for start, *values in reversed(durations)]
    assert table(shown, "Duration") == shown_durations
    models = {row[0]: row[2:] for row in table(shown, "Cost by model")}
    for group in expected["by_model"]:
        if group["cost_usd"]["sum"] is not None:
            assert models[group["model"]] == [figures.money(group["cost_usd"]["mean"]), f"{group['count']:,}"]
    policies = {row[0]: row[1] for row in table(shown, "Policies")}
    assert policies == {group["policy"]: f"{group['count']:,}" for group in expected["by_policy"]}
    assert {row[0] for row in table(shown, "Skipped phases")} == {
        group["phase"] for group in expected["skips"] if group["skipped"]["runs"]
    }


def test_skipping_a_phase_is_shown_with_what_runs_cost_then(admin_client: Client) -> None:
    sides = (("a", "success", 0.5), ("b", "success", 0.7), ("a", "skipped", 0.2), ("b", "skipped", 0.1))
    for kind, outcome, cost in sides:
        given = phase(phase_name="review", outcome=outcome) | ({"cost_usd": 0.05} if outcome == "success" else {})
        archived(body(phases=[given], request_type=kind, total_cost_usd=cost, started_at=f"{today()}T00:00:00Z"))
    (row,) = table(page(admin_client, OVERVIEW), "Skipped phases")
    assert row[1] == "2 / 2"
    assert row[-3:] == ["$0.600", "$0.150 -75 %", "$0.0500"]


def test_a_cell_of_the_heat_map_joins_every_selection_method(admin_client: Client) -> None:
    for method, outcome in (("explicit", "success"), ("explicit", "failure"), ("thompson-sampling", "success")) * 3:
        given = phase(phase_name="code", model="m", model_selection_method=method, outcome=outcome, cost_usd=0.5)
        archived(body(phases=[given], started_at=f"{today()}T00:00:00Z"))
    shown = page(admin_client, OVERVIEW)
    least = figures.percent(rate_of(6, 9)["low"])
    assert table(shown, "Models and phases") == [["m", f"67 % ≥ {least}, n = 9, own 67 %"]]
    assert 'class="tj-level-4"' in shown  # the lower bound is 35 %
    assert table(page(admin_client, f"{OVERVIEW}?cells=cost"), "Models and phases") == [["m", "$0.500 n = 9"]]
    for measure in heat.MEASURES:
        assert f"tj-heat-{measure}" in page(admin_client, f"{OVERVIEW}?cells={measure}")


def test_credited_success_is_shown_beside_that_of_the_phases_own_outcomes(admin_client: Client) -> None:
    given = phase(phase_name="code", model="m", model_selection_method="explicit", outcome="success")
    archived(body(phases=[given], tests_passed=False, started_at=f"{today()}T00:00:00Z"))
    shown = page(admin_client, OVERVIEW)
    (cell,) = table(shown, "Models and phases")
    assert (cell[1][:4], cell[1][-14:]) == ("0 % ", "n = 1, own 100 %"[-14:])
    (method,) = table(shown, "How models were chosen")
    assert [rate.split(" (")[0] for rate in method[2:4]] == ["0 %", "100 %"]
    assert "Credited success by the rule checks" in shown


def test_a_cell_of_fewer_than_five_is_grey(admin_client: Client) -> None:
    for _ in range(4):
        archived(body(phases=[phase(model="m", outcome="success")], started_at=f"{today()}T00:00:00Z"))
    shown = page(admin_client, OVERVIEW)
    assert 'class="tj-few"' in shown
    assert "tj-level-" not in shown


def test_each_figure_leads_to_its_runs(admin_client: Client, api: Client) -> None:
    archive_sample(60)
    shown = page(admin_client, f"{OVERVIEW}?period=28&request_type=bugfix")
    links = {
        html.unescape(link) for link in re.findall(r'href="([^"]*)"', shown) if address("trajectory") + "?" in link
    }
    asked = [dict(parse_qsl(urlsplit(link).query)) for link in links]
    assert all(given.pop("tenant") == "alice" and given["request_type"] == "bugfix" for given in asked)
    # Every one is a filter of the API that matches runs; those of the tiles too.
    assert {given.get("outcome") for given in asked} == {"success", None}
    assert any(given.get("min_duration_ms") for given in asked)
    assert {name for given in asked for name in given} >= {"model", "phase", "policy", "project", "selection_method"}
    for given in asked:
        assert stats(api, **given)["count"] > 0, given


def test_a_filter_limits_every_figure(admin_client: Client) -> None:
    archive_sample(60)
    whole, one = page(admin_client, OVERVIEW), page(admin_client, f"{OVERVIEW}?project=importer")
    assert int(tile(one, "Runs")) < int(tile(whole, "Runs"))
    assert [row[0] for row in table(one, "Projects")] == ["importer"]
    assert '<option value="importer" selected>' in one
    assert "storefront" in one  # the others can still be chosen


def test_the_sentence_names_the_change(admin_client: Client) -> None:
    for day, outcomes in ((1, "sssss"), (10, "sfffffff")):
        for outcome in outcomes:
            given = {"s": "success", "f": "failure"}[outcome]
            archived(body(outcome=given, total_cost_usd=1, started_at=f"{today() - timedelta(days=day)}T12:00:00Z"))
    assert (
        "In the last 7 days, 5 runs started, 3 fewer than in the 7 days before; 100 % succeeded, higher than the 12 % before; "
        "they cost $5.00 (-38 %)."
    ) in page(admin_client, f"{OVERVIEW}?period=7")
    assert "Over all time, 13 runs started; 46 % of those with a known outcome" in page(
        admin_client, f"{OVERVIEW}?period=all"
    )


def test_runs_without_a_start_are_counted_by_their_recording(admin_client: Client) -> None:
    archive_sample(1, started_at=None)
    shown = page(admin_client, OVERVIEW)
    assert tile(shown, "Runs") == "1"
    assert "no run of this period has a start time" in shown
    assert "since=" in shown
    assert "started_since=" not in shown
    assert "No runs here" in page(admin_client, f"{OVERVIEW}?clock=started")


def test_a_store_without_runs_says_how_to_record_one(admin_client: Client) -> None:
    Tenant.objects.create(slug="alice")
    shown = page(admin_client, OVERVIEW)
    assert "curl -sS http://testserver/v1/agent/trajectories" in shown
    archived(body(started_at="2026-01-05T00:00:00Z"), at_us=1)
    get_store().hot_cache.clear()
    shown = page(admin_client, f"{OVERVIEW}?period=7")
    assert "No run of the last 7 days matches" in shown
    assert "<svg class" not in shown.replace('<svg xmlns="http://www.w3.org/2000/svg" class', "")


def test_without_a_tenant_it_names_a_remedy(admin_client: Client) -> None:
    assert "There is no tenant yet" in page(admin_client, OVERVIEW)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ("period=yesterday..", "&#x27;period&#x27; must have dates such as 2026-01-05..2026-01-31."),
        ("period=2026-02-01..2026-01-01", "is before the first: 2026-02-01..2026-01-01."),
        ("period=2026-01-01..9999-12-31", "must have dates"),
        ("project=%00", "project has a NUL character"),
        ("tenant=%00", "There is no tenant"),
    ],
)
def test_a_bad_address_is_a_sentence(asked: str, why: str, admin_client: Client) -> None:
    archive_sample(1)
    assert why in page(admin_client, f"{OVERVIEW}?{asked}")


def test_dates_of_the_address_are_a_period(admin_client: Client) -> None:
    archived(body(started_at="2026-01-05T12:00:00Z"))
    shown = page(admin_client, f"{OVERVIEW}?period=2026-01-05..2026-01-05&cells=cost")
    assert "In 2026-01-05..2026-01-05, 1 run started" in shown
    # The form keeps what it has no field for.
    assert '<option value="2026-01-05..2026-01-05" selected>' in shown
    assert '<input type="hidden" name="cells" value="cost">' in shown


@pytest.fixture
def path_prefix() -> Iterator[str]:
    """The path below which the site is, as its server names it."""
    set_script_prefix("/store/")
    yield "/store/"
    clear_script_prefix()


def test_links_stay_below_the_path_of_the_site(admin_client: Client, path_prefix: str) -> None:
    archive_sample(20)
    for url in (OVERVIEW, address("trajectory", "compare/?b_policy=router@2")):
        links = {link for link in Markup(page(admin_client, url)).addresses if link and link[0] not in "?#"}
        pages = {link for link in links if not link.startswith("/static/")} - {"/"}  # Django's link to the site
        assert len(pages) > 10
        assert not [link for link in pages if not link.startswith(path_prefix)]


def test_it_takes_as_many_queries_and_stats_for_fifty_runs_as_for_one(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    answer = reads.stats

    def counted(*args: Any, **given: Any) -> dict[str, Any]:
        asked.append(1)
        return answer(*args, **given)

    monkeypatch.setattr(reads, "stats", counted)

    def work() -> tuple[int, int]:
        get_store().hot_cache.clear()
        page(admin_client, OVERVIEW)  # fills the hot cache
        asked.clear()
        with CaptureQueriesContext(connections["default"]) as captured:
            page(admin_client, OVERVIEW)
        return len(captured), len(asked)

    archive_sample(1)
    for_one = work()
    archive_sample(50)
    assert work() == for_one
    assert for_one[1] <= 5


def staff(*slugs: str, may_view: bool = True, **fields: str) -> Client:
    user = baker_recipes.staff_of(*slugs, **fields)
    names = ["view_trajectory"] if may_view else ["view_tenant"]
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def two_tenants() -> None:
    archive_sample(12, project="of-alice")
    archive_sample(8, tenant="bob", project="of-bob")


@pytest.mark.parametrize("url", [OVERVIEW, address("trajectory", "compare/"), "/admin/"])
def test_staff_see_the_tenants_of_their_groups_alone(url: str, two_tenants: None) -> None:
    shown = page(staff("alice"), url)
    assert "of-alice" in shown
    assert "bob" not in shown


def test_a_tenant_that_one_may_not_see_is_as_one_that_does_not_exist(two_tenants: None) -> None:
    alices = staff("alice")
    for path in ("overview/", "compare/"):
        url = address("trajectory", path)
        theirs, missing = (page(alices, f"{url}?tenant={slug}") for slug in ("bob", "eve"))
        token = r'value="\w{64}"'
        assert re.sub(token, "", theirs).replace("bob", "eve") == re.sub(token, "", missing)
        assert "of-bob" not in theirs
        assert "There is no tenant bob, or your groups do not let you see it." in theirs


def test_staff_without_the_permission_see_no_figures(two_tenants: None) -> None:
    client = staff("alice", may_view=False)
    for path in ("overview/", "compare/", "compare/runs/"):
        assert client.get(address("trajectory", path)).status_code == 403
    assert "tj-page" not in page(client, "/admin/")


def test_a_person_may_choose_among_tenants(admin_client: Client, two_tenants: None) -> None:
    assert tile(page(admin_client, OVERVIEW), "Runs") == "12"  # the one with most records
    shown = page(admin_client, f"{OVERVIEW}?tenant=bob")
    assert tile(shown, "Runs") == "8"
    assert "<option selected>bob</option>" in shown


def test_visitors_are_sent_to_the_login(client: Client) -> None:
    answer = client.get(OVERVIEW)
    assert answer.status_code == 302
    assert "/login/" in answer["Location"]


@pytest.mark.parametrize("is_complete", [True, False])
def test_runs_that_may_not_be_counted_are_said(
    is_complete: bool, admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive_sample(5)
    answer = reads.stats

    def stats_of(*args: Any, **given: Any) -> dict[str, Any]:
        found = answer(*args, **given)
        return found | {"window": found["window"] | {"complete": is_complete}}

    monkeypatch.setattr(reads, "stats", stats_of)
    for url in (OVERVIEW, address("trajectory", "compare/?b_policy=router@2")):
        assert ("some runs may not be counted" in page(admin_client, url)) is not is_complete


def test_a_store_that_does_not_answer_is_a_sentence(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    archive_sample(1)
    monkeypatch.setattr(reads, "stats", Mock(side_effect=TooManyReads("Too many long reads of this tenant.")))
    assert "Too many long reads of this tenant." in page(admin_client, OVERVIEW)


def test_hostile_text_is_shown_as_text() -> None:
    texts = [*INJECTIONS.values(), "x" * 500]
    shown = {}
    for tenant, used in (("alice", [f"{HARMLESS} {at:02}" for at in range(len(texts))]), ("bob", texts)):
        # Counts differ, so that both are ordered alike.
        for at, text in enumerate(used):
            one = {
                "phase_name": text,
                "model": text,
                "model_selection_method": text,
                "cost_usd": 1,
                "outcome": "success",
            }
            phases = [one] * (at + 1) + [{"phase_name": text, "outcome": "skipped"}] * (at + 1)
            names = dict.fromkeys(("project", "request_type", "policy", "source"), text)
            given = body(**names, phases=phases, total_cost_usd=99 + at, started_at=f"{today()}T00:00:00Z")
            archived(given, tenant=tenant)
        user = staff(tenant, username=tenant)
        shown[tenant] = [page(user, f"{url}?period=7") for url in (OVERVIEW, address("trajectory", "compare/"))]
    for ours, theirs in zip(shown["alice"], shown["bob"], strict=True):
        assert Markup(theirs).elements == Markup(ours).elements
        assert not [given for given in Markup(theirs).addresses if given and given[0] not in "/?.#"]
    # Each card shows the twelve largest.
    for text in texts[-12:]:
        assert " ".join(figures.label(text).split()) in text_of(shown["bob"][0])
