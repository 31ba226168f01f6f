"""The registry of export formats. To add one, write its module and name its class here."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from trajectories.domain.quotes import in_quotes
from trajectories.exceptions import InvalidInput
from trajectories.training.formats.atif import Atif
from trajectories.training.formats.axolotl import Axolotl
from trajectories.training.formats.base import Format
from trajectories.training.formats.decisions import Decisions
from trajectories.training.formats.dpo import Dpo
from trajectories.training.formats.dsjson import Dsjson
from trajectories.training.formats.jsonl import Jsonl
from trajectories.training.formats.kto import Kto
from trajectories.training.formats.llama_factory import LlamaFactory
from trajectories.training.formats.openai import OpenAi
from trajectories.training.formats.prompt_completion import PromptCompletion
from trajectories.training.formats.routing_table import RoutingTable
from trajectories.training.formats.sft import Sft
from trajectories.training.formats.stepwise import Stepwise
from trajectories.training.formats.verl import Verl

_ALL: tuple[Format, ...] = (
    Jsonl(),
    Decisions(),
    Sft(),
    PromptCompletion(),
    Dpo(),
    Kto(),
    Stepwise(),
    Dsjson(),
    RoutingTable(),
    Atif(),
    OpenAi(),
    Axolotl(),
    LlamaFactory(),
    Verl(),
)
FORMATS: Mapping[str, Format] = {one.name: one for one in _ALL}
DEFAULT = Jsonl.name


def get(name: str) -> Format:
    """Return the format of this name.

    Raises:
        InvalidInput: 400; there is none. The message names the nearest one, and all.
    """
    if name in FORMATS:
        return FORMATS[name]
    near = difflib.get_close_matches(name, FORMATS, 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    shown = in_quotes(name, max_chars=40)
    raise InvalidInput(
        f"Unknown format {shown}.{hint} The formats are {', '.join(FORMATS)}.", code="unknown_format", param="format"
    )
