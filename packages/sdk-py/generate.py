"""Writes models.py and params.py of the SDK from docs/openapi.json: ``uv run python packages/sdk-py/generate.py``.

With ``--check`` it only says whether they would differ. Answers become Pydantic models that are lenient (unknown fields and
unknown words of an enumeration are kept), so that an older SDK reads a newer server; what is sent becomes typed dicts, and
is checked by the server alone, so that there is one contract.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
DOCUMENT = HERE.parents[1] / "docs" / "openapi.json"
PACKAGE = HERE / "src" / "trajectory_sdk"
_RESPONSE_SCHEMAS = (
    "StoredTrajectory",
    "Trajectory",
    "TrajectoryPage",
    "Stats",
    "RecordedLines",
    "DeletedTrajectory",
    "MatchingTrajectories",
    "DeletedTrajectories",
    "ErrorBody",
)
_REQUEST_SCHEMAS = ("Trajectory",)
_TYPE_BY_FORMAT = {"date-time": "Time", "uuid": "Id"}
_SERVER_FIELDS = ("recorded_at", "revision")
_NOT_FILTERS = ("cursor", "limit")
_CONSTRAINTS = ("pattern", "maxLength", "maxItems", "maximum", "minimum", "title", "additionalProperties")
_TITLE_KEYWORDS = ("title", "additionalProperties")
"""Of no use where the base class forbids what is unknown; titles would become names of types."""
_OPTIONS = [
    "--input-file-type=openapi",
    "--target-python-version=3.11",
    "--use-annotated",
    "--use-schema-description",
    "--use-double-quotes",
    "--enum-field-as-literal=all",
    "--disable-timestamp",
    "--keep-model-order",
    "--use-field-description",
    "--use-single-line-docstring",
    "--no-formatters",
]
_MODEL_OPTIONS = [
    "--output-model-type=pydantic_v2.BaseModel",
    "--base-class=trajectory_sdk.response_base.ResponseModel",
    "--output-datetime-class=AwareDatetime",
    "--custom-file-header=# Made by packages/sdk-py/generate.py from docs/openapi.json.\n"
    '"""What the server answers with. Unknown fields are kept; unknown values of known fields are, too."""',
]
_CONTRACT_OPTIONS = [
    "--output-model-type=pydantic_v2.BaseModel",
    "--output-datetime-class=AwareDatetime",
    "--base-class=trajectory_sdk.testing.body.Body",
    "--custom-file-header=# Made by packages/sdk-py/generate.py from docs/openapi.json.\n"
    '"""What the server takes, with its bounds: for the server of the tests, which refuses what the real one would."""',
]
_PARAM_OPTIONS = [
    "--output-model-type=typing.TypedDict",
    '--type-overrides={"Time": "trajectory_sdk.values.Time", "Id": "trajectory_sdk.values.Id"}',
    "--custom-file-header=# Made by packages/sdk-py/generate.py from docs/openapi.json.\n"
    '"""What is sent to the server, as typed dicts."""',
]


def models(document: dict[str, Any]) -> str:
    """The text of models.py."""
    schemas = _reachable(document["components"]["schemas"], _RESPONSE_SCHEMAS)
    return _generated({name: _lenient(schema) for name, schema in schemas.items()}, _MODEL_OPTIONS)


def params(document: dict[str, Any]) -> str:
    """The text of params.py."""
    schemas = _reachable(document["components"]["schemas"], _REQUEST_SCHEMAS)
    parameters = document["paths"]["/v1/agent/trajectories"]["get"]["parameters"]
    filters = {one["name"]: one["schema"] | {"description": one["description"]} for one in parameters}
    schemas["Filters"] = {
        "type": "object",
        "description": "Which trajectories: the query parameters that list, stats, export and delete_matching have in common.",
        "properties": {name: schema for name, schema in filters.items() if name not in _NOT_FILTERS},
    }
    schemas["RunFields"] = _fields(
        schemas["Trajectory"], "What `run.set` takes.", exclude=("id", "phases", *_SERVER_FIELDS)
    )
    schemas["PhaseFields"] = _fields(schemas["Phase"], "What `phase.set` takes.", exclude=("phase_name",))
    named = {name: {"type": "string"} for name in _TYPE_BY_FORMAT.values()}
    return _generated({name: _as_params(schema) for name, schema in schemas.items()} | named, _PARAM_OPTIONS)


def contract(document: dict[str, Any]) -> str:
    """The text of testing/contract.py."""
    schemas = _reachable(document["components"]["schemas"], _REQUEST_SCHEMAS)
    return _generated(
        {name: _rewritten(schema, _nullable_as_optional, without=_TITLE_KEYWORDS) for name, schema in schemas.items()},
        _CONTRACT_OPTIONS,
    )


def _fields(schema: dict[str, Any], description: str, *, exclude: tuple[str, ...]) -> dict[str, Any]:
    """Of these fields any."""
    properties = {name: one for name, one in schema["properties"].items() if name not in exclude}
    return {"type": "object", "description": description, "properties": properties}


def _reachable(schemas: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """These schemas and all that they refer to, in the document's order."""
    found: set[str] = set()
    open_ = list(names)
    while open_:
        name = open_.pop()
        if name not in found:
            found.add(name)
            open_ += [text.rpartition("/")[2] for text in _references(schemas[name])]
    return {name: schema for name, schema in schemas.items() if name in found}


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [reference for item in value.values() for reference in _references(item)]
    return [reference for item in value for reference in _references(item)] if isinstance(value, list) else []


def _rewritten(value: Any, change: Any, *, without: tuple[str, ...] = _CONSTRAINTS) -> Any:
    """Without these keywords, and with ``change`` applied to every schema; names of properties are no keywords."""
    if isinstance(value, list):
        return [_rewritten(item, change, without=without) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {
        key: {name: _rewritten(schema, change, without=without) for name, schema in item.items()}
        if key == "properties"
        else _rewritten(item, change, without=without)
        for key, item in value.items()
        if key not in without or (key == "additionalProperties" and isinstance(item, dict))
    }
    return change(kept)


def _lenient(schema: dict[str, Any]) -> Any:
    def change(one: dict[str, Any]) -> dict[str, Any]:
        if "enum" not in one:
            return one
        rest = {key: item for key, item in one.items() if key not in ("enum", "type")}
        return rest | {"anyOf": [{"type": "string", "enum": one["enum"]}, {"type": "string"}]}

    return _rewritten(schema, change)


def _as_params(schema: dict[str, Any]) -> Any:
    def change(one: dict[str, Any]) -> dict[str, Any]:
        named = _TYPE_BY_FORMAT.get(one.get("format", ""))
        if named is None:
            return {key: item for key, item in one.items() if key != "default"}
        rest = {key: item for key, item in one.items() if key not in ("type", "format")}
        return rest | {"$ref": f"#/components/schemas/{named}"}

    return _rewritten(schema, change)


def _nullable_as_optional(schema: dict[str, Any]) -> dict[str, Any]:
    """What may be null is optional, and None: said on the type itself, bounds do not become types of their own."""
    inner, *others = schema.get("anyOf", [{}])
    if others != [{"type": "null"}]:
        return schema
    return {**{key: item for key, item in schema.items() if key not in ("anyOf", "default")}, **inner}


def _generated(schemas: dict[str, Any], options: list[str]) -> str:
    """What datamodel-codegen makes of ``schemas``, formatted by the project's ruff."""
    document = {
        "openapi": "3.1.0",
        "info": {"title": "", "version": ""},
        "paths": {},
        "components": {"schemas": schemas},
    }
    with tempfile.TemporaryDirectory() as directory:
        source, target = Path(directory) / "openapi.json", Path(directory) / "generated.py"
        source.write_text(json.dumps(document))
        command = [str(Path(sys.executable).parent / "datamodel-codegen"), f"--input={source}", f"--output={target}"]
        subprocess.run([*command, *_OPTIONS, *options], check=True, cwd=HERE)
        return _formatted(target.read_text())


def _formatted(text: str) -> str:
    ruff = [str(Path(sys.executable).parent / "ruff")]
    for command in (["check", "--select=I,W", "--fix", "--quiet"], ["format"]):
        done = subprocess.run(
            [*ruff, *command, f"--stdin-filename={PACKAGE / 'generated.py'}", "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
            cwd=HERE,
        )
        text = done.stdout
    return text


def main() -> int:
    document = json.loads(DOCUMENT.read_text())
    texts = {"models.py": models(document), "params.py": params(document), "testing/contract.py": contract(document)}
    if "--check" not in sys.argv:
        for name, text in texts.items():
            (PACKAGE / name).write_text(text)
        return 0
    stale = [name for name, text in texts.items() if (PACKAGE / name).read_text() != text]
    if stale:
        print(f"{', '.join(stale)}: not what docs/openapi.json says; run python packages/sdk-py/generate.py")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
