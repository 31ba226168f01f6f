"""Shorter and plainer JSON Schemas. A model reads each schema at each start of a client.

Several clients convert the schemas for their model's API, and some converters (of Gemini, for
example) reject ``$ref``, ``$defs`` and a boolean ``additionalProperties``. So the schemas have
none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

# Titles repeat names, an omitted field means null, and the only pattern of the contract refuses NUL.
_NOISE: Final = ("title", "default", "pattern", "$defs")
_LARGEST_INTEGER: Final = 2**53 - 1


def minify(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """Return ``schema`` without noise and without null, with its references replaced.

    Args:
        definitions: the schemas that references name by their last part. None may contain itself.
    """
    if isinstance(schema, list):
        return [minify(one, definitions) for one in schema]
    if not isinstance(schema, dict):
        return schema
    schema = _without_null(schema)
    if "$ref" in schema:
        rest = {name: one for name, one in schema.items() if name != "$ref"}
        return minify(definitions[schema["$ref"].rpartition("/")[2]] | rest, definitions)
    properties = {name: minify(one, definitions) for name, one in schema.get("properties", {}).items()}
    short = {name: minify(one, definitions) for name, one in schema.items() if name not in (*_NOISE, "properties")}
    if isinstance(short.get("additionalProperties"), bool):
        del short["additionalProperties"]
    if properties:
        short["properties"] = properties
    if short.get("maximum", 0) >= _LARGEST_INTEGER:
        del short["maximum"]
    if "patternProperties" in short:  # several clients support additionalProperties only
        (values,) = short.pop("patternProperties").values()
        short = {name: short[name] for name in ("type", "description") if name in short}
        short["additionalProperties"] = values
    return short


def schema_of(model: type[BaseModel]) -> Any:
    """Return the minified schema of what ``model`` serializes to."""
    schema = model.model_json_schema(mode="serialization")
    return minify(schema, schema.get("$defs", {}))


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    if "anyOf" not in schema:
        return schema
    known = [one for one in schema["anyOf"] if one != {"type": "null"}]
    rest = {name: value for name, value in schema.items() if name != "anyOf"}
    return rest | known[0] if len(known) == 1 else rest | {"anyOf": known}
