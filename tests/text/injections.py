"""Texts that try to act as code or markup, and bodies with one in every text field of the contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from trajectories.domain.dialects import CamelTrajectory
from trajectories.domain.schema import Trajectory

HARMLESS = "harmless"

INJECTIONS: Mapping[str, str] = {
    "script": "</script><script>window.injected = 1</script>",
    "closed tag": '"><img src="x" onerror="window.injected = 1">',
    "attribute": "' onfocus='window.injected = 1' autofocus tabindex='0",
    "JavaScript address": "javascript:window.injected=1",
    "template": "{{ injected }}{% debug %}",
    "formula =": "=cmd|'/C calc'!A0",
    "formula +": "+1+cmd|'/C calc'!A0",
    "formula -": "-2+3+cmd|'/C calc'!A0",
    "formula @": "@SUM(1+1)*cmd|'/C calc'!A0",
    "terminal escape": "\x1b[2J\x1b]0;injected\x07",
    "terminal escape C1": "\x9b2J\x9d0;injected\x9c",
    "log line": "x\r\n2026-01-01 00:00:00,000 INFO trajectories: injected",
    "bidi override": "\u202egnp.exe\u202c",
    "bidi isolate": "\u2067injected\u2069\u2066",
    "line separator": "x\u2028injected\u2029",
    "hidden tags": "x\U000e0069\U000e006e\u200b\ufeff",
}

MODELS: Mapping[str, type[BaseModel]] = {"canonical": Trajectory, "camelCase": CamelTrajectory}


def filled(dialect: str, text: str) -> dict[str, Any]:
    """A body of this dialect with ``text`` wherever a text may be; made from the schema, so new
    fields are in it."""
    schema = MODELS[dialect].model_json_schema()
    body: dict[str, Any] = _object(schema, schema.get("$defs", {}), text)
    return body


def texts(value: Any) -> list[str]:
    """Every text in a JSON value, keys of free objects included."""
    if isinstance(value, dict):
        return [text for pair in value.items() for item in pair for text in texts(item)]
    if isinstance(value, list):
        return [text for item in value for text in texts(item)]
    return [value] if isinstance(value, str) else []


_NUMBERS = {"integer": 1, "number": 1, "boolean": True}


def _object(schema: Mapping[str, Any], defs: Mapping[str, Any], text: str) -> dict[str, Any]:
    values = {name: _value(given, defs, text) for name, given in schema["properties"].items()}
    # A required word, such as an outcome, is one that the contract has.
    values |= {
        name: schema["properties"][name]["enum"][0] for name in schema.get("required", ()) if values[name] is None
    }
    return {name: value for name, value in values.items() if value is not None}


def _value(given: Mapping[str, Any], defs: Mapping[str, Any], text: str) -> Any:
    if "anyOf" in given:
        return next((value for one in given["anyOf"] if (value := _value(one, defs, text)) is not None), None)
    if "$ref" in given:
        return _object(defs[given["$ref"].rpartition("/")[2]], defs, text)
    kind = given.get("type")
    if kind == "string":
        return None if "enum" in given or "format" in given else text
    if kind == "array":
        return [_value(given["items"], defs, text)]
    if kind == "object":
        (members,) = given.get("patternProperties", {"": {"type": "string"}}).values()
        return {text: _value(members, defs, text)}
    return _NUMBERS.get(str(kind))
