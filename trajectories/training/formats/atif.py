"""ATIF v1.8 documents: the orchestrator is the root agent, a phase an embedded subagent.

    {"schema_version":"ATIF-v1.8","session_id":"s-1","trajectory_id":"…",
     "agent":{"name":"phase-build","version":"router@2026-11-01"},
     "steps":[{"step_id":1,"source":"user","message":"Fix the login"},
      {"step_id":2,"source":"agent","message":"Run spec","tool_calls":[…],"observation":{"results":[
       {"source_call_id":"phase-0","content":"success","subagent_trajectory_ref":[{"trajectory_id":"…/0"}]}]}},
      {"step_id":3,"source":"system","message":"Skipped review: small change","extra":{…}}],
     "final_metrics":{"total_cost_usd":0.012},"subagent_trajectories":[{"trajectory_id":"…/0",…}]}

Fields that ATIF does not have are in ``extra.trajectories``. ``fields_of`` reads a document back
without loss.

Source: Harbor, RFC 0001 "Agent Trajectory Interchange Format", version 1.8.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from trajectories.training import messages
from trajectories.training.columns import Columns
from trajectories.training.decisions import total_of_run
from trajectories.training.formats.base import Format, LeftOut, Options, Row
from trajectories.training.run import Run

VERSION = "ATIF-v1.8"
UNKNOWN = "unknown"
_OWN = "trajectories"
"""Key in ``extra`` objects under which this format keeps what ATIF has no field for."""
_METRICS = {
    "input_tokens": "prompt_tokens",
    "output_tokens": "completion_tokens",
    "cached_input_tokens": "cached_tokens",
    "cost_usd": "cost_usd",
}
_TOTALS = {
    "input_tokens": "total_prompt_tokens",
    "output_tokens": "total_completion_tokens",
    "cached_input_tokens": "total_cached_tokens",
    "cost_usd": "total_cost_usd",
}
_NO_ARGUMENTS: Row = {}
"""One object for all calls, of which a run may have 80,000."""
_AT_ROOT = ("id", "request_summary", "source", "policy", "session_id", "started_at", "phases", "total_cost_usd")
_AT_PHASE = ("agent", "model", "reasoning_effort", "tools_used", "started_at", "outcome", *_METRICS)


class Atif(Format):
    name = "atif"

    def columns(self, options: Options) -> Columns:
        return {
            "schema_version": "text",
            "session_id": "text",
            "trajectory_id": "text",
            "agent": {"name": "text", "version": "text"},
            "steps": "json",
            "final_metrics": "json",
            "extra": "json",
            "subagent_trajectories": "json",
        }

    def rows_of(self, run: Run, options: Options, left_out: LeftOut) -> Iterator[Row]:
        yield document(run.id, run.fields)


def document(id_: str, fields: Mapping[str, Any]) -> Row:
    """Return the ATIF document of a canonical body, parsed."""
    phases = list(enumerate(fields["phases"]))
    steps = [_known(source="user", message=fields["request_summary"], timestamp=fields.get("started_at"))]
    steps += [_skipped(phase) if _is_skipped(phase) else _step(id_, at, phase) for at, phase in phases]
    subagents = [_subagent(id_, at, phase) for at, phase in phases if not _is_skipped(phase)]
    return _known(
        schema_version=VERSION,
        session_id=fields.get("session_id"),
        trajectory_id=id_,
        agent={"name": fields.get("source") or UNKNOWN, "version": fields.get("policy") or UNKNOWN},
        steps=[{"step_id": number, **step} for number, step in enumerate(steps, 1)],
        final_metrics=_totals(fields) or None,
        extra=_extra(
            {name: value for name, value in fields.items() if name not in _AT_ROOT}
            | {name: fields[name] for name in ("source", "policy") if fields.get(name) in ("", UNKNOWN)}
            | ({"total_cost_usd": fields["total_cost_usd"]} if "total_cost_usd" in fields else {})
        ),
        subagent_trajectories=subagents or None,
    )


def fields_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the canonical body from which ``document`` made this document."""
    subagents = {one["trajectory_id"]: one for one in document.get("subagent_trajectories") or ()}
    request, *steps = document["steps"]
    agent = document["agent"]
    return _known(
        id=document["trajectory_id"],
        request_summary=request["message"],
        source=None if agent["name"] == UNKNOWN else agent["name"],
        policy=None if agent["version"] == UNKNOWN else agent["version"],
        session_id=document.get("session_id"),
        started_at=request.get("timestamp"),
        phases=[_phase(step, subagents) for step in steps],
    ) | _read_extra(document)


def _is_skipped(phase: Mapping[str, Any]) -> bool:
    return phase.get("outcome") == "skipped"


def _skipped(phase: Mapping[str, Any]) -> Row:
    reason = f": {phase['skip_reason']}" if phase.get("skip_reason") else ""
    return _known(
        source="system",
        message=f"Skipped {phase['phase_name']}{reason}",
        timestamp=phase.get("started_at"),
        extra=_extra(phase),
    )


def _step(id_: str, at: int, phase: Mapping[str, Any]) -> Row:
    call = f"phase-{at}"
    arguments = _known(phase=phase["phase_name"], agent=phase.get("agent"), model=phase.get("model"))
    return _known(
        source="agent",
        message=f"Run {phase['phase_name']}",
        timestamp=phase.get("started_at"),
        tool_calls=[{"tool_call_id": call, "function_name": messages.RUN_PHASE, "arguments": arguments}],
        observation={
            "results": [
                {
                    "source_call_id": call,
                    "content": phase.get("outcome", UNKNOWN),
                    "subagent_trajectory_ref": [{"trajectory_id": f"{id_}/{at}"}],
                }
            ]
        },
    )


def _subagent(id_: str, at: int, phase: Mapping[str, Any]) -> Row:
    metrics = {name: phase[own] for own, name in _METRICS.items() if own in phase}
    tools = phase.get("tools_used")
    work = _known(
        source="agent",
        timestamp=phase.get("started_at"),
        model_name=phase.get("model"),
        reasoning_effort=phase.get("reasoning_effort"),
        message=phase.get("error", ""),
        tool_calls=None if tools is None else [_tool_call(number, tool) for number, tool in enumerate(tools)],
        metrics=metrics or None,
    )
    return _known(
        schema_version=VERSION,
        trajectory_id=f"{id_}/{at}",
        agent=_known(name=phase.get("agent", UNKNOWN), version=UNKNOWN, model_name=phase.get("model")),
        steps=[{"step_id": 1, "source": "user", "message": phase["phase_name"]}, {"step_id": 2, **work}],
        final_metrics={total: phase[own] for own, total in _TOTALS.items() if own in phase} or None,
        extra=_extra(
            {name: value for name, value in phase.items() if name not in _AT_PHASE}
            | {name: phase[name] for name in ("agent", "outcome") if phase.get(name) == UNKNOWN}
        ),
    )


def _phase(step: Mapping[str, Any], subagents: Mapping[str, Mapping[str, Any]]) -> Row:
    if step["source"] == "system":
        return _read_extra(step)
    result = step["observation"]["results"][0]
    subagent = subagents[result["subagent_trajectory_ref"][0]["trajectory_id"]]
    work, agent = subagent["steps"][1], subagent["agent"]["name"]
    metrics = work.get("metrics") or {}
    tools = work.get("tool_calls")
    return _known(
        agent=None if agent == UNKNOWN else agent,
        model=work.get("model_name"),
        reasoning_effort=work.get("reasoning_effort"),
        tools_used=None if tools is None else [call["function_name"] for call in tools],
        started_at=work.get("timestamp"),
        outcome=None if result["content"] == UNKNOWN else result["content"],
        **{own: metrics.get(name) for own, name in _METRICS.items()},
    ) | _read_extra(subagent)


def _totals(fields: Mapping[str, Any]) -> Row:
    totals = {total: total_of_run(fields, f"total_{own}", own) for own, total in _TOTALS.items()}
    return {name: value for name, value in totals.items() if value is not None}


def _tool_call(number: int, tool: str) -> Row:
    return {"tool_call_id": f"tool-{number}", "function_name": tool, "arguments": _NO_ARGUMENTS}


def _extra(fields: Mapping[str, Any]) -> Row | None:
    return {_OWN: dict(fields)} if fields else None


def _read_extra(of: Mapping[str, Any]) -> Row:
    return dict((of.get("extra") or {}).get(_OWN) or {})


def _known(**values: Any) -> Row:
    return {name: value for name, value in values.items() if value is not None}
