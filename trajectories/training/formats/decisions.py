"""One row a decision, flat: context, action set, action taken with its propensity, and reward.

    {"trajectory_id":"…","phase_index":1,"recorded_at":"2026-01-05T23:58:46.916527Z",
     "request_summary":"Fix the login","request_type":"bugfix",…,"phase":"implement",
     "phases_before":1,"last_phase":"spec","last_outcome":"success","spent_cost_usd":0.012,
     "action":"run","model":"m-1","propensity":0.7,"model_propensity":0.7,"keep_probability":null,
     "actions":[{"action":"run","model":"m-1","probability":0.7},…],
     "reward":0.0,"reward_rule":"checks","reward_source":"tests_passed",…}

The columns up to ``spent_duration_ms`` and ``actions`` are known before the decision, those from
``reward`` on after it.
"""

from __future__ import annotations

from collections.abc import Iterator

from trajectories.domain.clock import rfc3339
from trajectories.domain.export_facts import PHASES
from trajectories.training.columns import OUTCOME, Columns
from trajectories.training.decisions import Decision, total_of_run
from trajectories.training.formats.base import Format, LeftOut, Need, Options, Row
from trajectories.training.formats.of_decisions import CREDIT, decisions, origin
from trajectories.training.formats.sft import NO_PHASES
from trajectories.training.run import Run
from trajectories.training.steps import RUN, SKIP


class Decisions(Format):
    name = "decisions"
    options = CREDIT

    def columns(self, options: Options) -> Columns:
        return _COLUMNS

    def needs(self, options: Options) -> tuple[Need, ...]:
        return (Need(PHASES, NO_PHASES),)

    def rows_of(self, run: Run, options: Options, left_out: LeftOut) -> Iterator[Row]:
        of_run = _of_run(run)
        return (_row(decision, of_run) for decision in decisions(run, options))


_COLUMNS: Columns = {
    "trajectory_id": "text",
    "phase_index": "int",
    "recorded_at": "time",
    "session_id": "text",
    "policy": "text",
    "request_summary": "text",
    "request_type": "text",
    "source": "text",
    "project": "text",
    "planned_phases": ["text"],
    "phase": "text",
    "phase_name": "text",
    "phases_before": "int",
    "failures_before": "int",
    "skipped_before": "int",
    "same_phase_before": "int",
    "last_phase": "text",
    "last_outcome": "text",
    "phases_so_far": "json",
    "spent_cost_usd": "float",
    "spent_duration_ms": "float",
    "action": "text",
    "agent": "text",
    "model": "text",
    "model_selection_method": "text",
    "reasoning_effort": "text",
    "tools": ["text"],
    "skip_reason": "text",
    "propensity": "float",
    "model_propensity": "float",
    "keep_probability": "float",
    "actions": "json",
    "reward": "float",
    "reward_rule": "text",
    "reward_source": "text",
    "phase_outcome": "text",
    "run_outcome": "text",
    "cost_usd": "float",
    "duration_ms": "float",
    "run_cost_usd": "float",
    "run_duration_ms": "float",
    "tests_passed": "bool",
    "build_passed": "bool",
    "outcomes": [OUTCOME],
}


def _of_run(run: Run) -> Row:
    """Return the columns that all decisions of a run share."""
    fields = run.fields
    return {
        "recorded_at": rfc3339(run.record.recorded_at_us).decode(),
        "session_id": fields.get("session_id"),
        "policy": fields.get("policy"),
        "run_cost_usd": total_of_run(fields, "total_cost_usd", "cost_usd"),
        "run_duration_ms": total_of_run(fields, "total_duration_ms", "duration_ms"),
        "tests_passed": fields.get("tests_passed"),
        "build_passed": fields.get("build_passed"),
    }


def _row(decision: Decision, of_run: Row) -> Row:
    context, phase = decision.context, decision.fields
    steps = context.steps
    outcomes = [step.outcome for step in steps]
    return {
        **origin(decision),
        "recorded_at": of_run["recorded_at"],
        "session_id": of_run["session_id"],
        "policy": of_run["policy"],
        "request_summary": context.request_summary,
        "request_type": context.request_type,
        "source": context.source,
        "project": context.project,
        "planned_phases": context.planned_phases,
        "phase": decision.phase,
        "phase_name": phase["phase_name"],
        "phases_before": len(steps),
        "failures_before": outcomes.count("failure"),
        "skipped_before": [step.action for step in steps].count(SKIP),
        "same_phase_before": [step.phase for step in steps].count(decision.phase),
        "last_phase": steps[-1].phase if steps else None,
        "last_outcome": steps[-1].outcome if steps else None,
        "phases_so_far": [step.row for step in steps],
        "spent_cost_usd": context.spent_cost_usd,
        "spent_duration_ms": context.spent_duration_ms,
        "action": SKIP if decision.is_skip else RUN,
        "agent": phase.get("agent"),
        "model": decision.model,
        "model_selection_method": phase.get("model_selection_method"),
        "reasoning_effort": phase.get("reasoning_effort"),
        "tools": phase.get("tools_used"),
        "skip_reason": phase.get("skip_reason"),
        "propensity": decision.propensity,
        "model_propensity": decision.model_propensity,
        "keep_probability": phase.get("keep_probability"),
        "actions": [action._asdict() for action in decision.actions],
        "reward": decision.reward,
        "reward_rule": decision.reward_rule,
        "reward_source": decision.reward_source,
        "phase_outcome": phase.get("outcome"),
        "run_outcome": decision.run_outcome,
        "cost_usd": phase.get("cost_usd"),
        "duration_ms": phase.get("duration_ms"),
        "run_cost_usd": of_run["run_cost_usd"],
        "run_duration_ms": of_run["run_duration_ms"],
        "tests_passed": of_run["tests_passed"],
        "build_passed": of_run["build_passed"],
        "outcomes": decision.outcomes,
    }
