"""JSON Schema as short as a model can be given it: each schema is read by one at each start."""

from __future__ import annotations

from typing import Any, Final

# Titles repeat names, and null is said by leaving out; the one pattern of the contract is that NUL is refused.
_NOISE: Final = ("title", "default", "pattern")
_LARGEST_INTEGER: Final = 2**53 - 1
_COMPONENTS: Final = "#/components/schemas/"


def plain(schema: Any) -> Any:
    """``schema`` without noise, and with references that point into ``$defs``."""
    if isinstance(schema, list):
        return [plain(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    schema = _without_null(schema)
    properties = {name: plain(one) for name, one in schema.get("properties", {}).items()}
    short = {name: plain(one) for name, one in schema.items() if name not in (*_NOISE, "properties")}
    if properties:
        short["properties"] = properties
    if short.get("maximum", 0) >= _LARGEST_INTEGER:
        del short["maximum"]
    if "patternProperties" in short:  # of a mapping; several clients know only the other form
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
