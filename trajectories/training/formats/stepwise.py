"""TRL's stepwise supervision: a run as its steps, each of which was right or not.

    {"prompt":"Request (bugfix): Fix the login",
     "completions":["{\\"action\\":\\"run\\",\\"phase\\":\\"spec\\"}",…],
     "labels":[true,false],"trajectory_id":"…"}

``labels`` is true where the reward is 1. Steps whose reward is not known are left out.

Source: TRL 1.16, "Dataset formats and types", stepwise supervision.
"""

from __future__ import annotations

from collections.abc import Iterator

from trajectories.training import messages
from trajectories.training.columns import Columns
from trajectories.training.formats.base import Format, LeftOut, Need, Options, Row
from trajectories.training.formats.of_decisions import CREDIT, NO_REWARD, decisions, rewarded
from trajectories.training.run import Run

NO_STEPS = "run without a decision whose reward is known"


class Stepwise(Format):
    name = "stepwise"
    options = CREDIT

    def columns(self, options: Options) -> Columns:
        return {"prompt": "text", "completions": ["text"], "labels": ["bool"], "trajectory_id": "text"}

    def needs(self, options: Options) -> tuple[Need, ...]:
        return (rewarded(options),)

    def rows_of(self, run: Run, options: Options, left_out: LeftOut) -> Iterator[Row]:
        steps = list(decisions(run, options))
        known = [decision for decision in steps if decision.reward is not None]
        left_out[NO_REWARD] += len(steps) - len(known)
        if not known:
            left_out[NO_STEPS] += 1
            return
        yield {
            "prompt": messages.request_text(steps[0].context),
            "completions": [messages.answer(messages.arguments_of(decision))["content"] for decision in known],
            "labels": [decision.reward == 1.0 for decision in known],
            "trajectory_id": run.id,
        }
