"""verl's reinforcement-learning columns: a prompt, and the action that was right there.

    {"data_source":"trajectories","prompt":[{"role":"system",…},{"role":"user",…}],
     "ability":"orchestration","reward_model":{"style":"rule",
     "ground_truth":"{\\"action\\":\\"run\\",\\"phase\\":\\"spec\\"}"},
     "extra_info":{"trajectory_id":"…","phase_index":0,"reward":1.0}}

Only decisions that earned ``min_reward`` (1 by default) are a ground truth. verl reads Parquet.

Source: verl documentation, "Prepare Data for Post-Training".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from trajectories.training import messages
from trajectories.training.columns import Columns
from trajectories.training.formats.base import Format, LeftOut, Need, Option, Options, Row
from trajectories.training.formats.of_decisions import CREDIT, ORIGIN, origin
from trajectories.training.formats.sft import MIN_REWARD, example_needs, examples_of
from trajectories.training.run import Run


class Verl(Format):
    name = "verl"
    options: ClassVar[Mapping[str, Option]] = {**CREDIT, "min_reward": MIN_REWARD["min_reward"]._replace(default=1.0)}

    def columns(self, options: Options) -> Columns:
        return {
            "data_source": "text",
            "prompt": [messages.MESSAGE],
            "ability": "text",
            "reward_model": {"style": "text", "ground_truth": "text"},
            "extra_info": {**ORIGIN, "reward": "float"},
        }

    def needs(self, options: Options) -> tuple[Need, ...]:
        return example_needs(options)

    def rows_of(self, run: Run, options: Options, left_out: LeftOut) -> Iterator[Row]:
        for decision in examples_of(run, options, left_out):
            truth = messages.answer(messages.arguments_of(decision))["content"]
            yield {
                "data_source": "trajectories",
                "prompt": messages.prompt(decision),
                "ability": "orchestration",
                "reward_model": {"style": "rule", "ground_truth": truth},
                "extra_info": origin(decision) | {"reward": decision.reward},
            }
