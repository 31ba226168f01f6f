"""The page of one run: its figures, decisions, views and notes."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from tests import baker_recipes
from tests.admin.rows import AT_US, address, archived, page, page_of, text_of, with_outcome
from tests.credentials import CREDENTIALS
from tests.examples import REFERENCE, body, phase
from trajectories.admin import run_page
from trajectories.models import AuditEntry, Trajectory
from trajectories.workspace import Annotation

pytestmark = pytest.mark.django_db

CANDIDATES = [
    {"model": "small", "score": 0.4, "probability": 0.25},
    {"model": "large", "score": 0.8, "probability": 0.75, "score_parts": {"quality": 0.7}},
    {"model": "huge", "eligible": False, "reason": "over the budget"},
]


def decided(**fields: Any) -> dict[str, Any]:
    return phase(model="large", model_selection_method="explicit", candidates=CANDIDATES, **fields)


def test_a_bar_has_the_place_and_width_of_its_phase(admin_client: Client) -> None:
    times = {"started_at": "2026-01-05T12:00:00Z"}, {"started_at": "2026-01-05T12:00:10Z"}
    row = archived(body(phases=[decided(duration_ms=10_000, **times[0]), decided(duration_ms=30_000, **times[1])]))
    bars = re.findall(
        r'class="tj-bar tj-fill-unknown" x="([\d.]+)%" y="\d+" width="([\d.]+)%"', page(admin_client, page_of(row))
    )
    assert [(float(x), float(width)) for x, width in bars] == [(0, 25), (25, 75)]


def test_numbers_in_pictures_have_a_point_in_every_language(admin_client: Client, settings: Settings) -> None:
    settings.LANGUAGE_CODE, settings.USE_THOUSAND_SEPARATOR = "de", True
    row = archived(body(phases=[decided(duration_ms=1_000), decided(duration_ms=2_000)]))
    shown = page(admin_client, page_of(row)) + page(admin_client, page_of(row) + "?view=shape")
    assert 'width="33.333%"' in shown
    assert not re.search(r'(?:x|y|width|height|x1|x2)="\d*,\d', shown)


def test_a_decision_is_shown_with_candidates_probabilities_and_exclusions(admin_client: Client) -> None:
    attempts = [
        {"model": "huge", "outcome": "failure", "error": "overloaded"},
        {"model": "large", "outcome": "success"},
    ]
    row = archived(
        body(phases=[decided(requested_model="huge", attempts=attempts, tools_used=["grep", "edit", "grep"])])
    )
    shown = text_of(page(admin_client, page_of(row)))
    for expected in (
        "model that was asked for huge",
        "chosen by explicit",
        "huge chosen excluded over the budget",
        "large 75% 0.8 quality 0.7",
        "small 25% 0.4",
        "huge failure overloaded large success",
        "Tools 3 calls grep \u00d72 edit",
    ):
        assert expected in shown
    assert 'class="tj-meter-value" width="90.0"' in page(admin_client, page_of(row))


def test_tokens_of_the_cache_and_evidence_are_shown_apart(admin_client: Client) -> None:
    tokens = {"input_tokens": 4_000, "cached_input_tokens": 3_000, "cache_write_input_tokens": 500, "output_tokens": 70}
    evidence = {"log": "https://ci.example/7", "review": "by hand"}
    row = archived(body(phases=[phase(**tokens, reasoning_tokens=20, evidence=evidence)]))
    shown = page(admin_client, page_of(row))
    for expected in (
        "input tokens 4,000 of these from the cache 3,000 written to the cache 500 output tokens 70",
        "of these for reasoning 20",
        "Evidence log https://ci.example/7 review by hand",
    ):
        assert expected in text_of(shown)
    assert '<a href="https://ci.example/7" rel="noopener noreferrer">' in shown


def test_a_closed_phase_says_how_its_model_was_chosen_and_a_bar_which_it_is(admin_client: Client) -> None:
    phases = [
        decided(phase_name="code", selection_probability=0.75, duration_ms=1_000, cost_usd=0.01),
        phase(phase_name="wide", model="provider/huge", duration_ms=9_000),
    ]
    shown = page(admin_client, page_of(archived(body(phases=phases))))
    assert "explicit 75% large 1.0 s $0.01" in text_of(shown[shown.index('class="tj-summary-figures"') :])
    captions = [text_of(one) for one in re.findall(r'<text class="tj-caption".*?</text></a>', shown)]
    assert captions == ["1.0 s , $0.0100 , large", "9.0 s"]  # beside the wide bar is no room for its model


def test_an_error_is_never_cut_and_opens_its_phase(admin_client: Client) -> None:
    error = "line <b>\n" * 5_000 + "the end"
    row = archived(body(phases=[phase(error=error), phase()], error="all failed"))
    shown = page(admin_client, page_of(row))
    assert shown.count(html.escape(error)) == 1
    assert shown.count('<details class="tj-phase" open>') == 1
    assert '<pre tabindex="0">all failed</pre>' in shown


@pytest.mark.parametrize(
    ("value", "is_link"),
    [
        ("https://example.org/reviews/17?a=1#b", True),
        ("http://localhost:8080/log", True),
        ("javascript:alert(1)", False),
        ("java\nscript:alert(1)", False),
        ("data:text/html,x", False),
        ("s3://bucket/log", False),
        ("//example.org/log", False),
        ("https://user:word@example.org/", False),
        ("https://example.org/\u202egnp.exe", False),
        ("https://[broken", False),
        ("see https://example.org/", False),
    ],
)
def test_only_a_web_address_that_hides_nothing_is_a_link(value: str, is_link: bool) -> None:
    assert run_page.safe_address(value) == (value if is_link else None)


def test_totals_that_differ_from_the_phases_are_marked(admin_client: Client) -> None:
    shown = page(admin_client, page_of(archived(REFERENCE)))
    differing = [text_of(line) for line in re.findall(r'<tr class="tj-differs">(.*?)</tr>', shown)]
    assert differing == [
        "cost differs by $0.045 $0.057 $0.012 $0.057",
        "duration differs by 15.0 s 17.5 s 2.5 s 17.5 s",
        "phases differs by 1 2 1 1",
    ]
    assert "1 contradiction in this record" in text_of(shown)


def test_the_transcript_describes_the_run_in_sentences(admin_client: Client) -> None:
    phases = [
        decided(
            agent="developer",
            tools_used=["grep", "edit", "grep"],
            outcome="success",
            duration_ms=134_000,
            cost_usd=0.01,
        ),
        phase(phase_name="design", outcome="skipped", skip_reason="one file"),
    ]
    shown = text_of(page(admin_client, page_of(archived(body(phases=phases))) + "?view=transcript"))
    assert (
        "The agent developer worked with the model large. The model was chosen by name, among 3 models. huge was excluded:"
        " over the budget. It used grep 2 times and edit. It succeeded after 2 m 14 s and cost $0.01." in shown
    )
    assert "It was skipped: one file." in shown


def test_late_outcomes_are_shown_with_their_source_and_evidence(admin_client: Client) -> None:
    row = archived(body())
    assert "Late outcomes" not in page(admin_client, page_of(row))
    with_outcome(row, name="merged", value=True, evidence={"pull_request": "shop#12 <b>"})
    shown = page(admin_client, page_of(row))
    assert "<b>" not in shown
    assert "merged true run ci" in text_of(shown)
    assert "pull_request: shop#12 <b>" in html.unescape(shown)


def test_each_view_is_an_address_and_an_unknown_one_is_the_timeline(admin_client: Client) -> None:
    row = archived(body(phases=[decided()]))
    for view, mark in (
        ("", "tj-waterfall"),
        ("nonsense", "tj-waterfall"),
        ("shape", "tj-shape"),
        ("transcript", "tj-transcript"),
    ):
        shown = page(admin_client, f"{page_of(row)}?view={view}")
        assert re.findall(r'<section class="(tj-waterfall|tj-shape|tj-transcript)"', shown) == [mark]
    assert 'href="?view' not in shown
    assert 'view=timeline" data-key="v"' in shown


def test_a_large_run_has_a_page_of_bounded_size_and_a_constant_number_of_queries(admin_client: Client) -> None:
    models = [{"model": f"model-{number}", "score": number, "probability": 0} for number in range(200)]
    large = phase(candidates=models, tools_used=["grep"] * 50, error="x" * 500)
    loops = [{"from_phase": "spec", "to_phase": "spec"}] * 1_000
    small, row = archived(body(phases=[decided()])), archived(body(phases=[large] * 100, feedback_loops=loops))
    page(admin_client, page_of(small))  # the first page of a process also reads its content types
    counts = []
    for one in (small, row):
        with CaptureQueriesContext(connection) as captured:
            shown = page(admin_client, page_of(one))
        counts.append(len(captured))
    assert counts[0] == counts[1]
    assert "and 180 more in the JSON" in shown
    listed = shown[: shown.index('id="trajectories-json"')]
    assert shown.count("<tr class=") <= 100 * (run_page.MAX_LISTED + 1)
    assert len(listed) < 2_500_000


def neighbours(client: Client, row: Trajectory, filters: str) -> list[tuple[str, str]]:
    shown = page(client, f"{page_of(row)}?_changelist_filters={filters}")
    return re.findall(r'href="/admin/trajectories/trajectory/(\d+)/change/[^"]*" data-key="([kj])"', shown)


def test_the_next_and_the_previous_run_are_those_of_the_list_that_led_here(admin_client: Client) -> None:
    rows = [
        archived(body(request_summary=name, project=name), at_us=AT_US + number)
        for number, name in enumerate(("shop", "billing", "shop", "shop"))
    ]
    newest, oldest = (str(rows[3].pk), "k"), (str(rows[0].pk), "j")
    assert neighbours(admin_client, rows[2], "project%3Dshop") == [newest, oldest]
    assert neighbours(admin_client, rows[2], "q%3Dshop") == [newest, oldest]
    assert neighbours(admin_client, rows[2], "") == [newest, (str(rows[1].pk), "j")]
    assert neighbours(admin_client, rows[2], "nonsense__x%3D1") == []


# --- Notes


def staff(*codenames: str, tenant: str = "alice", username: str = "charlie") -> Client:
    user: User = baker_recipes.staff_of(tenant, username=username)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client


ANNOTATOR = ("view_trajectory", "add_annotation")


def test_a_note_has_author_and_time_and_is_listed_and_audited() -> None:
    client, row = staff(*ANNOTATOR), archived(body())
    sent = {"note": f"Look here, {CREDENTIALS[0][1]}", "tag": "check", "fit": "underpowered"}
    answer = client.post(page_of(row, "annotate") + "?view=shape", sent)
    assert (answer.status_code, answer["Location"]) == (302, f"{page_of(row)}?view=shape#annotations")
    note = Annotation.objects.get()
    assert (note.tenant_id, note.trajectory_id, note.author) == ("alice", row.trajectory_id, "charlie")
    assert CREDENTIALS[0][1] not in note.note
    shown = text_of(page(client, page_of(row)))
    assert re.search(r"check underpowered charlie, \d{4}-\d\d-\d\d \d\d:\d\d:\d\d Look here", shown)
    assert "1 note" in text_of(page(client, address("trajectory")))
    (entry,) = AuditEntry.objects.filter(action="annotate")
    assert (entry.actor, entry.tenant, entry.target) == ("user charlie", "alice", str(row.trajectory_id))


def test_an_empty_note_is_refused_with_a_reason() -> None:
    client, row = staff(*ANNOTATOR), archived(body())
    answer = client.post(page_of(row, "annotate"), {"note": " "}, follow=True)
    assert "Write a note, or choose a tag or a fit." in answer.content.decode()
    assert not Annotation.objects.exists()


def test_a_note_is_deleted_by_its_author_and_not_by_others() -> None:
    row = archived(body())
    author, other = staff(*ANNOTATOR), staff(*ANNOTATOR, username="dora")
    author.post(page_of(row, "annotate"), {"note": "mine"})
    pk = Annotation.objects.get().pk
    assert 'name="delete"' not in page(other, page_of(row))
    assert other.post(page_of(row, "annotate"), {"delete": pk}).status_code == 403
    assert Annotation.objects.exists()
    author.post(page_of(row, "annotate"), {"delete": pk})
    assert not Annotation.objects.exists()


def test_staff_with_view_permission_cannot_annotate() -> None:
    client, row = staff("view_trajectory"), archived(body())
    assert client.post(page_of(row, "annotate"), {"note": "x"}).status_code == 403
    assert "tj-annotate" not in page(client, page_of(row))
    assert not Annotation.objects.exists()
