"""Writes contract.json of the package from docs/openapi.json: ``uv run python packages/mcp/generate.py``.

It holds the JSON Schema of a trajectory as it is sent, and of each filter, in the words of the API's own document: so the
tools say what the server takes, and a new field or filter is in them after one command.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trajectory_mcp.plain import plain

HERE = Path(__file__).resolve().parent
DOCUMENT = HERE.parents[1] / "docs" / "openapi.json"
CONTRACT = HERE / "src" / "trajectory_mcp" / "contract.json"
_PARTS = ("Phase", "Candidate", "FeedbackLoop")
_NOT_FILTERS = ("cursor", "limit")


def contract(document: dict[str, Any]) -> str:
    """The text of contract.json."""
    schemas = document["components"]["schemas"]
    parts = {name: plain(schemas[name]) for name in _PARTS}
    parameters = document["paths"]["/v1/agent/trajectories"]["get"]["parameters"]
    filters = {
        given["name"]: plain(given["schema"]) | {"description": given["description"]}
        for given in parameters
        if given["name"] not in _NOT_FILTERS
    }
    return (
        json.dumps({"trajectory": plain(schemas["Trajectory"]) | {"$defs": parts}, "filters": filters}, indent=1) + "\n"
    )


if __name__ == "__main__":
    CONTRACT.write_text(contract(json.loads(DOCUMENT.read_text())))
