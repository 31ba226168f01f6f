"""Recommendations and evaluations on the command line, against the server in memory."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner

from trajectories_sdk.cli import views
from trajectories_sdk.cli.commands import trajectory
from trajectories_sdk.cli.exits import Exit
from trajectories_sdk.models import PolicyEvaluation
from trajectories_sdk.testing import InMemoryServer


def test_the_command_line_asks_for_a_recommendation() -> None:
    with InMemoryServer() as server:
        asked = ["recommend", "spec", "small", "large", "--request-type", "bugfix", "--budget-usd", "1", "--at-least"]
        done = CliRunner().invoke(trajectory, [*asked, "large", "--seed", "1"], obj=lambda **_: server.client())
        assert done.exit_code == 0, done.output
        assert json.loads(server.requests[-1].body) == {
            "phase": "spec",
            "candidates": [{"model": "small"}, {"model": "large"}],
            "request_type": "bugfix",
            "budget_usd": 1.0,
            "floor": {"model": "large"},
            "seed": 1,
        }
        reasoning, propensity, _, head, *rows = done.stdout.splitlines()
        assert reasoning.endswith("the test server has no outcomes.")
        assert propensity == "propensity 0.500, seed 1"
        assert head.split()[:4] == ["ACTION", "SUCCESS", "95", "%"]
        assert [row.split()[0] for row in rows] == ["small", "large"]
        as_json = CliRunner().invoke(trajectory, ["recommend", "spec", "m", "--json"], obj=lambda **_: server.client())
        assert json.loads(as_json.stdout)["record"]["selection_probability"] == 1.0


def test_the_command_line_evaluates_a_policy_and_ends_with_1_on_a_refusal(tmp_path: Any) -> None:
    rules = tmp_path / "rules.json"
    rules.write_text('{"rules": [], "default": "small"}')
    with InMemoryServer() as server:
        given = ["evaluate", f"@{rules}", "--phase", "spec", "--filter", "project=web"]
        done = CliRunner().invoke(trajectory, given, obj=lambda **_: server.client())
        assert done.exit_code == Exit.REFUSED, done.output
        assert json.loads(server.requests[-1].body) == {
            "policy": {"rules": [], "default": "small"},
            "phase": "spec",
            "filters": {"project": "web"},
        }
        assert done.stdout.splitlines()[0] == "The test server evaluates no policies."
        rules.write_text("[1]")
        wrong = CliRunner().invoke(trajectory, given, obj=lambda **_: server.client())
        assert wrong.exit_code == Exit.USAGE
        assert "a JSON object" in wrong.output


def test_an_evaluation_is_a_table_for_people() -> None:
    interval = {"low": 0.1, "high": 0.9}
    found = PolicyEvaluation.model_validate(
        {
            "estimand": "decision",
            "runs": 40,
            "decisions": 1200,
            "left_out": {"decision of another phase": 7},
            "logged_value": 0.5,
            "covered": 1.0,
            "overlap": {"effective_samples": 400.0, "mean_weight": 1.0, "largest_weight": 4.0},
            "estimates": [{"method": "ips", "value": 0.61, "normal": interval, "bootstrap": interval}],
            "exact": None,
            "refusal": None,
            "complete": True,
        }
    )
    lines = [" ".join(line.split()) for line in views.evaluation(found)]
    assert lines == [
        "ESTIMATE VALUE NORMAL 95 % BOOTSTRAP 95 %",
        "logged 0.5000 - -",
        "ips 0.6100 0.1000 to 0.9000 0.1000 to 0.9000",
        "",
        "1,200 decisions, worth 400 of this policy",
        "left out: 7 decision of another phase",
    ]
