"""TRL's conversational language modelling with tools: a decision as the call of a tool.

    {"messages":[{"role":"system","content":"You orchestrate …"},
                 {"role":"user","content":"Request (bugfix): Fix the login\\nPhases so far: none"},
                 {"role":"assistant","content":"","tool_calls":[{"id":"call_0","type":"function",
                  "function":{"name":"run_phase","arguments":{"phase":"spec","model":"m-1"}}}]}],
     "tools":[{"type":"function","function":{"name":"run_phase",…}},…],
     "weight":1.0,"trajectory_id":"…","phase_index":0}

With ``calls=text`` the answer is JSON text and there are no tools, for models whose chat template
has none. ``weight`` is the reward, 0.5 where it is not known; ``min_reward`` leaves examples out.

Source: TRL 1.16, "Dataset formats and types", language modeling and tool calling.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from trajectories.domain.export_facts import PARTIAL, PHASES, SUCCESS
from trajectories.training import messages
from trajectories.training.columns import Columns
from trajectories.training.decisions import Decision
from trajectories.training.formats.base import Format, LeftOut, Need, Option, Options, Row, fraction, one_of
from trajectories.training.formats.of_decisions import CREDIT, ORIGIN, decisions, origin, rewarded, weight
from trajectories.training.run import Run

CALLS: Mapping[str, Option] = {
    "calls": Option(
        one_of("tool", "text"), "tool", "tool: the answer is a tool call, with a column tools; text: it is JSON text."
    )
}
MIN_REWARD: Mapping[str, Option] = {
    "min_reward": Option(
        fraction, None, "Leave out decisions that earned less than this, from above 0 to 1, or whose reward is unknown."
    )
}
LOW_REWARD = "decision below min_reward, or whose reward is not known"


NO_PHASES = "run without phases"
_PARTIAL_REWARD = 0.5


def example_needs(options: Options) -> tuple[Need, ...]:
    """Return the needs of a format of examples, which ``min_reward`` may leave out."""
    least = options["min_reward"]
    if least is None:
        return (Need(PHASES, NO_PHASES),)
    return (rewarded(options, SUCCESS if least > _PARTIAL_REWARD else SUCCESS | PARTIAL),)


def examples_of(run: Run, options: Options, left_out: LeftOut) -> Iterator[Decision]:
    """Yield the decisions that ``min_reward`` keeps."""
    for decision in decisions(run, options):
        if options["min_reward"] is None or (decision.reward or 0.0) >= options["min_reward"]:
            yield decision
        else:
            left_out[LOW_REWARD] += 1


def columns_of_messages(options: Options) -> Columns:
    if options["calls"] == "text":
        return {"messages": [messages.MESSAGE]}
    return {"messages": [messages.CALLING_MESSAGE], "tools": "json"}


def messages_of(decision: Decision, options: Options) -> Row:
    arguments = messages.arguments_of(decision)
    if options["calls"] == "text":
        return {"messages": [*messages.prompt(decision), messages.answer(arguments)]}
    return {"messages": [*messages.prompt(decision), messages.call(arguments)], "tools": messages.TOOLS}


class Sft(Format):
    name = "sft"
    options: ClassVar[Mapping[str, Option]] = {**CREDIT, **CALLS, **MIN_REWARD}

    def columns(self, options: Options) -> Columns:
        return {**columns_of_messages(options), "weight": "float", **ORIGIN}

    def needs(self, options: Options) -> tuple[Need, ...]:
        return example_needs(options)

    def rows_of(self, run: Run, options: Options, left_out: LeftOut) -> Iterator[Row]:
        for decision in examples_of(run, options, left_out):
            yield messages_of(decision, options) | {"weight": weight(decision)} | origin(decision)
