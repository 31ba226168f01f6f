"""The page that evaluates a policy, and the alerts of a tenant in sentences."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.utils.http import urlencode

from tests.admin.rows import address, page, record
from tests.admin.test_overview import OVERVIEW, staff, table, text_of
from tests.learning.runs import many
from tests.learning.test_evaluate import logged_bodies
from trajectories.domain.clock import now_us
from trajectories.models import Tenant
from trajectories.storage.archive_writes import mirror

pytestmark = pytest.mark.django_db

EVALUATE = address("trajectory", "evaluate/")


def archive(bodies: Any, *, tenant: str = "alice") -> None:
    mirror([record(given, tenant=tenant, at_us=now_us() + at) for at, given in enumerate(bodies)])


def evaluated(client: Client, *pairs: tuple[str, str]) -> str:
    return page(client, f"{EVALUATE}?{urlencode(pairs)}")


def test_a_policy_has_estimates_with_intervals_and_the_evidence_for_them(admin_client: Client) -> None:
    archive(logged_bodies(200, {"small": 0.5, "large": 0.5}))
    shown = evaluated(admin_client, ("otherwise", "large"), ("request_type", "hard"), ("phase", "implementation"))
    assert "The policy would have earned " in text_of(shown)
    (done, ips, _, dr) = table(shown, "Value of the policy")
    assert done[0] == "What was done"
    assert (ips[0], dr[0]) == ("Inverse propensity (IPS)", "Doubly robust (DR)")
    assert 50 < float(dr[1].removesuffix(" %")) < 90  # the truth is 70 %
    assert all(" % to " in cell for cell in dr[2:])
    evidence = {name: value for name, value, _ in table(shown, "Evidence")}
    assert evidence["Overlap"] == "100.0 %"
    assert 30 < int(evidence["Effective sample size"]) < int(evidence["Decisions"]) < 200


def test_rules_decide_before_the_model_that_is_used_otherwise(admin_client: Client) -> None:
    archive(logged_bodies(200, {"small": 0.5, "large": 0.5}))

    def value(*pairs: tuple[str, str]) -> float:
        return float(table(evaluated(admin_client, *pairs), "Value of the policy")[3][1].removesuffix(" %"))

    rule = (("feature", "request_type"), ("value", "hard"), ("use", "large"))
    always = value(("otherwise", "small"))
    with_rule = value(*rule, ("feature", "phase"), ("value", ""), ("use", ""), ("otherwise", "small"))
    assert with_rule > always + 10  # large succeeds in 70 % of the hard ones, small in 20 %


@pytest.mark.parametrize(
    ("bodies", "said"),
    [
        (lambda: logged_bodies(40, None), "40 of 40 decisions have no propensity"),
        (lambda: logged_bodies(40, {"small": 1.0}), "The recorded policy never tries 100% of what this policy chooses"),
        (lambda: logged_bodies(5, {"small": 0.5, "large": 0.5}), "5 decisions have a propensity and a reward"),
    ],
    ids=["no propensity", "argmax", "five"],
)
def test_a_refusal_is_one_sentence(bodies: Any, said: str, admin_client: Client) -> None:
    archive(bodies())
    shown = evaluated(admin_client, ("otherwise", "large"))
    assert said in text_of(shown)
    assert "No estimate." in shown


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (
            [("use", "large"), ("feature", "mood"), ("value", "x"), ("otherwise", "a")],
            "Features are phase, request_type",
        ),
        ([("use", "large"), ("feature", "phase"), ("value", "x")], "Name the model that the policy uses otherwise."),
        ([("otherwise", "a" * 2_000)], "characters"),
        ([("otherwise", "a"), ("project", "\x00")], "project"),
        ([("otherwise", "a"), ("period", "1..2")], "'period' must have dates"),
    ],
    ids=["feature", "no model", "long", "NUL", "period"],
)
def test_an_invalid_policy_says_what_is_wrong(pairs: list[tuple[str, str]], said: str, admin_client: Client) -> None:
    archive(logged_bodies(1, None))
    assert said in text_of(evaluated(admin_client, *pairs))


def test_without_a_policy_nothing_is_evaluated_and_without_runs_it_says_how_to_record_one(admin_client: Client) -> None:
    Tenant.objects.create(slug="alice")
    shown = evaluated(admin_client)
    assert "curl -sS" in shown
    assert "Value of the policy" not in shown


def test_an_alert_is_a_sentence_that_leads_to_its_runs(admin_client: Client) -> None:
    archive([*many("a", 30, 0), *many("b", 2, 0)])
    for url in (OVERVIEW, EVALUATE):
        shown = page(admin_client, url)
        assert "a takes 94% of 32 choices at implement of bugfix" in text_of(shown)
        link = shown.partition("of bugfix")[2].partition('href="')[2].partition('"')[0].replace("&amp;", "&")
        assert "model=a" in link
        assert page(admin_client, link).count('class="action-select"') == 30


def test_staff_evaluate_the_tenants_of_their_groups_alone() -> None:
    archive([*many("model-of-alice", 30, 0), *many("b", 2, 0)])
    archive([*many("model-of-bob", 30, 0), *many("c", 2, 0)], tenant="bob")
    client = staff("alice")
    shown = evaluated(client, ("otherwise", "b"))
    assert "model-of-alice takes" in text_of(shown)
    assert "bob" not in shown
    assert "There is no tenant bob" in text_of(evaluated(client, ("tenant", "bob"), ("otherwise", "b")))
    assert staff("alice", may_view=False, username="dave").get(EVALUATE).status_code == 403
