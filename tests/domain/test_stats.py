"""The summary: exact sums, correct nulls, percentiles within their bound, and the same result for
any split."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import strategies
from tests.examples import REFERENCE, body, phase
from trajectories.api import stats_responses
from trajectories.domain import stats
from trajectories.domain.contract_types import MAX_COST_USD
from trajectories.domain.record import Facets, facets_of
from trajectories.domain.schema import canonical, parse
from trajectories.domain.stats import Summary, bucket_of, wilson

# As documented, and so not taken from the code.
MAX_GROUPS = 1_000
RELATIVE_ERROR = 0.01
WINDOW = {
    "from": None,
    "to": None,
    "tiers": ["hot"],
    "as_of": "2026-01-05T23:58:46Z",
    "complete": True,
    "computed_from": "records",
}


def facets(**fields: Any) -> Facets:
    return facets_of(canonical(parse(orjson.dumps(body(**fields)))))


def summary_of(*given: Facets) -> Summary:
    summary = Summary()
    for one in given:
        summary.add(one, 0)
    return summary


def shown(*given: dict[str, Any]) -> dict[str, Any]:
    """The JSON of bodies that have these fields."""
    return summary_of(*(facets(**fields) for fields in given)).as_json()


many_facets = st.lists(
    strategies.trajectories.map(lambda given: facets_of(canonical(parse(orjson.dumps(given))))), max_size=6
)


# Counting.


@given(many_facets, st.randoms(use_true_random=False))
def test_the_order_and_the_parts_in_which_it_was_counted_do_not_matter(given: list[Facets], random: Any) -> None:
    whole = summary_of(*given)
    shuffled = random.sample(given, len(given))
    parts = Summary()
    for at in range(0, len(given), 2):
        parts.merge(summary_of(*shuffled[at : at + 2]))
    assert orjson.dumps(parts.as_json()) == orjson.dumps(whole.as_json())


@given(many_facets, many_facets)
def test_subtracting_sums_restores_the_earlier_ones(kept: list[Facets], gone: list[Facets]) -> None:
    one_by_one, at_once = summary_of(*kept, *gone), summary_of(*kept, *gone)
    for facets_gone in gone:
        one_by_one.add(facets_gone, 0, times=-1)
    at_once.merge(summary_of(*gone), times=-1)
    expected = orjson.dumps(summary_of(*kept).as_json())
    assert orjson.dumps(one_by_one.as_json()) == orjson.dumps(at_once.as_json()) == expected


@given(many_facets)
def test_stats_have_the_documented_shape(given: list[Facets]) -> None:
    answer = summary_of(*given).as_json() | {"window": WINDOW}
    stats_responses.Stats.model_validate_json(orjson.dumps(answer))


@given(st.lists(st.integers(0, MAX_COST_USD * 10**9), min_size=1, max_size=50))
def test_sums_and_means_are_exact(nano_usd: list[int]) -> None:
    found = shown(*({"total_cost_usd": value / 10**9} for value in nano_usd))["cost_usd"]
    total = Fraction(sum(nano_usd), 10**9)
    assert (found["known"], found["sum"]) == (len(nano_usd), float(total))
    assert math.isclose(found["mean"], total / len(nano_usd), rel_tol=1e-15)


def test_ten_dimes_are_a_dollar() -> None:
    found = shown(*[{"total_cost_usd": 0.1}] * 10)["cost_usd"]
    assert (found["sum"], found["mean"]) == (1, 0.1)


def test_every_figure_is_counted_from_the_facet_of_its_name() -> None:
    one = facets(
        request_type="t", source="s", project="p", policy="r", outcome="partial", build_passed=True, tests_passed=False
    )
    figures: dict[str, Any] = {
        "cost_nano_usd": 2 * 10**9,
        "unattributed_nano_usd": -13 * 10**9,
        "duration_us": 3000,
        "input_tokens": 5,
        "output_tokens": 7,
        "tokens": 11,
    }
    a_phase = facets(phases=[phase(model="m", model_selection_method="x", outcome="skipped")]).phases[0]
    of_runs_only = ("tokens", "unattributed_nano_usd")
    phase_figures = {name: 10 * value for name, value in figures.items() if name not in of_runs_only}
    found = summary_of(one._replace(**figures, phases=(a_phase._replace(**phase_figures),))).as_json()
    (project,), (model,) = found["by_project"], found["by_model"]
    assert {name: project[name]["sum"] for name in ("cost_usd", "duration_ms", "tokens")} == {
        "cost_usd": 2,
        "duration_ms": 3,
        "tokens": 11,
    }
    assert project["unattributed_cost_usd"] == {"known": 1, "sum": -13, "mean": -13}
    assert (project["input_tokens"]["sum"], project["output_tokens"]["sum"]) == (5, 7)
    assert (model["cost_usd"]["sum"], model["duration_ms"]["sum"]) == (20, 30)
    assert (model["input_tokens"]["sum"], model["output_tokens"]["sum"]) == (50, 70)
    assert (project["project"], found["by_source"][0]["source"], found["by_request_type"][0]["request_type"]) == (
        "p",
        "s",
        "t",
    )
    assert (found["by_policy"][0]["policy"], found["by_policy"][0]["count"]) == ("r", 1)
    assert (project["build_pass_rate"]["rate"], project["test_pass_rate"]["rate"]) == (1, 0)
    assert (project["outcomes"]["partial"], model["outcomes"]["skipped"]) == (1, 1)
    assert (model["model"], found["by_selection_method"][0]["selection_method"]) == ("m", "x")


# Values shown.


def test_without_records_counts_are_zero_and_the_rest_is_null() -> None:
    nothing = shown()
    unknown_rate = {"known": 0, "rate": None, "low": None, "high": None}
    assert nothing["count"] == 0
    assert nothing["outcomes"] == {"success": 0, "failure": 0, "partial": 0, "unknown": 0}
    assert nothing["success_rate"] == nothing["build_pass_rate"] == nothing["test_pass_rate"] == unknown_rate
    unknown = {"known": 0, "sum": None, "mean": None, "p50": None, "p90": None, "p95": None, "p99": None}
    for measure in ("cost_usd", "duration_ms", "input_tokens", "output_tokens", "tokens"):
        assert nothing[measure] == unknown
    assert nothing["unattributed_cost_usd"] == {"known": 0, "sum": None, "mean": None}
    assert nothing["phases"]["skip_rate"] is None
    assert all(nothing[group] == [] for group in (*map("by_{}".format, stats.TRAJECTORY_KEY), *stats.PHASE_GROUPS))
    assert nothing["other"] == {}


def test_unknown_values_do_not_change_the_mean() -> None:
    found = shown({"total_cost_usd": 0.3}, {}, {"phases": [phase(cost_usd=0.1)]}, {"phases": [phase()]})
    assert found["count"] == 4
    assert (found["cost_usd"]["known"], found["cost_usd"]["mean"]) == (2, 0.2)
    assert found["duration_ms"]["sum"] is None


def test_the_cost_that_no_phase_accounts_for_is_summed_where_both_are_known() -> None:
    phases = [phase(cost_usd=0.1), phase(cost_usd=0.2), phase()]
    found = shown(
        {"total_cost_usd": 0.5, "phases": phases},
        {"total_cost_usd": 0.2, "phases": phases},
        {"phases": phases},
        {"total_cost_usd": 9},
        {},
    )
    assert found["unattributed_cost_usd"] == {"known": 3, "sum": 0.1, "mean": 0.1 / 3}


def test_rates_are_of_the_known_outcomes() -> None:
    found = shown({"outcome": "success"}, {"outcome": "partial"}, {"outcome": "unknown"}, {"build_passed": False})
    assert found["outcomes"] == {"success": 1, "failure": 1, "partial": 1, "unknown": 1}
    assert (found["success_rate"]["known"], found["success_rate"]["rate"]) == (3, 1 / 3)
    assert (found["build_pass_rate"]["known"], found["build_pass_rate"]["rate"]) == (1, 0)
    assert found["test_pass_rate"]["rate"] is None


def test_trajectories_are_grouped_by_type_source_and_project_the_unknown_among_them() -> None:
    found = shown({"project": "a", "source": "s"}, {"project": "a", "request_type": "bug"}, {"project": "b"}, {})
    assert [(group["project"], group["count"]) for group in found["by_project"]] == [("a", 2), ("b", 1), (None, 1)]
    assert [(group["source"], group["count"]) for group in found["by_source"]] == [(None, 3), ("s", 1)]
    assert [(group["request_type"], group["count"]) for group in found["by_request_type"]] == [(None, 3), ("bug", 1)]


def test_phases_are_grouped_by_alias_model_and_method() -> None:
    code = {"phase_name": "code", "model": "m", "outcome": "success", "cost_usd": 0.01}
    found = shown(
        {
            "phases": [
                phase(**code),
                phase(**code | {"phase_name": "implementation", "model_selection_method": "explicit"}),
            ]
        },
        {"phases": [phase(phase_name="Implement", outcome="skipped"), phase(outcome="failure")]},
    )
    assert found["phases"]["count"] == 4
    assert found["phases"]["skip_rate"] == 0.25
    assert [(group["phase"], group["count"], group["skip_rate"]) for group in found["by_phase"]] == [
        ("implement", 3, 1 / 3),
        ("spec", 1, 0),
    ]
    assert [(group["model"], group["count"]) for group in found["by_model"]] == [("m", 2), (None, 2)]
    methods = [(group["selection_method"], group["count"]) for group in found["by_selection_method"]]
    assert methods == [(None, 3), ("explicit", 1)]
    keys = [(g["phase"], g["model"], g["selection_method"], g["count"]) for g in found["by_phase_model"]]
    assert sorted(keys, key=str) == sorted(
        [
            ("implement", "m", "explicit", 1),
            ("implement", "m", None, 1),
            ("implement", None, None, 1),
            ("spec", None, None, 1),
        ],
        key=str,
    )


def test_value_per_dollar_is_the_lower_bound_of_success_over_the_mean_cost() -> None:
    (group,) = shown(
        {
            "phases": [
                phase(model="m", outcome="success", cost_usd=0.02),
                phase(model="m", outcome="failure", cost_usd=0.04),
            ]
        }
    )["by_phase_model"]
    low, _ = wilson(1, 2) or (0, 0)
    assert group["success_rate"]["low"] == low
    assert group["value_per_dollar"] == pytest.approx(low / (0.03 + 0.001), rel=1e-12)


def test_the_success_rate_of_phases_is_of_those_that_ran_to_a_known_end() -> None:
    outcomes = ("success", "failure", "partial", "skipped", "unknown", "success")
    (group,) = shown({"phases": [phase(outcome=outcome) for outcome in outcomes]})["by_phase"]
    assert (group["success_rate"]["known"], group["success_rate"]["rate"]) == (4, 0.5)
    assert group["skip_rate"] == 1 / 6


@pytest.mark.parametrize("fields", [{"outcome": "success"}, {"cost_usd": 0.1}, {"outcome": "skipped", "cost_usd": 0.1}])
def test_value_per_dollar_of_an_unknown_cost_or_success_is_unknown(fields: dict[str, Any]) -> None:
    assert shown({"phases": [phase(**fields)]})["by_phase_model"][0]["value_per_dollar"] is None


def test_beyond_a_thousand_groups_the_smallest_are_summed_as_other() -> None:
    projects = [f"p{number:04}" for number in range(MAX_GROUPS + 3)]
    given = [facets(project=project, total_cost_usd=0.1, phases=[phase(model=project)]) for project in projects]
    found = summary_of(*given, *given[:MAX_GROUPS]).as_json()
    assert len(found["by_project"]) == len(found["by_model"]) == MAX_GROUPS
    assert {group["count"] for group in found["by_project"]} == {2}
    assert set(found["other"]) == {"by_project", "by_model", "by_phase_model"}
    assert (found["other"]["by_project"]["groups"], found["other"]["by_project"]["count"]) == (3, 3)
    assert found["other"]["by_project"]["cost_usd"] == {"known": 3, "sum": 0.3, "mean": 0.1}
    assert [phase["count"] for phase in found["by_phase"]] == [found["phases"]["count"]] == [2 * MAX_GROUPS + 3]
    stats_responses.Stats.model_validate_json(orjson.dumps(found | {"window": WINDOW}))


@pytest.mark.parametrize("least", [3, MAX_GROUPS])
def test_groups_are_by_their_counts_then_by_name_and_the_one_without_a_name_is_last(least: int) -> None:
    names = [f"p{number:04}" for number in range(least)]
    given = [facets(project=project) if project else facets() for project in (None, *reversed(names), "z", "z")]
    shown = [group["project"] for group in summary_of(*given).as_json()["by_project"]]
    assert shown == ["z", *names, None][:MAX_GROUPS]


def test_the_reference_body_gives_its_own_figures() -> None:
    found = summary_of(facets_of(canonical(parse(orjson.dumps(REFERENCE))))).as_json()
    assert found["cost_usd"]["sum"] == 0.057
    assert found["duration_ms"]["sum"] == 17_500
    assert found["tokens"]["sum"] == 2_300
    assert found["by_phase"][0]["cost_usd"]["sum"] == 0.012
    assert found["build_pass_rate"]["rate"] == 1


# Credit, skips and series.


def rates(group: dict[str, Any]) -> tuple[float | None, float | None]:
    return group["success_rate"]["rate"], group["credited_success_rate"]["rate"]


def test_groups_of_phases_have_the_rate_by_outcome_and_the_rate_by_credit() -> None:
    code = {"phase_name": "code", "model": "m", "outcome": "success", "cost_usd": 0.1}
    runs = [{"phases": [code], "tests_passed": passed, "outcome": "success"} for passed in (True, True, False)]
    by_rule = {
        rule: summary_of(*(facets(**fields) for fields in runs)).as_json(rule)
        for rule in ("checks", "phase_outcome", "run_outcome")
    }
    (group,) = by_rule["checks"]["by_model"]
    assert rates(group) == (1, 2 / 3)
    assert group["credited_success_rate"]["known"] == 3
    assert group["value_per_dollar"] == pytest.approx(group["credited_success_rate"]["low"] / 0.101)
    assert rates(by_rule["phase_outcome"]["by_model"][0]) == (1, 1)
    assert rates(by_rule["run_outcome"]["by_model"][0]) == (1, 1)
    assert [found["credit_rule"] for found in by_rule.values()] == list(by_rule)


def test_a_phase_that_did_not_run_is_in_no_credited_rate() -> None:
    skipped, cancelled = phase(phase_name="code", outcome="skipped"), phase(phase_name="code", outcome="cancelled")
    for rule in ("checks", "phase_outcome", "run_outcome"):
        found = summary_of(facets(phases=[skipped, cancelled], outcome="success")).as_json(rule)
        assert found["by_phase"][0]["credited_success_rate"]["known"] == 0


def test_skips_compare_runs_where_the_phase_ran_and_where_it_was_skipped() -> None:
    ran, skipped = phase(phase_name="review", outcome="failure"), phase(phase_name="review", outcome="skipped")
    found = shown(
        {"request_type": "bugfix", "phases": [ran, phase(phase_name="code"), ran], "outcome": "success"},
        {"request_type": "bugfix", "phases": [skipped, ran], "outcome": "failure"},
        {"request_type": "bugfix", "phases": [skipped, skipped], "outcome": "failure"},
        {"request_type": "bugfix", "phases": [skipped], "outcome": "unknown"},
        {"request_type": "docs", "phases": [skipped], "outcome": "success"},
        {"request_type": "docs", "phases": []},
    )
    skips = {(group["phase"], group["request_type"]): group for group in found["skips"]}
    bugfix, docs = skips["review", "bugfix"], skips["review", "docs"]
    assert (bugfix["ran"]["runs"], bugfix["skipped"]["runs"]) == (2, 2)
    assert (bugfix["ran"]["success_rate"]["rate"], bugfix["skipped"]["success_rate"]["rate"]) == (0.5, 0)
    assert (bugfix["ran"]["success_rate"]["known"], bugfix["skipped"]["success_rate"]["known"]) == (2, 1)
    assert bugfix["ran"]["success_rate"]["low"] == pytest.approx(wilson(1, 2)[0])  # type: ignore[index]
    assert (docs["ran"]["runs"], docs["skipped"]["runs"]) == (0, 1)
    assert docs["ran"]["success_rate"]["rate"] is None
    assert ("implement", "bugfix") in skips


def test_skips_compare_what_runs_cost_where_the_phase_ran_and_where_it_was_skipped() -> None:
    ran, skipped = phase(phase_name="review", outcome="failure"), phase(phase_name="review", outcome="skipped")
    given: list[dict[str, Any]] = [
        {"phases": [ran, ran], "total_cost_usd": 0.5},
        {"phases": [skipped, ran], "total_cost_usd": 0.1},
        {"phases": [skipped, skipped], "total_cost_usd": 0.2},
        {"phases": [skipped], "total_cost_usd": 0.4},
        {"phases": [skipped]},
        {"total_cost_usd": 9},
    ]
    (group,) = shown(*given)["skips"]
    assert group["ran"]["cost_usd"] == {"known": 2, "sum": 0.6, "mean": 0.3}
    assert group["skipped"]["cost_usd"] == {"known": 2, "sum": 0.6, "mean": 0.3}


def test_a_bucket_of_a_series_has_percentiles_of_its_own() -> None:
    summary, other = Summary("day"), Summary("day")
    for number, ms in enumerate((100, 200, 900)):
        one = facets(started_at=f"2026-01-0{1 + number // 2}T00:00:00Z", total_duration_ms=ms)
        summary.add(one, 0)
        other.add(one, 0)
    summary.add(facets(started_at="2026-01-03T00:00:00Z"), 0)
    summary.merge(other)
    other.merge(other, times=-1)
    summary.merge(other)
    first, second, third = (one["duration_ms"] for one in summary.as_json()["series"])
    assert (first["p50"], first["p95"]) == (pytest.approx(100, rel=0.01), pytest.approx(200, rel=0.01))
    assert second["p50"] == second["p95"] == pytest.approx(900, rel=0.01)
    assert (third["p50"], third["p95"]) == (None, None)


def test_the_cost_of_a_success_includes_failed_runs() -> None:
    found = shown(
        {"outcome": "success", "total_cost_usd": 0.1},
        {"outcome": "failure", "total_cost_usd": 0.3},
        {"outcome": "success", "total_cost_usd": 0.2},
        {"outcome": "success"},
    )
    assert found["cost_per_success_usd"] == 0.3
    assert shown({"outcome": "failure", "total_cost_usd": 1})["cost_per_success_usd"] is None


def series(bucket: str, *given: tuple[str | None, int]) -> list[tuple[str, int]]:
    """Return start and count of each bucket; a run is its start, and seconds since 1970 at which it
    was recorded."""
    summary = Summary(bucket)
    for started_at, recorded_at_s in given:
        summary.add(facets(started_at=started_at), recorded_at_s * 10**6)
    found: list[dict[str, Any]] = summary.as_json()["series"]
    return [(one["start"], one["count"]) for one in found]


@pytest.mark.parametrize(
    ("bucket", "started_at", "start"),
    [
        ("day", "2026-01-05T23:59:59.999999Z", "2026-01-05"),
        ("day", "2026-01-06T00:30:00+01:00", "2026-01-05"),
        ("day", "1969-12-31T23:00:00Z", "1969-12-31"),
        ("week", "2026-01-11T23:59:59Z", "2026-01-05"),
        ("week", "2026-01-12T00:00:00Z", "2026-01-12"),
        ("week", "1970-01-01T00:00:00Z", "1969-12-29"),
        ("week", "0001-01-01T00:00:00Z", "0001-01-01"),
    ],
)
def test_a_bucket_is_a_day_or_a_week_from_monday_in_utc(bucket: str, started_at: str, start: str) -> None:
    assert series(bucket, (started_at, 0)) == [(start, 1)]


def test_a_series_is_by_the_start_or_else_by_the_record_oldest_first() -> None:
    day = 24 * 3600
    given = [(None, 9 * day), ("1970-01-03T00:00:00Z", 9 * day), (None, 9 * day + 5)]
    assert series("day", *given) == [("1970-01-03", 1), ("1970-01-10", 2)]
    assert "series" not in shown({})


def test_a_series_keeps_the_newest_buckets_and_sums_the_older_ones() -> None:
    summary, one = Summary("day"), facets()
    for day in range(MAX_GROUPS + 2):
        summary.add(one, day * 24 * 3600 * 10**6)
    found = summary.as_json()
    assert (len(found["series"]), found["series"][0]["start"]) == (MAX_GROUPS, "1970-01-03")
    assert (found["other"]["series"]["groups"], found["other"]["series"]["count"]) == (2, 2)


# Percentiles.


@given(st.lists(st.integers(0, 10**17), min_size=1, max_size=200))
def test_a_percentile_is_within_its_bound_of_the_value_at_its_rank(nano_usd: list[int]) -> None:
    summary = Summary()
    one = facets()
    for value in nano_usd:
        summary.add(one._replace(cost_nano_usd=value), 0)
    found = summary.as_json()["cost_usd"]
    for p in (50, 90, 95, 99):
        exact = sorted(nano_usd)[math.ceil(Fraction(p, 100) * len(nano_usd)) - 1] / 10**9
        assert abs(found[f"p{p}"] - exact) <= exact * RELATIVE_ERROR * (1 + 1e-9)


def test_zero_has_a_bucket_of_its_own() -> None:
    found = shown(*[{"total_cost_usd": 0}] * 9, {"total_cost_usd": 5})["cost_usd"]
    assert (found["p50"], found["p90"]) == (0, 0)
    assert found["p95"] == pytest.approx(5, rel=RELATIVE_ERROR)


def test_the_rank_is_rounded_up_and_an_exact_one_is_not() -> None:
    # ceil(0.95 * 20) is 19: the nineteenth of twenty is still a dollar. ceil(0.99 * 20) is 20.
    found = shown(*[{"total_cost_usd": 1}] * 19, {"total_cost_usd": 100})["cost_usd"]
    assert found["p95"] == pytest.approx(1, rel=RELATIVE_ERROR)
    assert found["p99"] == pytest.approx(100, rel=RELATIVE_ERROR)


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_a_greater_value_never_falls_into_a_lower_bucket(one: int, other: int) -> None:
    assert (bucket_of(one) <= bucket_of(other)) or one > other


# Wilson's interval. Known values: Newcombe, Statistics in Medicine 17 (1998), table I, method 3.


@pytest.mark.parametrize(
    ("successes", "known", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_has_its_published_values(successes: int, known: int, low: float, high: float) -> None:
    assert wilson(successes, known) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 10**6).flatmap(lambda known: st.tuples(st.integers(0, known), st.just(known))))
def test_wilsons_interval_holds_its_rate_and_stays_between_none_and_all(counts: tuple[int, int]) -> None:
    successes, known = counts
    low, high = wilson(successes, known) or (2, -1)
    assert 0 <= low <= successes / known <= high <= 1


def test_there_is_no_interval_of_nothing() -> None:
    assert wilson(0, 0) is None
