"""Decisions as conversations: the context as a user's message, the action as the answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from trajectories.training.columns import Columns
from trajectories.training.decisions import Context, Decision
from trajectories.training.steps import RUN, SKIP, amounts

SYSTEM = (
    "You orchestrate a run of several phases. Decide the next step: run a phase with an agent, a model and tools, or skip a"
    " phase and say why."
)
RUN_PHASE, SKIP_PHASE = "run_phase", "skip_phase"
MESSAGE: Columns = {"role": "text", "content": "text"}
CALL: Columns = {"id": "text", "type": "text", "function": {"name": "text", "arguments": "json"}}
CALLING_MESSAGE: Columns = {**MESSAGE, "tool_calls": [CALL]}


def _parameters(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required}


_TEXT = {"type": "string"}
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": RUN_PHASE,
            "description": "Run a phase.",
            "parameters": _parameters(
                ["phase"], phase=_TEXT, agent=_TEXT, model=_TEXT, tools={"type": "array", "items": _TEXT}
            ),
        },
    },
    {
        "type": "function",
        "function": {
            "name": SKIP_PHASE,
            "description": "Skip a phase.",
            "parameters": _parameters(["phase"], phase=_TEXT, reason=_TEXT),
        },
    },
]


def prompt(decision: Decision) -> list[dict[str, Any]]:
    """Return the messages before the decision."""
    return prompt_of(decision.context, decision.models)


def prompt_of(context: Context, models: Iterable[str | None]) -> list[dict[str, Any]]:
    """Return the messages before a decision among these models; None is one that is not known."""
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": context_text(context, models)}]


def answer(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the decision as an assistant's message with JSON text."""
    return {"role": "assistant", "content": orjson.dumps(arguments).decode()}


def call(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the decision as an assistant's message with a tool call."""
    given = {name: value for name, value in arguments.items() if name != "action"}
    name = SKIP_PHASE if arguments["action"] == SKIP else RUN_PHASE
    function = {"name": name, "arguments": given}
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "call_0", "type": "function", "function": function}],
    }


def arguments_of(decision: Decision) -> dict[str, Any]:
    """Return the action taken, as an object without unknown values."""
    phase = decision.fields
    if decision.is_skip:
        return _known(action=SKIP, phase=phase["phase_name"], reason=phase.get("skip_reason"))
    return _known(
        action=RUN,
        phase=phase["phase_name"],
        agent=phase.get("agent"),
        model=decision.model,
        tools=phase.get("tools_used") or None,
    )


def run_of(phase: Mapping[str, Any], model: str | None) -> dict[str, Any]:
    """Return the action to run a phase with a model and the agent of the phase."""
    agent, arguments = phase.get("agent"), {"action": RUN, "phase": phase["phase_name"]}
    if agent is not None:
        arguments["agent"] = agent
    if model is not None:
        arguments["model"] = model
    return arguments


def skip_of(phase: Mapping[str, Any]) -> dict[str, Any]:
    """Return the action to skip a phase."""
    return {"action": SKIP, "phase": phase["phase_name"]}


def context_text(context: Context, models: Iterable[str | None]) -> str:
    """Return the context as text: a pure function of it and of the models to choose from."""
    lines = [request_text(context)]
    if context.steps:
        lines.append("Phases so far:")
        lines += [f"{number}. {step.text}" for number, step in enumerate(context.steps, 1)]
    else:
        lines.append("Phases so far: none")
    lines += [f"Sent back: {reason}" for reason in context.sent_back]
    if spent := amounts(context.spent_cost_usd, context.spent_duration_ms):
        lines.append(f"Spent so far: {spent}")
    known = [model for model in models if model is not None]
    if len(known) > 1:
        lines.append(f"Models to choose from: {', '.join(sorted(known))}")
    return "\n".join(lines)


def request_text(context: Context) -> str:
    """Return what is known before the first phase, as text."""
    kind = "" if context.request_type is None else f" ({context.request_type})"
    lines = [f"Request{kind}: {context.request_summary}"]
    if context.project is not None:
        lines.append(f"Project: {context.project}")
    if context.planned_phases:
        lines.append(f"Planned phases: {', '.join(context.planned_phases)}")
    return "\n".join(lines)


def _known(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
