"""The contract as JSON Schema, from the API's own document: see generate.py."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

_document: dict[str, Any] = json.loads(files(__package__).joinpath("contract.json").read_text(encoding="utf-8"))

TRAJECTORY: Final[Mapping[str, Any]] = _document["trajectory"]
"""A trajectory as it is sent; what it refers to is in its ``$defs``."""
FILTERS: Final[Mapping[str, Mapping[str, Any]]] = _document["filters"]
"""Of each filter of the API."""
