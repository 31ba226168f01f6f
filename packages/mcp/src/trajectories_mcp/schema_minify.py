"""Shorter JSON Schemas. A model reads each schema at each start of a client."""

from __future__ import annotations

from typing import Any, Final

# Titles repeat names, an omitted field means null, and the only pattern of the contract refuses NUL.
_NOISE: Final = ("title", "default", "pattern")
_LARGEST_INTEGER: Final = 2**53 - 1
_COMPONENTS: Final = "#/components/schemas/"


def minify(schema: Any) -> Any:
    """Return ``schema`` without noise and without null, with its references pointing into ``$defs``."""
    if isinstance(schema, list):
        return [minify(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    schema = _without_null(schema)
    properties = {name: minify(one) for name, one in schema.get("properties", {}).items()}
    short = {name: minify(one) for name, one in schema.items() if name not in (*_NOISE, "properties")}
    if properties:
        short["properties"] = properties
    if short.get("maximum", 0) >= _LARGEST_INTEGER:
        del short["maximum"]
    if "patternProperties" in short:  # several clients support additionalProperties only
        (values,) = short.pop("patternProperties").values()
        short = {name: short[name] for name in ("type", "description") if name in short}
        short["additionalProperties"] = values
    if "$ref" in short:
        short["$ref"] = short["$ref"].replace(_COMPONENTS, "#/$defs/")
    return short


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    if "anyOf" not in schema:
        return schema
    known = [one for one in schema["anyOf"] if one != {"type": "null"}]
    rest = {name: value for name, value in schema.items() if name != "anyOf"}
    return rest | known[0] if len(known) == 1 else rest | {"anyOf": known}
