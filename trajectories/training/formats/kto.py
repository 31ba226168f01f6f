"""TRL's conversational unpaired preference: a decision, and whether it was good.

    {"prompt":[{"role":"system",…},{"role":"user",…}],
     "completion":[{"role":"assistant","content":"{\\"action\\":\\"run\\",…}"}],
     "label":true,"trajectory_id":"…","phase_index":0}

``label`` is true where the reward is 1 and false where it is 0; other decisions are left out.

Source: TRL 1.16, "Dataset formats and types", unpaired preference.
"""

from __future__ import annotations

from collections.abc import Iterator

from trajectories.domain.export_facts import FAILURE, SUCCESS
from trajectories.training import messages
from trajectories.training.columns import Columns
from trajectories.training.formats.base import Format, LeftOut, Need, Options, Row
from trajectories.training.formats.of_decisions import CREDIT, NO_REWARD, ORIGIN, decisions, origin, rewarded
from trajectories.training.run import Run

PARTIAL = "decision with a partial success"


class Kto(Format):
    name = "kto"
    options = CREDIT

    def columns(self, options: Options) -> Columns:
        return {"prompt": [messages.MESSAGE], "completion": [messages.MESSAGE], "label": "bool", **ORIGIN}

    def needs(self, options: Options) -> tuple[Need, ...]:
        return (rewarded(options, SUCCESS | FAILURE),)

    def rows_of(self, run: Run, options: Options, left_out: LeftOut) -> Iterator[Row]:
        for decision in decisions(run, options):
            if decision.reward not in (0.0, 1.0):
                left_out[NO_REWARD if decision.reward is None else PARTIAL] += 1
                continue
            yield {
                "prompt": messages.prompt(decision),
                "completion": [messages.answer(messages.arguments_of(decision))],
                "label": decision.reward == 1.0,
            } | origin(decision)
