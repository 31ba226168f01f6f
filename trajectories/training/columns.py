"""The columns of a format, without Arrow: names and kinds, from which a Parquet schema is made.

A kind is ``text``, ``int``, ``float``, ``bool``, ``time`` (RFC 3339 text in a line, a timestamp in
Parquet) or ``json`` (any JSON in a line, its text in Parquet). A list with one kind is a list of
it, and a mapping is an object with these columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin
from uuid import UUID

from pydantic import AwareDatetime, BaseModel

from trajectories.domain import schema

Kind: TypeAlias = "str | list[Any] | Mapping[str, Any]"
Columns: TypeAlias = Mapping[str, Kind]

_SCALARS: Mapping[Any, str] = {
    str: "text",
    int: "int",
    float: "float",
    bool: "bool",
    UUID: "text",
    AwareDatetime: "time",
    Any: "json",
}
_CREDIT: Columns = {"rule": "text", "phases": [{"outcome": "text", "source": "text"}]}
_DERIVED: Columns = {
    "outcome": "text",
    **dict.fromkeys(("total_cost_usd", "phases_cost_usd", "unattributed_cost_usd", "total_duration_ms"), "float"),
    **dict.fromkeys(("input_tokens", "output_tokens", "total_tokens"), "int"),
    "credit": _CREDIT,
}
OUTCOME: Columns = {
    "id": "text",
    "name": "text",
    "value": "json",
    "phase_id": "text",
    "source": "text",
    "reference": "json",
    "evidence": "json",
    "at": "time",
    "recorded_at": "time",
}
"""A late outcome."""
_ADDED: Columns = {"recorded_at": "time", "revision": "int", "derived": _DERIVED, "outcomes": [OUTCOME]}
"""The fields that the server adds have no type in the contract."""


def of_contract() -> Columns:
    """Return the columns of a canonical record, in the order of the contract."""
    columns = _of_model(schema.Trajectory)
    del columns["warnings"]  # a posted body may have them; exports do not
    return {**columns, **_ADDED}


def _of_model(model: type[BaseModel]) -> dict[str, Kind]:
    return {name: _kind(field.annotation) for name, field in model.model_fields.items()}


def _kind(annotation: Any) -> Kind:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kind(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return _kind(next(one for one in get_args(annotation) if one is not NoneType))
    if origin is Literal:
        return "text"
    if origin is list:
        return [_kind(get_args(annotation)[0])]
    if origin is dict:
        return "json"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _of_model(annotation)
    return _SCALARS[annotation]
