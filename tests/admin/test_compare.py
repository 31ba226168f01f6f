"""Comparisons of groups and of runs in the admin."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from tests import baker_recipes
from tests.admin.rows import address, archived, page
from tests.admin.sample import archive_sample
from tests.admin.test_overview import table, text_of
from tests.api.client import client_of, issue, stats
from tests.examples import body, phase
from tests.text.injections import HARMLESS, INJECTIONS
from tests.text.markup import Markup
from trajectories.admin import figures
from trajectories.admin.compare_runs import aligned, keys_of
from trajectories.domain.text import visible
from trajectories.models import AuditEntry, Phase, Trajectory
from trajectories.storage.store import get_store

pytestmark = pytest.mark.django_db

COMPARE, RUNS = address("trajectory", "compare/"), address("trajectory", "compare/runs/")
NOW = datetime.now(UTC)


def of(*rows: Trajectory) -> str:
    """The address that compares these runs."""
    return f"{RUNS}?" + "&".join(f"run={row.pk}" for row in rows)


def cells(shown: str, name: str) -> list[str]:
    """The cells of a line of the comparison of runs."""
    line = next(row for row in re.findall(r"<tr>.*?</tr>", shown, re.DOTALL) if f'<th scope="row">{name}</th>' in row)
    return [text_of(cell) for cell in re.findall(r"<td.*?</td>", line, re.DOTALL)]


# Groups.


def test_two_policies_have_the_figures_of_the_api(admin_client: Client) -> None:
    archive_sample(100)
    get_store().verify()
    api = client_of(issue("alice")[1])
    old, new = (stats(api, policy=policy) for policy in ("router@1", "router@2"))
    shown = page(admin_client, f"{COMPARE}?a_policy=router@1&b_policy=router@2")
    rows = {row[0]: row[1:] for row in table(shown, "Runs")}
    assert rows["Runs"][:2] == [f"{old['count']:,}", f"{new['count']:,}"]
    assert rows["Cost of a run"][:2] == [figures.money(one["cost_usd"]["mean"]) for one in (old, new)]
    assert rows["Success"][:2] == [
        f"{figures.interval(one['success_rate'])} of {one['success_rate']['known']}" for one in (old, new)
    ]
    assert rows["Success"][2] == figures.verdict(old["success_rate"], new["success_rate"])
    phases = [{group["phase"]: group for group in one["by_phase"]} for one in (old, new)]
    for row in table(shown, "Phases"):
        before, after = (side[row[0]] for side in phases)
        assert row[1].startswith(f"{before['count']:,} → ")
        for at, rate in ((2, "credited_success_rate"), (4, "success_rate")):
            assert row[at] == " → ".join(figures.percent(one[rate]["rate"]) for one in (before, after))


def test_where_the_interval_holds_nothing_it_says_so_in_words(admin_client: Client) -> None:
    for policy, outcomes in (("a", "sf"), ("b", "ss"), ("c", "f" * 20), ("d", "s" * 20)):
        for outcome in outcomes:
            archived(body(policy=policy, outcome={"s": "success", "f": "failure"}[outcome]))
    assert "Success 50 % → 100 %, not distinguishable (" in page(admin_client, f"{COMPARE}?a_policy=a&b_policy=b")
    assert "Success 0 % → 100 %, higher (" in page(admin_client, f"{COMPARE}?a_policy=c&b_policy=d")
    assert "B has no runs, so there is nothing to compare." in page(admin_client, f"{COMPARE}?a_policy=a&b_policy=x")


def test_without_groups_it_compares_the_last_period_with_the_one_before(admin_client: Client) -> None:
    for day, project in ((1, "new"), (30, "old"), (31, "old"), (100, "older")):
        archived(body(project=project, started_at=(NOW - timedelta(days=day)).isoformat()))
    shown = page(admin_client, COMPARE)
    assert table(shown, "Runs")[1][1:3] == ["2", "1"]
    # A filter without a side is of both.
    assert table(page(admin_client, f"{COMPARE}?project=old"), "Runs")[1][1:3] == ["2", "0"]


def test_any_filter_of_the_api_makes_a_group(admin_client: Client) -> None:
    for number in range(5):
        archived(body(tags=["t"] if number else [], total_cost_usd=number, phases=[phase(tools_used=["grep"])]))
    shown = page(admin_client, f"{COMPARE}?a_tag=t&b_min_cost_usd=3&tool=grep")
    assert table(shown, "Runs")[1][1:3] == ["4", "2"]
    # The form keeps what it has no field for.
    assert '<input type="hidden" name="a_tag" value="t">' in shown


def test_an_invalid_filter_is_said(admin_client: Client) -> None:
    archive_sample(1)
    shown = html.unescape(page(admin_client, f"{COMPARE}?a_started_since=yesterday"))
    assert "started_since must be a time with an offset" in shown


# Runs.


def test_phases_are_aligned_by_name_and_attempt(admin_client: Client) -> None:
    first = archived(
        body(
            total_cost_usd=1,
            outcome="failure",
            phases=[
                phase(
                    phase_name="implement",
                    attempt=1,
                    cost_usd=0.5,
                    duration_ms=1000,
                    input_tokens=100,
                    outcome="failure",
                ),
                phase(phase_name="implement", attempt=2, cost_usd=0.25, outcome="success"),
                phase(phase_name="test", outcome="skipped", skip_reason="no tests"),
            ],
        )
    )
    second = archived(
        body(
            total_cost_usd=3,
            outcome="success",
            phases=[
                phase(phase_name="implement", attempt=2, cost_usd=0.5, outcome="success"),
                phase(phase_name="review", outcome="success"),
                phase(phase_name="test", outcome="success"),
            ],
        )
    )
    shown = page(admin_client, of(first, second))
    assert [text.split(" Project")[0] for text in cells(shown, "Whole run")] == [
        "failure $1.00 1.0 s 100 tokens",
        "success was failure $3.00 +200 %",
    ]
    assert cells(shown, "implement") == ["failure: implement $0.500 1.0 s 100 tokens", "not in this run"]
    assert cells(shown, "implement, 2") == ["success: implement $0.250", "success: implement $0.500 +100 %"]
    assert cells(shown, "review") == ["not in this run", "success: review"]
    assert cells(shown, "test")[0] == "skipped: test no tests"
    names = re.findall(r'<th scope="row">([^<]*)</th>', shown)
    assert names == ["Whole run", "implement", "implement, 2", "review", "test"]


def test_a_comparison_says_in_words_what_differs_and_can_leave_out_the_rest(admin_client: Client) -> None:
    def run(outcome: str, model: str, cost_usd: float) -> Trajectory:
        phases = [
            phase(phase_name="plan", model="small", outcome="success"),
            phase(phase_name="build", model=model, outcome="success"),
        ]
        return archived(body(request_summary=f"with {model}", outcome=outcome, total_cost_usd=cost_usd, phases=phases))

    old, same, new = run("failure", "small", 2), run("failure", "small", 2), run("success", "large", 3)
    shown = page(admin_client, of(old, same, new))
    said = re.findall(r"<li>(.*?)</li>", shown[shown.index("tj-differences") :])[:2]
    assert [text_of(one) for one in said] == [
        "with small: failure as the first.",
        "with large: success, was failure; cost $2.00 → $3.00 (+50 %); 1 phase differs.",
    ]
    assert cells(shown, "build")[1:] == ["success: build small", "success: build large was small"]
    short = html.unescape(re.findall(r'href="([^"]*)">Show only phases that differ', shown)[0])
    names = re.findall(r'<th scope="row">([^<]*)</th>', page(admin_client, RUNS + short))
    assert names == ["Whole run", "build"]


def test_a_run_is_named_by_its_request_whether_or_not_bodies_are_compressed(
    admin_client: Client, settings: Settings
) -> None:
    plain = archived(body(request_summary="a plain request"))
    settings.TRAJECTORIES = settings.TRAJECTORIES | {"COMPRESS_BODIES": True}
    packed = archived(body(request_summary="a compressed request"))
    shown = page(admin_client, of(plain, packed))
    assert re.findall(r'<th scope="col"><a href="[^"]*">([^<]*)</a>', shown) == [
        "a plain request",
        "a compressed request",
    ]


def test_a_phase_leads_to_its_place_on_the_page_of_its_run(admin_client: Client) -> None:
    one, other = (archived(body(phases=[phase(), phase(phase_name="review")])) for _ in range(2))
    shown = page(admin_client, of(one, other))
    assert f'href="/admin/trajectories/trajectory/{other.pk}/change/#phase-2"' in shown
    assert 'id="phase-2"' in page(admin_client, f"/admin/trajectories/trajectory/{other.pk}/change/")


def test_keys_and_order() -> None:
    phases = [Phase(phase=name, attempt=attempt) for name, attempt in (("a", None), ("b", 1), ("a", None), ("a", 2))]
    assert keys_of(phases) == [("a", 1, 0), ("b", 1, 0), ("a", 1, 1), ("a", 2, 0)]
    a, b, c, d = (("a", 1, 0), ("b", 1, 0), ("c", 1, 0), ("d", 1, 0))
    assert aligned([[a, d], [a, b, d], [c, a, d]]) == [c, a, b, d]
    assert aligned([[], [a]]) == [a]


def test_the_action_leads_to_the_comparison_oldest_first(admin_client: Client) -> None:
    runs = archive_sample(5)

    def act(*rows: Trajectory) -> Any:
        data = {"action": "compare", "_selected_action": [row.pk for row in rows]}
        return admin_client.post(address("trajectory"), data)

    assert act(runs[2], runs[0])["Location"] == of(runs[0], runs[2])
    assert act(*runs[:4]).status_code == 302
    for wrong in (runs[:1], runs):
        assert act(*wrong)["Location"].startswith(address("trajectory"))
        assert "compare" not in act(*wrong)["Location"]
    assert "Select 2 to 4 runs to compare." in page(admin_client, address("trajectory"))


@pytest.mark.parametrize("asked", ["", "?run=1", "?run=1&run=1", "?run=1&run=2&run=3&run=4&run=5"])
def test_another_number_of_runs_says_how_to_choose(asked: str, admin_client: Client) -> None:
    assert "Choose 2 to 4 runs in the list" in page(admin_client, RUNS + asked)


@pytest.mark.parametrize("asked", ["?run=1&run=99", "?run=x&run=-1", "?run=%00&run=1", f"?run={10**30}&run=2"])
def test_runs_that_are_not_there_are_said(asked: str, admin_client: Client) -> None:
    assert "A run of this address was deleted" in page(admin_client, RUNS + asked)


def test_only_runs_that_one_may_see_are_compared(admin_client: Client) -> None:
    ours, theirs = archive_sample(2, project="of-alice"), archive_sample(2, tenant="bob", project="of-bob")
    user = baker_recipes.staff_of("alice")
    user.user_permissions.set(Permission.objects.filter(codename="view_trajectory"))
    client = Client()
    client.force_login(user)
    assert "of-alice" in page(client, of(*ours))
    hidden = page(client, of(ours[0], theirs[0]))
    assert "A run of this address was deleted, or your groups do not let you see it." in html.unescape(hidden)
    assert "of-bob" not in hidden
    assert "of-bob" in page(admin_client, of(ours[0], theirs[0]))


def test_a_comparison_is_in_the_audit_trail(admin_client: Client) -> None:
    runs = archive_sample(2)
    page(admin_client, of(*runs))
    noted = AuditEntry.objects.filter(action="view").values_list("tenant", "target", "count")
    assert sorted(noted) == sorted(("alice", str(row.trajectory_id), 1) for row in runs)


def test_it_takes_as_many_queries_for_fifty_phases_as_for_one(admin_client: Client) -> None:
    def queries(*rows: Trajectory) -> int:
        page(admin_client, of(*rows))
        with CaptureQueriesContext(connections["default"]) as captured:
            page(admin_client, of(*rows))
        return len(captured)

    few, many = ([archived(body(phases=[phase()] * count)) for _ in range(2)] for count in (1, 50))
    assert queries(*many) == queries(*few)


def test_hostile_text_is_shown_as_text(admin_client: Client) -> None:
    def shown(*texts: str) -> str:
        phases = [
            phase(phase_name=f"{at} {text}", model=text, outcome="skipped", skip_reason=text)
            for at, text in enumerate(texts)
        ]
        given = body(request_summary="".join(texts), project=texts[0], policy=texts[1], phases=phases)
        return page(admin_client, of(archived(given), archived(given)))

    texts = [*INJECTIONS.values(), "x" * 500]
    theirs = shown(*texts)
    assert Markup(theirs).elements == Markup(shown(*[HARMLESS] * len(texts))).elements
    for text in texts:
        assert " ".join(visible(text).split()) in text_of(theirs)
