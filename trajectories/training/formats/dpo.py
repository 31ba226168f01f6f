"""TRL's conversational preference: two actions in the same context, of which one earned more.

    {"prompt":[{"role":"system",…},{"role":"user","content":"Request (bugfix): …"}],
     "chosen":[{"role":"assistant","content":"{\\"action\\":\\"run\\",\\"phase\\":\\"implement\\",\\"model\\":\\"m-1\\"}"}],
     "rejected":[{"role":"assistant","content":"{…\\"model\\":\\"m-2\\"}"}],
     "chosen_reward":1.0,"rejected_reward":0.25,"trajectory_id":"…","phase_index":1,
     "rejected_trajectory_id":"…","rejected_phase_index":1}

How pairs are made is in ``of_decisions.pairs``: decisions of different runs are compared, so the
lines come after all records were read.

Source: TRL 1.16, "Dataset formats and types", preference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

from trajectories.training import messages
from trajectories.training.columns import Columns
from trajectories.training.formats.base import Format, LeftOut, Need, Option, Options, Row
from trajectories.training.formats.of_decisions import CREDIT, ORIGIN, PAIR_BY, candidates_of, pair_needs, pairs
from trajectories.training.run import Run


class Dpo(Format):
    name = "dpo"
    options: ClassVar[Mapping[str, Option]] = {**CREDIT, **PAIR_BY}

    def columns(self, options: Options) -> Columns:
        return {
            "prompt": [messages.MESSAGE],
            "chosen": [messages.MESSAGE],
            "rejected": [messages.MESSAGE],
            "chosen_reward": "float",
            "rejected_reward": "float",
            **ORIGIN,
            "rejected_trajectory_id": "text",
            "rejected_phase_index": "int",
        }

    def needs(self, options: Options) -> tuple[Need, ...]:
        return pair_needs(options)

    def rows_of(self, run: Run, options: Options, left_out: LeftOut) -> Iterator[Row]:
        return candidates_of(run, options, left_out)

    def is_combined(self, options: Options) -> bool:
        return True

    def combined(self, rows: Iterable[Row], options: Options, left_out: LeftOut) -> Iterator[Row]:
        return pairs(rows, left_out)
