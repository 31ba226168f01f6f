"""LLaMA-Factory's sharegpt layout; with ``kind=dpo`` a ranking dataset.

    {"conversations":[{"from":"human","value":"Request (bugfix): …"},
     {"from":"function_call","value":"{\\"name\\":\\"run_phase\\",\\"arguments\\":{\\"phase\\":\\"spec\\"}}"}],
     "system":"You orchestrate …","tools":"[{\\"name\\":\\"run_phase\\",…}]"}

Its ``dataset_info.json`` has ``"formatting": "sharegpt"`` and the columns ``messages``
(conversations), ``system`` and ``tools``; for pairs also ``chosen``, ``rejected`` and ``"ranking":
true``.

Source: LLaMA-Factory, data/README.md, sharegpt format.
"""

from __future__ import annotations

import orjson

from trajectories.training.columns import Columns
from trajectories.training.formats.base import Options, Row
from trajectories.training.formats.layout import Layout

_TURN: Columns = {"from": "text", "value": "text"}


class LlamaFactory(Layout):
    name = "llama-factory"

    def columns(self, options: Options) -> Columns:
        columns: Columns = {"conversations": [_TURN], "system": "text"}
        if self.is_combined(options):
            return {**columns, "chosen": _TURN, "rejected": _TURN}
        return columns if options["calls"] == "text" else {**columns, "tools": "text"}

    def example(self, row: Row, options: Options) -> Row:
        system, user, said = row["messages"]
        if options["calls"] == "text":
            return _conversation(system, user, {"from": "gpt", "value": said["content"]})
        call = {"from": "function_call", "value": orjson.dumps(said["tool_calls"][0]["function"]).decode()}
        tools = orjson.dumps([tool["function"] for tool in row["tools"]]).decode()
        return _conversation(system, user, call) | {"tools": tools}

    def pair(self, row: Row) -> Row:
        sides = {name: {"from": "gpt", "value": row[name][0]["content"]} for name in ("chosen", "rejected")}
        return _conversation(*row["prompt"]) | sides


def _conversation(system: Row, user: Row, *more: Row) -> Row:
    return {
        "conversations": [{"from": "human", "value": user["content"]}, *more],
        "system": system["content"],
    }
