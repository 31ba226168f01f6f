"""The admin shows the archive read-only."""

from __future__ import annotations

import html

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from tests.admin.rows import AT_US, address, archived, page, page_of, quarantined, text_of
from tests.examples import REFERENCE, body, phase
from trajectories.admin import formatting
from trajectories.domain.text import visible
from trajectories.models import Phase

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("model", ["trajectory", "phase", "quarantined"])
def test_a_superuser_may_look_at_the_mirror_and_nothing_else(model: str, admin_client: Client) -> None:
    rows = {
        "trajectory": (trajectory := archived(REFERENCE)),
        "phase": Phase.objects.get(trajectory=trajectory),
        "quarantined": quarantined(REFERENCE, "too long"),
    }
    assert admin_client.get(page_of(rows[model])).status_code == 200
    assert admin_client.get(address(model, "add/")).status_code == 403
    assert admin_client.get(page_of(rows[model], "delete")).status_code == 403
    assert admin_client.post(page_of(rows[model]), {"outcome": "failure"}).status_code == 403
    asked = {"action": "delete_selected", "_selected_action": [rows[model].pk], "post": "yes"}
    admin_client.post(address(model), asked)
    rows[model].refresh_from_db()


def test_a_trajectory_is_shown_in_words(admin_client: Client) -> None:
    row = archived(
        REFERENCE | {"started_at": "2026-01-05T22:00:00+02:00", "tags": ["nightly", "a,b"], "error": "no disk"}
    )
    shown = text_of(page(admin_client, page_of(row)))
    for expected in (
        "Request: Add user authentication to the API",
        "Cost: $0.057",
        "Duration: 17.5 s",
        "Input tokens: 1,500",
        "Started: 2026-01-05 20:00:00.000000 UTC",
        "Recorded: 2026-01-05 23:58:46.123456 UTC",
        "Tags: nightly, a,b",
        "Error: no disk",
        "1 spec product-manager anthropic/claude-sonnet-4 thompson-sampling success credited success file_read, grep 1,500 800 $0.012 2.5 s",
        '"total_duration_ms": 17500',
        '"recorded_at": "2026-01-05T23:58:46.123456Z"',
    ):
        assert expected in shown
    listed = text_of(page(admin_client, address("trajectory")))
    for expected in (
        "success Add user authentication to the API alice my-project feature spec: success, 2.5 s claude-sonnet-4",
        "$0.0570 17.5 s 2026-01-05 23:58:46",
    ):
        assert expected in listed


def test_the_page_of_a_run_shows_its_policy_parent_and_unattributed_cost(admin_client: Client) -> None:
    parent = "7d1f0c8a-4f5e-4b6e-9a55-0a4c1d2e3f40"
    phases = [phase(phase_id="spec-1", fit="underpowered", outcome="success", cost_usd=0.75)]
    row = archived(body(policy="router@2", parent_id=parent, total_cost_usd=0.5, phases=phases))
    shown = text_of(page(admin_client, page_of(row)))
    for expected in ("Policy: router@2", f"Parent id: {parent}", "Unattributed cost: -$0.25"):
        assert expected in shown
    assert "1 spec spec-1 - - - success credited success underpowered" in shown
    of_phase = text_of(page(admin_client, page_of(Phase.objects.get())))
    assert "Phase id: spec-1" in of_phase
    assert "Fit: underpowered" in of_phase


def test_a_phase_shows_the_outcome_that_the_checks_of_its_run_gave_it(admin_client: Client) -> None:
    row = archived(body(phases=[phase(phase_name="implement", outcome="success")], tests_passed=False))
    assert "1 implement - - - success credited failure" in text_of(page(admin_client, page_of(row)))
    assert "Outcome: success Credited outcome: failure" in text_of(page(admin_client, page_of(Phase.objects.get())))
    assert "success failure" in text_of(page(admin_client, address("phase")))


def test_an_unknown_value_is_shown_as_a_dash(admin_client: Client) -> None:
    row = archived(body(phases=[phase(outcome="skipped", skip_reason="too simple")]))
    shown = text_of(page(admin_client, page_of(row)))
    assert "Cost: - Duration: - Input tokens: - Output tokens: -" in shown
    assert "1 spec - - - skipped too simple - - - - -" in shown
    assert "None" not in shown
    assert "None" not in text_of(page(admin_client, address("phase")))
    assert "None" not in text_of(page(admin_client, page_of(Phase.objects.get())))


def test_client_text_cannot_become_markup(admin_client: Client) -> None:
    evil = "<script>alert(1)</script>"
    row = archived(
        body(request_summary=evil, project=evil, error=evil, phases=[phase(phase_name=evil, tools_used=[evil])])
    )
    refused = quarantined(body(request_summary=evil), error=evil)
    pages = [*map(address, ("trajectory", "phase", "quarantined")), page_of(row), page_of(refused)]
    for url in [*pages, page_of(Phase.objects.get())]:
        shown = page(admin_client, url)
        assert evil not in shown
        assert html.escape(evil) in shown


def test_a_summary_that_the_changelist_cuts_inside_an_escape_is_still_shown(admin_client: Client) -> None:
    for length in range(330, 345):
        summary = "x" * length + '"\\\u0001é' * 20
        row = archived(body(request_summary=summary))
        assert visible(summary).startswith(formatting.summary(row.body[:400]))
        assert formatting.summary(row.body) == visible(summary)
    assert page(admin_client, address("trajectory")).count("x" * 90) == 15


def test_a_quarantined_record_shows_its_error_and_its_body(admin_client: Client) -> None:
    row = quarantined(REFERENCE, error="value too long")
    shown = text_of(page(admin_client, page_of(row)))
    assert "Error: value too long" in shown
    assert '"request_summary": "Add user authentication to the API"' in shown
    row.body = b"\xff not JSON"
    row.save()
    assert r"\xff not JSON" in text_of(page(admin_client, page_of(row)))


def test_a_phase_leads_to_its_trajectory(admin_client: Client) -> None:
    row = archived(REFERENCE)
    assert f'href="{page_of(row)}"' in page(admin_client, address("phase"))
    assert f'href="{page_of(row)}"' in page(admin_client, page_of(Phase.objects.get()))


def test_times_are_those_of_the_current_zone_with_and_without_use_tz(settings: Settings) -> None:
    with timezone.override("Asia/Tokyo"):
        assert formatting.moment(AT_US) == "2026-01-06 08:58:46.123456 JST"
        assert formatting.moment(AT_US, timespec="seconds") == "2026-01-06 08:58:46"
        settings.USE_TZ = False
        assert formatting.moment(AT_US, timespec="seconds") == "2026-01-06 08:58:46"


def test_the_first_and_the_last_moment_are_shown_in_any_zone() -> None:
    first, last = -62_135_596_800_000_000, 253_402_300_799_999_999
    for zone in ("Asia/Tokyo", "America/New_York"):
        with timezone.override(zone):
            assert str(formatting.moment(first)).startswith("0001-01-01")
            assert str(formatting.moment(last)).startswith("9999-12-31")


@pytest.mark.parametrize(
    ("nano", "shown"),
    [
        (None, None),
        (0, "$0.00"),
        (1, "$0.000000001"),
        (500_000_000, "$0.50"),
        (12_660_000, "$0.01266"),
        (1_234_000_000_000, "$1,234.00"),
    ],
)
def test_costs_are_exact(nano: int | None, shown: str | None) -> None:
    assert formatting.usd(nano) == shown


@pytest.mark.parametrize(
    ("us", "shown"),
    [
        (None, None),
        (0, "0 ms"),
        (1, "0.001 ms"),
        (999_999, "999.999 ms"),
        (1_000_000, "1.0 s"),
        (59_999_999, "59.9 s"),
        (60_000_000, "1 m 0 s"),
        (3_599_999_999, "59 m 59 s"),
        (3_600_000_000, "1 h 0 m"),
        (10**16, "2,777,777 h 46 m"),
    ],
)
def test_durations_are_short(us: int | None, shown: str | None) -> None:
    assert formatting.duration(us) == shown
