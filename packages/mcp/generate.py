"""Write contract.json of the package from docs/openapi.json: ``uv run python
packages/mcp/generate.py``.

The file holds the JSON Schemas of a trajectory and of each filter. The tools describe exactly what
the API accepts, and one command adds a new field or filter to them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trajectories_mcp.schema_minify import minify

HERE = Path(__file__).resolve().parent
DOCUMENT = HERE.parents[1] / "docs" / "openapi.json"
CONTRACT = HERE / "src" / "trajectories_mcp" / "contract.json"
_NOT_FILTERS = ("cursor", "limit")


def contract(document: dict[str, Any]) -> str:
    """Return the text of contract.json."""
    schemas = document["components"]["schemas"]
    parameters = document["paths"]["/v1/agent/trajectories"]["get"]["parameters"]
    filters = {
        given["name"]: _plain(minify(given["schema"], schemas)) | {"description": given["description"]}
        for given in parameters
        if given["name"] not in _NOT_FILTERS
    }
    return json.dumps({"trajectory": minify(schemas["Trajectory"], schemas), "filters": filters}, indent=1) + "\n"


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema of several forms of text as a string; the description names the forms."""
    forms = schema.get("anyOf", [])
    return {"type": "string"} if forms and all(form.get("type") == "string" for form in forms) else schema


if __name__ == "__main__":
    CONTRACT.write_text(contract(json.loads(DOCUMENT.read_text())))
