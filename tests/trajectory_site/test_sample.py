"""The sample runs of the quick start."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta

import orjson

from trajectories.domain import schema
from trajectories.domain.record import facets_of
from trajectories.domain.warnings import warnings_of
from trajectory_site.sample import DAYS, MODELS, RUNS, sample_runs

TODAY = date(2026, 3, 1)
BODIES = [orjson.loads(schema.canonical(schema.parse(orjson.dumps(run)))) for run in sample_runs(TODAY)]
PHASES = [phase for run in BODIES for phase in run["phases"]]


def test_the_same_runs_move_to_the_day_of_the_start() -> None:
    assert list(sample_runs(TODAY)) == list(sample_runs(TODAY))
    later = list(sample_runs(TODAY + timedelta(days=9)))
    assert [run["id"] for run in later] == [run["id"] for run in BODIES]
    assert {run["started_at"][:10] for run in BODIES} <= {str(TODAY - timedelta(days=1 + day)) for day in range(DAYS)}
    assert later[0]["started_at"][:10] == str(date.fromisoformat(BODIES[0]["started_at"][:10]) + timedelta(days=9))


def test_no_sample_run_contradicts_itself() -> None:
    assert [warning for run in BODIES for warning in warnings_of(run)] == []


def test_there_is_something_in_them_for_every_picture() -> None:
    assert len({run["id"] for run in BODIES}) == RUNS
    assert {len({run[name] for run in BODIES}) for name in ("project", "policy")} == {3, 2}
    assert {phase["model"] for phase in PHASES if "model" in phase} == set(MODELS)
    outcomes = Counter(run["outcome"] for run in BODIES)
    assert min(outcomes[outcome] for outcome in ("success", "failure", "partial", "unknown")) >= 5
    counts = {
        "skips": sum(phase["outcome"] == "skipped" for phase in PHASES),
        "fallbacks": sum("attempts" in phase for phase in PHASES),
        "lanes": sum("parent_phase_id" in phase for phase in PHASES),
        "loops": sum("feedback_loops" in run for run in BODIES),
        "drawn choices": sum(phase.get("selection_probability", 1) < 1 for phase in PHASES),
    }
    assert min(counts.values()) >= 20, counts


def test_the_policies_differ_in_cost() -> None:
    costs: dict[str, list[int]] = {}
    for run in BODIES:
        nano_usd = facets_of(orjson.dumps(run)).cost_nano_usd
        assert nano_usd is not None
        costs.setdefault(run["policy"], []).append(nano_usd)
    means = {policy: sum(nano_usd) / len(nano_usd) for policy, nano_usd in costs.items()}
    assert means["router@2"] < 0.7 * means["router@1"]
