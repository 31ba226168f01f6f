"""Axolotl's chat templates: ``type: chat_template``, or with ``kind=dpo``
``chat_template.default``.

    {"messages":[{"role":"system",…},{"role":"user",…},{"role":"assistant",…}],"tools":[…]}

A pair has the prompt in ``messages``, and one message each in ``chosen`` and ``rejected``.

Source: Axolotl documentation, "Conversation" and "RLHF".
"""

from __future__ import annotations

from trajectories.training import messages
from trajectories.training.columns import Columns
from trajectories.training.formats.base import Options, Row
from trajectories.training.formats.layout import Layout
from trajectories.training.formats.sft import columns_of_messages


class Axolotl(Layout):
    name = "axolotl"

    def columns(self, options: Options) -> Columns:
        if self.is_combined(options):
            return {"messages": [messages.MESSAGE], "chosen": messages.MESSAGE, "rejected": messages.MESSAGE}
        return columns_of_messages(options)

    def example(self, row: Row, options: Options) -> Row:
        return {name: row[name] for name in columns_of_messages(options)}

    def pair(self, row: Row) -> Row:
        return {"messages": row["prompt"], "chosen": row["chosen"][0], "rejected": row["rejected"][0]}
