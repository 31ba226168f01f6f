"""OpenAI's fine-tuning files: supervised, or with ``kind=dpo`` preference.

    {"messages":[{"role":"system",…},{"role":"user",…},{"role":"assistant","content":"",
     "tool_calls":[{"id":"call_0","type":"function","function":{"name":"run_phase",
     "arguments":"{\\"phase\\":\\"spec\\"}"}}],"weight":1}],"tools":[…],"parallel_tool_calls":false}

``weight`` is 1, or 0 for a decision that earned less than 0.5: OpenAI knows no other weights. Its
files have no columns besides these, so rows have no ids.

Source: OpenAI, "Supervised fine-tuning" and "Direct preference optimization", formatting your data.
"""

from __future__ import annotations

import orjson

from trajectories.training import messages
from trajectories.training.columns import Columns
from trajectories.training.formats.base import Options, Row
from trajectories.training.formats.layout import Layout

_GOOD = 0.5
_CALL: Columns = {"id": "text", "type": "text", "function": {"name": "text", "arguments": "text"}}
_WEIGHTED: Columns = {**messages.MESSAGE, "weight": "int"}


class OpenAi(Layout):
    name = "openai"

    def columns(self, options: Options) -> Columns:
        if self.is_combined(options):
            given = {"messages": [messages.MESSAGE], "tools": "json", "parallel_tool_calls": "bool"}
            return {
                "input": given,
                "preferred_output": [messages.MESSAGE],
                "non_preferred_output": [messages.MESSAGE],
            }
        if options["calls"] == "text":
            return {"messages": [_WEIGHTED]}
        calling = {**messages.MESSAGE, "tool_calls": [_CALL], "weight": "int"}
        return {"messages": [calling], "tools": "json", "parallel_tool_calls": "bool"}

    def example(self, row: Row, options: Options) -> Row:
        *given, said = row["messages"]
        said = said | {"weight": int(row["weight"] >= _GOOD)}
        if options["calls"] == "text":
            return {"messages": [*given, said]}
        said["tool_calls"] = [_with_text(call) for call in said["tool_calls"]]
        return {"messages": [*given, said], "tools": row["tools"], "parallel_tool_calls": False}

    def pair(self, row: Row) -> Row:
        return {
            "input": {"messages": row["prompt"], "tools": [], "parallel_tool_calls": False},
            "preferred_output": row["chosen"],
            "non_preferred_output": row["rejected"],
        }


def _with_text(call: Row) -> Row:
    function = call["function"]
    return {**call, "function": {**function, "arguments": orjson.dumps(function["arguments"]).decode()}}
