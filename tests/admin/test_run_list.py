"""Find a run: by words, by every filter of the API, by saved views, and as it arrives."""

from __future__ import annotations

import html
import re
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests import baker_recipes
from tests.admin.rows import AT_US, address, archived, page, page_of
from tests.examples import body, phase
from trajectories.admin import run_list, runs
from trajectories.domain.clock import now_us
from trajectories.domain.query import FILTERS, encode_cursor
from trajectories.domain.record import LOWEST_ID, Position
from trajectories.models import SearchEntry
from trajectories.storage import search_index
from trajectories.workspace import SavedView

pytestmark = pytest.mark.django_db

LIST = address("trajectory")
LIVE = address("trajectory", "live/")


def named(name: str, **fields: Any) -> Any:
    return archived(body(request_summary=name, **fields))


def found(client: Client, **asked: str) -> list[str]:
    return sorted(re.findall(r">(mine|other|third)(?: <|</a>)", page(client, f"{LIST}?{urlencode(asked)}")))


def staff(*codenames: str, tenant: str = "alice", username: str = "charlie") -> Client:
    user: User = baker_recipes.staff_of(tenant, username=username)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client


# --- Words


@pytest.mark.parametrize("common", [search_index.COMMON, 0])
def test_a_search_finds_words_wherever_they_are_and_ids(
    common: int, admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With 0, every word is one of those that are too common to be collected first.
    monkeypatch.setattr(search_index, "COMMON", common)
    named("mine", project="soar", tags=["nightly"])
    named("mine", phases=[phase(error="SOAR: the disk is full", model="x/claude-4")])
    other = archived(body(request_summary="other", source="cli"), tenant="bob")
    assert found(admin_client, q="soar") == found(admin_client, q="SOA") == ["mine", "mine"]
    assert found(admin_client, q="disk claude soar") == found(admin_client, q="night") == ["mine"]
    assert found(admin_client, q="cli", tenant="bob") == ["other"]
    assert found(admin_client, q=f" {other.trajectory_id} ") == ["other"]
    assert found(admin_client, q="disk nightly") == found(admin_client, q="cli", tenant="alice") == []


def test_staff_find_words_of_their_tenants_only() -> None:
    named("mine", error="secretword")
    archived(body(request_summary="other", error="secretword"), tenant="bob")
    assert found(staff("view_trajectory"), q="secretword") == ["mine"]


def test_a_search_says_so_while_it_lacks_earlier_runs_and_still_finds_names(admin_client: Client) -> None:
    named("mine", project="!!!")
    assert "fill_search" not in page(admin_client, f"{LIST}?q=mine")
    assert found(admin_client, q="!!!") == ["mine"]
    SearchEntry.objects.all()._raw_delete("default")
    search_index._insert("default", [(search_index.BACKLOG, [])])
    named("other", project="soar")
    named("third", source="soar")
    SearchEntry.objects.exclude(pk=search_index.BACKLOG)._raw_delete("default")
    assert "fill_search" in page(admin_client, f"{LIST}?q=mine")
    assert found(admin_client, q="soar") == ["other", "third"]


# --- Filters

MATCHING = {
    "project": "p",
    "source": "s",
    "request_type": "t",
    "policy": "router@1",
    "outcome": "partial",
    "phase": "code",
    "model": "m",
    "selection_method": "explicit",
    "agent": "a",
    "tool": "grep",
    "credited": "failure",
    "fit": "failed",
    "build_passed": "true",
    "tests_passed": "false",
    "tag": "x,y",
    "since": "2026-01-05",
    "until": "2026-01-06",
    "started_since": "2026-01-05",
    "started_until": "2026-01-06",
    "min_cost_usd": "0.5",
    "max_cost_usd": "0.5",
    "min_duration_ms": "10",
    "max_duration_ms": "10",
}


def test_every_filter_of_the_api_is_a_chip_that_can_be_removed(admin_client: Client) -> None:
    assert set(MATCHING) == set(FILTERS) - {"q"}
    ran = phase(
        phase_name="implementation",
        model="m",
        model_selection_method="explicit",
        agent="a",
        tools_used=["grep"],
        fit="failed",
    )
    plain = {name: MATCHING[name] for name in ("project", "source", "request_type", "policy", "outcome")}
    checks = {"build_passed": True, "tests_passed": False, "tags": ["x,y"], "started_at": "2026-01-05T12:00:00Z"}
    named("mine", **plain, **checks, total_cost_usd=0.5, total_duration_ms=10, phases=[ran])
    archived(body(request_summary="other"), at_us=AT_US - 10 * 86_400_000_000)
    archived(body(request_summary="third", total_cost_usd=0.1, total_duration_ms=1), at_us=now_us())
    assert found(admin_client) == ["mine", "other", "third"]
    for name, value in MATCHING.items():
        rows = found(admin_client, **{name: value})
        assert "mine" in rows, name
        assert len(rows) < 3, name
    shown = page(admin_client, f"{LIST}?{urlencode(MATCHING)}")
    assert shown.count('class="tj-chip"') == len(MATCHING)
    without = re.search(r'class="tj-chip" href="\?([^"]*)" aria-label="Remove the filter policy"', shown)
    assert without
    assert "policy=" not in without[1]
    assert "project=p" in without[1]
    assert found(admin_client, **MATCHING) == ["mine"]


def test_one_phase_must_satisfy_every_condition_on_phases(admin_client: Client) -> None:
    named("mine", phases=[phase(model="m", agent="a")])
    named("other", phases=[phase(model="m"), phase(agent="a")])
    assert found(admin_client, model="m", agent="a") == ["mine"]


def test_the_form_adds_a_filter_to_the_address(admin_client: Client) -> None:
    answer = admin_client.get(LIST, {"q": "x", "p": "2", "filter": "project", "value": " soar & co "})
    assert (answer.status_code, answer["Location"]) == (302, "?q=x&project=soar+%26+co")


def test_an_invalid_filter_finds_nothing_and_says_why(admin_client: Client) -> None:
    named("mine")
    shown = page(admin_client, f"{LIST}?outcome=great")
    assert "Outcome must be one of success, failure, partial, unknown, got &#x27;great&#x27;." in shown
    assert found(admin_client, min_cost_usd="cheap") == found(admin_client, since="soon") == []


def test_an_empty_list_says_how_to_record_the_first_run_or_that_none_matches(admin_client: Client) -> None:
    for asked in ("", "?tenant=alice&outcome=", "?live=1&strip=duration&size=25&o=-1"):
        empty = html.unescape(page(admin_client, LIST + asked))
        assert "curl -sS http://testserver/v1/agent/trajectories" in empty
        assert "No run matches" not in empty
    named("mine", outcome="failure")
    assert "curl" not in page(admin_client, LIST)
    for asked in ("?outcome=success", "?q=other"):
        unmatched = page(admin_client, LIST + asked)
        assert "No run matches." in unmatched
        assert "curl" not in unmatched


def test_an_outcome_is_a_click_away_and_another_click_removes_it(admin_client: Client) -> None:
    named("mine", outcome="failure")
    named("other", outcome="success")
    shown = html.unescape(page(admin_client, f"{LIST}?project=&o=9"))
    links = dict(
        re.findall(
            r'<a href="(\?[^"]*)" role="button" aria-pressed="(?:true|false)" class="tj-toggle tj-mark[^>]*>(\w+)',
            shown,
        )
    )
    assert {word: href for href, word in links.items()}["failure"] == "?o=9&outcome=failure&project="
    assert found(admin_client, outcome="failure") == ["mine"]
    shown = html.unescape(page(admin_client, f"{LIST}?o=9&outcome=failure"))
    assert '<a href="?o=9" role="button" aria-pressed="true" class="tj-toggle tj-mark tj-outcome-failure">' in shown


# --- Rows


def strip(client: Client, asked: str = "") -> str:
    match = re.search(r'<span class="tj-strip">.*?</svg>', page(client, LIST + asked), re.DOTALL)
    assert match
    return match[0]


def test_the_strip_has_a_cell_a_phase_hatched_if_skipped_and_doubled_if_repeated(admin_client: Client) -> None:
    named("mine", phases=[phase(outcome="success"), phase(phase_name="x", outcome="skipped"), phase(outcome="failure")])
    cells = re.findall(r"<g><title>(.*?)</title>(.*?)</g>", strip(admin_client))
    assert [title for title, _ in cells] == ["spec: success", "x: skipped", "spec: failure, run 2"]
    assert [(marks.count("<rect"), marks.count("tj-hatch")) for _, marks in cells] == [(1, 0), (2, 1), (2, 0)]


def test_the_strip_is_as_wide_as_the_durations_on_demand(admin_client: Client) -> None:
    named("mine", phases=[phase(duration_ms=1_000), phase(phase_name="x", duration_ms=3_000), phase(phase_name="y")])
    widths = [
        float(width) for width in re.findall(r'<rect [^>]*width="([\d.]+)"', strip(admin_client, "?strip=duration"))
    ]
    assert (widths[1] - 2) / (widths[0] - 2) == pytest.approx(3, rel=0.01)
    assert widths[2] == 2
    assert len(set(re.findall(r' width="([\d.]+)" height="14"', strip(admin_client)))) == 1


def test_a_row_of_two_hundred_phases_is_drawn_within_its_width(admin_client: Client) -> None:
    named("mine", phases=[phase(phase_name=f"p{number}") for number in range(200)])
    drawn = strip(admin_client)
    assert drawn.count("<g>") == run_list.MAX_CELLS
    assert (
        f'<svg width="{run_list.STRIP_WIDTH}"' in drawn.replace(".0", "")
        or int(re.findall(r'<svg width="(\d+)"', drawn)[0]) <= run_list.STRIP_WIDTH
    )
    assert f"+{200 - run_list.MAX_CELLS}" in page(admin_client, LIST)


def test_a_run_without_outcome_and_end_is_shown_as_running(admin_client: Client) -> None:
    named("mine")
    assert ">running<" in page(admin_client, LIST)
    assert ">running<" in page(admin_client, page_of(named("mine")))
    named("other", ended_at="2026-01-05T12:00:00Z")
    assert page(admin_client, LIST).count(">running<") == 2


def test_a_list_of_one_tenant_has_no_column_of_tenants() -> None:
    named("mine")
    assert "column-owner" not in page(staff("view_trajectory"), LIST)
    all_tenants = staff("view_trajectory", tenant="*", username="dora")
    assert "column-owner" in page(all_tenants, LIST)
    assert "column-owner" not in page(all_tenants, f"{LIST}?tenant=alice")


# --- New runs


def new(client: Client, after: Position, **asked: str) -> Any:
    answer = client.get(LIVE, {"after": encode_cursor(after), **asked})
    assert answer.status_code == 200
    return answer.json()


def test_the_live_list_counts_new_runs_of_its_filters_and_tenants(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = named("mine")
    after = Position(seen.recorded_at_us, seen.trajectory_id)
    assert new(admin_client, after) == {"new": 0, "is_more": False}
    archived(body(request_summary="other", project="p"), at_us=AT_US + 1)
    archived(body(request_summary="third", project="p"), tenant="bob", at_us=AT_US + 1)
    assert new(admin_client, after) == {"new": 2, "is_more": False}
    assert new(admin_client, after, project="nothing")["new"] == new(admin_client, after, q="nothing")["new"] == 0
    assert new(staff("view_trajectory"), after, project="p", q="other")["new"] == 1
    assert new(admin_client, after, nonsense__x="1")["new"] == 0
    monkeypatch.setattr(runs, "MAX_NEW", 1)
    assert new(admin_client, after) == {"new": 1, "is_more": True}


def test_the_live_list_refuses_others_and_a_position_that_is_none(admin_client: Client, client: Client) -> None:
    assert admin_client.get(LIVE, {"after": "x"}).status_code == 400
    after = {"after": encode_cursor(Position(0, LOWEST_ID))}
    assert client.get(LIVE, after).status_code == 302
    assert staff("view_phase").get(LIVE, after).status_code == 403


def test_the_page_of_the_live_list_says_where_to_ask(admin_client: Client) -> None:
    row = named("mine")
    shown = html.unescape(page(admin_client, f"{LIST}?live=1&project=x"))
    assert f'data-live="{LIVE}?project=x"' in shown
    shown = page(admin_client, f"{LIST}?live=1")
    assert f'data-after="{encode_cursor(Position(row.recorded_at_us, row.trajectory_id))}"' in shown
    assert "data-live" not in page(admin_client, LIST)


# --- Saved views

EDITOR = ("view_trajectory", "view_savedview", "add_savedview", "change_savedview", "delete_savedview")
ADD = address("savedview", "add/")


def test_a_saved_view_is_a_link_above_the_list_with_its_note() -> None:
    client = staff(*EDITOR)
    shown = html.unescape(page(client, f"{LIST}?project=p&q=x&p=1&live=1"))
    assert f'href="{ADD}?querystring=project%3Dp%26q%3Dx"' in shown
    answer = client.post(ADD, {"name": "Failing", "note": "Each Monday", "querystring": "?outcome=failure&p=3"})
    assert (answer.status_code, answer["Location"]) == (302, f"{LIST}?outcome=failure")
    link = 'href="?outcome=failure" title="Each Monday">Failing'
    assert link in page(client, LIST)
    view = SavedView.objects.get()
    assert (view.owner, view.tenant, view.is_shared) == ("charlie", "alice", False)
    assert link not in page(staff(*EDITOR, username="dora"), LIST)


@pytest.mark.parametrize(
    ("querystring", "why"),
    [
        ("nonsense=1", "The list has no filter &#x27;nonsense&#x27;"),
        ("outcome=great", "outcome must be one of"),
        ("tenant=bob", "You see no tenant &#x27;bob&#x27;."),
    ],
)
def test_a_view_that_the_list_cannot_show_is_refused(querystring: str, why: str) -> None:
    baker_recipes.tenant.make(slug="bob")
    answer = staff(*EDITOR).post(ADD, {"name": "x", "querystring": querystring})
    assert why in answer.content.decode()
    assert not SavedView.objects.exists()


def test_a_shared_view_is_seen_by_its_tenants_staff_and_changed_by_its_owner() -> None:
    owner, beside = staff(*EDITOR), staff(*EDITOR, username="dora")
    of_bob, of_all = staff(*EDITOR, tenant="bob", username="bert"), staff(*EDITOR, tenant="*", username="eve")
    for name, shared in (("For us", "on"), ("For me", "")):
        owner.post(ADD, {"name": name, "querystring": "tag=x", "is_shared": shared})
    view = SavedView.objects.get(name="For us")
    assert [("For us" in page(one, LIST), "For me" in page(one, LIST)) for one in (owner, beside, of_bob, of_all)] == [
        (True, True),
        (True, False),
        (False, False),
        (True, False),
    ]
    assert beside.post(page_of(view), {"name": "Theirs", "querystring": ""}).status_code == 403
    assert beside.post(page_of(view, "delete"), {"post": "yes"}).status_code == 403
    assert owner.post(page_of(view), {"name": "Ours", "querystring": "tag=y"}).status_code == 302
    view.refresh_from_db()
    assert (view.name, view.querystring, view.tenant, view.is_shared) == ("Ours", "tag=y", "alice", False)
    assert owner.post(page_of(view, "delete"), {"post": "yes"}).status_code == 302
    assert not SavedView.objects.filter(pk=view.pk).exists()


def test_views_and_notes_take_as_many_queries_for_thirty_as_for_one(admin_client: Client) -> None:
    named("mine")
    page(admin_client, LIST)
    counts = []
    for number in (1, 29):
        for at in range(number):
            SavedView.objects.create(name=f"{number}-{at}", owner="admin")
        with CaptureQueriesContext(connection) as captured:
            page(admin_client, LIST)
        counts.append(len(captured))
    assert counts[0] == counts[1]
