"""The contract as JSON Schema, generated from the OpenAPI document by generate.py."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

_document: dict[str, Any] = json.loads(files(__package__).joinpath("contract.json").read_text(encoding="utf-8"))

TRAJECTORY: Final[Mapping[str, Any]] = _document["trajectory"]
"""Schema of a request body."""
FILTERS: Final[Mapping[str, Mapping[str, Any]]] = _document["filters"]
"""Schema of each filter of the API, by name."""
