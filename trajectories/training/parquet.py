"""Lines of an export as Parquet, with the extra ``training`` (pyarrow).

Row groups are written one after the other, so memory is that of one. A file without its end is no
Parquet file, so a cut cannot go unnoticed.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import orjson

from trajectories.exceptions import InvalidInput
from trajectories.training.columns import Columns, Kind

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP_ROWS = 10_000
ROW_GROUP_BYTES = 8 * 1024**2
"""Maximum size of the lines of a row group, unless one line is larger."""


def require() -> None:
    """Check that pyarrow is installed.

    Raises:
        InvalidInput: 400; it is not. The message names the extra.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise InvalidInput(
            "Parquet needs pyarrow, which is not installed here: install django-trajectories[training], or export"
            " file=jsonl.",
            code="parquet_unavailable",
            param="file",
        ) from None


def schema_of(columns: Columns) -> pa.Schema:
    """Return the Arrow schema of a format's columns."""
    import pyarrow as pa

    return pa.schema([pa.field(name, _type(kind)) for name, kind in columns.items()])


def encoded(lines: Iterable[bytes], columns: Columns, codec: str) -> Iterator[bytes]:
    """Yield a Parquet file with a row of each line.

    Args:
        codec: zstd, gzip or none.
    """
    import pyarrow.parquet as pq

    schema = schema_of(columns)
    with_text = _converter(columns)
    sink = _Sink()
    with pq.ParquetWriter(sink, schema, compression=codec) as writer:
        for group in _groups(lines):
            # Parsed rows are dropped one by one: garbage collection of thousands takes longer than parsing them.
            block = group if with_text is None else (_dumps(with_text(orjson.loads(line))) for line in group)
            writer.write_table(_table(b"".join(block), schema))
            yield sink.take()
    yield sink.take()


def _dumps(row: Any) -> bytes:
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


def _table(lines: bytes, schema: pa.Schema) -> pa.Table:
    """Return lines as one block of Arrow's own parser, which makes columns without objects of
    Python."""
    import pyarrow as pa
    import pyarrow.json as pj

    table = pj.read_json(
        pa.BufferReader(lines),
        read_options=pj.ReadOptions(use_threads=False, block_size=len(lines) + 1),
        parse_options=pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
    )
    return table.select(schema.names)


def _type(kind: Kind) -> pa.DataType:
    import pyarrow as pa

    if isinstance(kind, list):
        return pa.list_(_type(kind[0]))
    if isinstance(kind, Mapping):
        return pa.struct([pa.field(name, _type(inner)) for name, inner in kind.items()])
    types = {
        "text": pa.string(),
        "json": pa.string(),
        "int": pa.int64(),
        "float": pa.float64(),
        "bool": pa.bool_(),
        "time": pa.timestamp("us", "UTC"),
    }
    return types[str(kind)]


def _groups(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    group: list[bytes] = []
    size = 0
    for line in lines:
        if group and (len(group) == ROW_GROUP_ROWS or size + len(line) > ROW_GROUP_BYTES):
            yield group
            group, size = [], 0
        group.append(line)
        size += len(line)
    if group:
        yield group


def _converter(kind: Kind) -> Callable[[Any], Any] | None:
    """Return what replaces JSON columns in a value of a line by their text, None if there are none."""
    if kind == "json":
        return lambda value: None if value is None else orjson.dumps(value).decode()
    if isinstance(kind, list):
        inner = _converter(kind[0])
        return None if inner is None else lambda value: None if value is None else [inner(one) for one in value]
    if isinstance(kind, Mapping):
        found = {name: _converter(one) for name, one in kind.items()}
        parts = {name: convert for name, convert in found.items() if convert is not None}
        return _of_object(parts) if parts else None
    return None


def _of_object(parts: Mapping[str, Callable[[Any], Any]]) -> Callable[[Any], Any]:
    def convert(value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is None:
            return None
        return value | {name: part(value[name]) for name, part in parts.items() if name in value}

    return convert


class _Sink(io.RawIOBase):
    """A file whose bytes are taken away while it is written."""

    def __init__(self) -> None:
        super().__init__()
        self._chunks: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        chunk = bytes(data)
        self._chunks.append(chunk)
        self._size += len(chunk)
        return len(chunk)

    def tell(self) -> int:
        return self._size

    def take(self) -> bytes:
        taken = b"".join(self._chunks)
        self._chunks.clear()
        return taken
