"""Facts of the HTTP API, from the code and from docs/openapi.json."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from django.test import RequestFactory

from tests.lockstep.facts import ERROR, OPERATION, PARAMETER, REQUEST, RESPONSE, Side, fields, parameters
from tests.processes import PROJECT
from trajectories.urls.api import openapi_json

DOCUMENT = PROJECT / "docs" / "openapi.json"
_METHODS = ("get", "post", "delete", "put", "patch")
_SECOND_DIALECT = "Camel"
"""Prefix of the schemas for an existing camelCase client. No SDK uses them."""
Json = dict[str, Any]


@cache
def live() -> Json:
    """Return the document that the code generates."""
    found: Json = json.loads(openapi_json(RequestFactory().get("/v1/openapi.json")).content)
    return found


def kept() -> Json:
    """Return the committed document."""
    found: Json = json.loads(DOCUMENT.read_bytes())
    return found


def facts(document: Json) -> frozenset[str]:
    """Return all facts of a document."""
    found: set[str] = set()
    for operation in operations(document).values():
        name = operation["operationId"]
        found |= {f"{OPERATION} {name}"}
        found |= parameters(name, (one["name"] for one in operation["parameters"] if one["in"] != "header"))
        found |= {f"{ERROR} {status}" for status in operation["responses"] if status >= "400"}
    for kind, roots in ((REQUEST, _sent(document)), (RESPONSE, _answered(document))):
        for schema, names in reachable(document, roots).items():
            found |= fields(kind, schema, names)
    return frozenset(found)


def operations(document: Json) -> Mapping[tuple[str, str], Json]:
    """Return the operations by method and path."""
    return {
        (method.upper(), path): {"parameters": [], **item[method]}
        for path, item in document["paths"].items()
        for method in _METHODS
        if method in item
    }


@cache
def _routes() -> list[tuple[str, re.Pattern[str], str]]:
    routes = []
    # Paths without a variable first: otherwise /stats would match /{id}.
    for (method, path), operation in sorted(operations(live()).items(), key=lambda item: "{" in item[0][1]):
        routes.append((method, re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), str(operation["operationId"])))
    return routes


def operation_of(method: str, path: str) -> str:
    """Return the operation that handles a request."""
    for known, pattern, operation in _routes():
        if known == method and pattern.fullmatch(path):
            return operation
    raise AssertionError(f"{method} {path} is not an endpoint of the HTTP API.")


def reachable(document: Json, roots: Iterator[Any]) -> Mapping[str, list[str]]:
    """Return the fields of all schemas that ``roots`` refer to, directly or indirectly."""
    schemas, found = document["components"]["schemas"], {}
    open_ = [name for root in roots for name in _references(root)]
    while open_:
        name = open_.pop()
        if name in found or name.startswith(_SECOND_DIALECT):
            continue
        found[name] = list(schemas[name].get("properties", {}))
        open_ += _references(schemas[name])
    return found


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"].rpartition("/")[2]] if isinstance(value.get("$ref"), str) else []
        return own + [name for item in value.values() for name in _references(item)]
    return [name for item in value for name in _references(item)] if isinstance(value, list) else []


def _sent(document: Json) -> Iterator[Any]:
    return (operation["requestBody"] for operation in operations(document).values() if "requestBody" in operation)


def _answered(document: Json) -> Iterator[Any]:
    return (operation["responses"] for operation in operations(document).values())


def document_side() -> Side:
    return Side(
        name="docs/openapi.json",
        kinds=(OPERATION, PARAMETER, REQUEST, RESPONSE, ERROR),
        facts=facts(kept()),
        touch="uv run python docs/generate_openapi.py",
    )
