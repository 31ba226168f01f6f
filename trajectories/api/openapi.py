"""The OpenAPI document: drf-spectacular over the viewset, with the Pydantic models as components."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import EndpointEnumerator, SchemaGenerator
from drf_spectacular.openapi import AutoSchema as SpectacularAutoSchema
from drf_spectacular.settings import SPECTACULAR_DEFAULTS, patched_settings, spectacular_settings
from drf_spectacular.utils import extend_schema

import trajectories
from trajectories.api.learning_operations import LEARNING_OPERATIONS
from trajectories.api.operations import ANSWER_HEADERS, OPERATIONS
from trajectories.api.viewset import ApiViewSet

_SETTINGS: dict[str, Any] = {
    name: value
    for name, value in SPECTACULAR_DEFAULTS.items()
    if not name.startswith("SERVE_") and name != "DEFAULT_GENERATOR_CLASS"
} | {
    "OAS_VERSION": "3.1.1",
    "TITLE": "Trajectories",
    "DESCRIPTION": "The store for orchestration trajectories: which phases ran, which model and why, at what cost, with what outcome.",
    "VERSION": trajectories.__version__,
    "SCHEMA_PATH_PREFIX": None,
    "TAGS": [{"name": "trajectories"}],
    "SECURITY": [{"apiKey": []}],
    "APPEND_COMPONENTS": {
        "securitySchemes": {
            "apiKey": {"type": "http", "scheme": "bearer", "description": "An API key of a tenant, with scopes."}
        }
    },
    "PREPROCESSING_HOOKS": [],
    "POSTPROCESSING_HOOKS": [],
    "COMPONENT_SPLIT_PATCH": False,  # the body of PATCH is a component of its own already
    "SORT_OPERATIONS": True,  # else methods come in the order of a set
}


class AutoSchema(SpectacularAutoSchema):
    """Operations of this app, whatever the host project has set for its own."""

    def get_tags(self) -> list[str]:
        return ["trajectories"]

    def get_operation_id(self) -> str:
        return str(self.view.action)  # type: ignore[attr-defined]

    def _is_list_view(self, serializer: Any = None) -> bool:
        """A page is one object; by the name of its action it would be documented as an array of
        pages."""
        return False

    def _get_request_body(self, direction: Any = "request") -> Any:
        body = super()._get_request_body(direction)  # type: ignore[no-untyped-call]
        return body and body | {"required": True}

    def get_auth(self) -> list[dict[str, list[str]]]:
        return [{"apiKey": []}]


# Here and not in the class: a process that makes no document loads nothing of this module.
ApiViewSet.schema = AutoSchema()


def _describe(view: Any) -> None:
    """Give the actions of ``view`` the descriptions that ``documented`` names, once."""
    for method in map(partial(getattr, view), dir(view)):
        operation, kwargs = getattr(method, "operation", None), getattr(method, "kwargs", {})
        if operation and "schema" not in kwargs:
            said = (OPERATIONS | LEARNING_OPERATIONS)[operation]()
            # extend_schema builds on what a method names here, and else on the host project's default.
            method.kwargs = kwargs | {"schema": AutoSchema}
            extend_schema(**said | {"parameters": [*said["parameters"], *ANSWER_HEADERS]})(method)


class _Endpoints(EndpointEnumerator):
    """The endpoints of this app, which others do not see."""

    def should_include_endpoint(self, path: str, callback: Any) -> bool:
        view: Any = getattr(callback, "cls", None)
        if not (isinstance(view, type) and issubclass(view, ApiViewSet)):
            return False
        _describe(view)
        return True


class _Generator(SchemaGenerator):
    endpoint_inspector_cls = _Endpoints


_generator: Any = _Generator  # it has no types


@cache
def _document(patterns: tuple[Any, ...]) -> dict[str, Any]:
    with _settings_lock, _set_aside(), patched_settings(_SETTINGS):
        document: dict[str, Any] = _generator(patterns=patterns).get_schema(request=None, public=True)
    return document


_settings_lock = threading.Lock()


@contextmanager
def _set_aside() -> Iterator[None]:
    """Keep the warnings and patched settings of a document that the host project generates now."""
    kept: list[tuple[Any, str, Any]] = [
        (GENERATOR_STATS, "_warn_cache", GENERATOR_STATS._warn_cache.copy()),
        (GENERATOR_STATS, "_error_cache", GENERATOR_STATS._error_cache.copy()),
        (spectacular_settings, "_original_settings", spectacular_settings._original_settings),
    ]
    spectacular_settings._original_settings = {}
    try:
        yield
    finally:
        for owner, name, value in kept:
            setattr(owner, name, value)


def openapi(patterns: Iterable[Any], prefix: str = "") -> dict[str, Any]:
    """The OpenAPI 3.1 document of URL patterns, with ``prefix`` (where the host project mounts
    them) as its server."""
    return _document(tuple(patterns)) | {"servers": [{"url": prefix or "/"}]}


def include_in_schema(result: dict[str, Any], generator: Any, **_: Any) -> dict[str, Any]:
    """Add this API to the host project's own document: a hook for ``POSTPROCESSING_HOOKS``.

    Operation ids begin with ``trajectories_`` and components with ``Trajectories``.
    """
    own = _for_host(_document(tuple(generator.inspector.patterns)), is_3_0=result["openapi"].startswith("3.0"))
    for path, operations in own["paths"].items():
        result["paths"][path] = {
            method: operation
            | {"operationId": f"trajectories_{operation['operationId']}", "security": [{_HOST_SCHEME: []}]}
            for method, operation in operations.items()
        }
    components = result.setdefault("components", {})
    components.setdefault("schemas", {}).update(
        {_PREFIX + name: schema for name, schema in own["components"]["schemas"].items()}
    )
    components.setdefault("securitySchemes", {})[_HOST_SCHEME] = own["components"]["securitySchemes"]["apiKey"]
    return result


_PREFIX = "Trajectories"
_HOST_SCHEME = "trajectoriesApiKey"
_REF = "#/components/schemas/"
_NOT_IN_3_0 = ("patternProperties", "propertyNames")


def _for_host(value: Any, *, is_3_0: bool) -> Any:
    """Return a copy of a part of our document that refers to prefixed components."""
    if isinstance(value, list):
        return [_for_host(item, is_3_0=is_3_0) for item in value]
    if not isinstance(value, dict):
        return value
    copy = {name: _for_host(item, is_3_0=is_3_0) for name, item in value.items()}
    if isinstance(copy.get("$ref"), str):
        copy["$ref"] = _REF + _PREFIX + copy["$ref"].removeprefix(_REF)
    return _as_3_0(copy) if is_3_0 else copy


def _as_3_0(schema: dict[str, Any]) -> dict[str, Any]:
    """Return ``schema`` in the words of OpenAPI 3.0, which has no null type and fewer keywords."""
    schema = {name: item for name, item in schema.items() if name not in _NOT_IN_3_0}
    if "const" in schema:
        schema["enum"] = [schema.pop("const")]
    if schema.get("type") == "null" and len(schema) > 1:  # alone, it is a member of an anyOf
        schema |= {"type": "object", "nullable": True, "enum": [None]}
    for bound in ("minimum", "maximum"):
        exclusive = f"exclusive{bound.capitalize()}"
        if exclusive in schema:  # a number, where 3.0 has a flag beside the bound
            schema |= {bound: schema[exclusive], exclusive: True}
    kinds = schema.get("anyOf")
    if isinstance(kinds, list) and {"type": "null"} in kinds:
        del schema["anyOf"]
        others = [kind for kind in kinds if kind != {"type": "null"}]
        # Beside a $ref, 3.0 ignores every other keyword.
        is_plain = len(others) == 1 and "$ref" not in others[0]
        schema |= (others[0] if is_plain else {"anyOf": others}) | {"nullable": True}
    return schema
