"""The canonical record, as lists show it.

    {"id":"…","request_summary":"Fix the login","phases":[{"phase_name":"implement","model":"m-1",
     "outcome":"success"}],"recorded_at":"2026-01-05T23:58:46.916527Z","revision":1767657526916527}

In Parquet phases are nested, times are timestamps, and objects of the client's own (``metadata``)
are JSON text. ``canonical`` makes the record's bytes of such a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from trajectories.domain import answers, schema
from trajectories.training.columns import Columns, Kind, of_contract
from trajectories.training.formats.base import Format, LeftOut, Options, Row
from trajectories.training.run import Run


class Jsonl(Format):
    name = "jsonl"

    def columns(self, options: Options) -> Columns:
        return of_contract()

    def rows_of(self, run: Run, options: Options, left_out: LeftOut) -> Iterator[Row]:
        yield orjson.loads(answers.item(run.record, run.facets))

    def lines_of(self, run: Run, options: Options, left_out: LeftOut) -> Iterator[bytes]:
        yield answers.item(run.record, run.facets) + b"\n"


def canonical(row: Mapping[str, Any]) -> bytes:
    """Return the canonical body of a row that was read from Parquet."""
    fields = {name: _read(row[name], kind) for name, kind in of_contract().items() if row.get(name) is not None}
    return schema.canonical(schema.parse(orjson.dumps(fields, option=orjson.OPT_UTC_Z)))


def _read(value: Any, kind: Kind) -> Any:
    if value is None:
        return None
    if isinstance(kind, list):
        return [_read(item, kind[0]) for item in value]
    if isinstance(kind, Mapping):
        return {name: _read(value[name], inner) for name, inner in kind.items()}
    return orjson.loads(value) if kind == "json" else value
