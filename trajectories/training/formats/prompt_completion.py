"""TRL's conversational prompt-completion: the decision is JSON text.

    {"prompt":[{"role":"system","content":"You orchestrate …"},
               {"role":"user","content":"Request …"}],
     "completion":[{"role":"assistant","content":"{\\"action\\":\\"run\\",\\"phase\\":\\"spec\\"}"}],
     "weight":1.0,"trajectory_id":"…","phase_index":0}

Source: TRL 1.16, "Dataset formats and types", prompt-completion.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from trajectories.training import messages
from trajectories.training.columns import Columns
from trajectories.training.formats.base import Format, LeftOut, Need, Option, Options, Row
from trajectories.training.formats.of_decisions import CREDIT, ORIGIN, origin, weight
from trajectories.training.formats.sft import MIN_REWARD, example_needs, examples_of
from trajectories.training.run import Run


class PromptCompletion(Format):
    name = "prompt-completion"
    options: ClassVar[Mapping[str, Option]] = {**CREDIT, **MIN_REWARD}

    def columns(self, options: Options) -> Columns:
        return {"prompt": [messages.MESSAGE], "completion": [messages.MESSAGE], "weight": "float", **ORIGIN}

    def needs(self, options: Options) -> tuple[Need, ...]:
        return example_needs(options)

    def rows_of(self, run: Run, options: Options, left_out: LeftOut) -> Iterator[Row]:
        for decision in examples_of(run, options, left_out):
            completion = [messages.answer(messages.arguments_of(decision))]
            yield {"prompt": messages.prompt(decision), "completion": completion, "weight": weight(decision)} | origin(
                decision
            )
