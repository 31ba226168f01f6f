"""Lines of an export as a file: JSON lines or Parquet, compressed or not."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from trajectories.domain.query import got
from trajectories.exceptions import InvalidInput
from trajectories.training import parquet
from trajectories.training.columns import Columns
from trajectories.zstandard import zstd

JSONL, PARQUET = "jsonl", "parquet"
FILES = (JSONL, PARQUET)
COMPRESSIONS = ("none", "gzip", "zstd")
CHUNK_BYTES = 16 * 1024
_SUFFIXES = {"none": "", "gzip": ".gz", "zstd": ".zst"}
_GZIP = 31
"""Window bits of zlib for the header of gzip. It has no time, so the same lines are the same file."""


class Encoding(NamedTuple):
    """How lines are written. Parquet has its compression inside, zstd by default."""

    file: str = JSONL
    compression: str = "none"

    @property
    def suffix(self) -> str:
        return f".{PARQUET}" if self.file == PARQUET else f".{JSONL}{_SUFFIXES[self.compression]}"

    def encoded(self, lines: Iterable[bytes], columns: Columns) -> Iterator[bytes]:
        """Yield the bytes of a file with these lines, some at a time."""
        if self.file == PARQUET:
            return parquet.encoded(lines, columns, self.compression)
        return self.compressed(chunks(lines))

    def compressed(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield lines that are joined already, compressed."""
        if self.compression == "none":
            yield from chunks
            return
        compressor = zlib.compressobj(wbits=_GZIP) if self.compression == "gzip" else zstd.ZstdCompressor()
        for chunk in chunks:
            if data := compressor.compress(chunk):
                yield data
        yield compressor.flush()


def parse_encoding(given: Mapping[str, str]) -> Encoding:
    """Read the parameters ``file`` and ``compression``.

    Raises:
        InvalidInput: 400; an unknown value, or one that this installation cannot write.
    """
    file = given.get("file", JSONL)
    if file not in FILES:
        raise InvalidInput(f"file must be {' or '.join(FILES)}, {got(file)}.", code="invalid_parameter", param="file")
    compression = given.get("compression", "zstd" if file == PARQUET else "none")
    if compression not in COMPRESSIONS:
        raise InvalidInput(
            f"compression must be one of {', '.join(COMPRESSIONS)}, {got(compression)}.",
            code="invalid_parameter",
            param="compression",
        )
    if file == PARQUET:
        parquet.require()
    return Encoding(file, compression)


def chunks(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Join lines to chunks of at least CHUNK_BYTES; the rows of one record may be far larger than
    it."""
    chunk: list[bytes] = []
    size = 0
    for one in lines:
        chunk.append(one)
        size += len(one)
        if size >= CHUNK_BYTES:
            yield b"".join(chunk)
            chunk, size = [], 0
    if chunk:
        yield b"".join(chunk)
