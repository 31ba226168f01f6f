"""The registry of export formats. To add one, write its module and name its class here."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from trajectories.domain import redaction
from trajectories.exceptions import InvalidInput
from trajectories.training.formats.base import Format
from trajectories.training.formats.jsonl import Jsonl

FORMATS: Mapping[str, Format] = {one.name: one for one in (Jsonl(),)}
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
    shown = redaction.quoted(name, max_chars=40)
    raise InvalidInput(
        f"Unknown format {shown!r}.{hint} The formats are {', '.join(FORMATS)}.", code="unknown_format", param="format"
    )
