"""Record the runs of an uploaded file."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from trajectories.api.content_encoding import decoded
from trajectories.domain.text import visible
from trajectories.exceptions import InvalidInput, TooLarge, TrajectoriesError
from trajectories.services import ingest
from trajectories.storage.store import Store

MAX_BYTES = 64 * 2**20
"""Unpacked bytes of a file. One request records it, and a server ends long requests."""
MAX_RUNS = 100_000
"""Runs of a file. 15 kB of gzip can have five million, which took 12 GB of memory."""
MAX_NESTED = 1_000_000
"""Objects and lists of a file that is parsed whole: each takes up to 250 bytes of memory."""
MAX_ERRORS = 100
_BATCH = 500
_ENCODINGS = {"gz": "gzip", "zst": "zstd"}


class RefusedLine(NamedTuple):
    """A run that was not recorded. ``number`` counts lines, or elements of an array, from 1."""

    number: int
    error: TrajectoriesError

    @property
    def reason(self) -> str:
        """Return the message, which may repeat characters of the file, safe to read."""
        return visible(self.error.message)


@dataclass(slots=True)
class Summary:
    """Counts of the runs of a file by result. ``errors`` are the first MAX_ERRORS of ``refused``."""

    new: int = 0
    known: int = 0
    refused: int = 0
    errors: list[RefusedLine] = field(default_factory=list)

    @property
    def accepted(self) -> int:
        return self.new + self.known

    def add(self, lines: Iterable[ingest.Line], first: int) -> None:
        """Add the results of lines; ``first`` is the number of lines before them."""
        for line in lines:
            if isinstance(line.outcome, ingest.Accepted):
                self.new += line.outcome.is_new
                self.known += not line.outcome.is_new
            else:
                self.refused += 1
                if len(self.errors) < MAX_ERRORS:
                    self.errors.append(RefusedLine(first + line.number, line.outcome))


def record_file(store: Store, tenant: str, chunks: Iterable[bytes], *, name: str, replace: bool = False) -> Summary:
    """Record the runs of a file: JSON lines, one JSON object, or an array of objects.

    A run that is refused does not stop the others. A failure stops the import, and what was
    recorded before stays: the same file can be imported again.

    Args:
        name: of the file; ``.gz`` and ``.zst`` are unpacked.

    Raises:
        InvalidInput: the file is no JSON, or not what its name says.
        TooLarge: more than MAX_BYTES, MAX_RUNS or MAX_NESTED. Nothing was recorded.
        QuotaExceeded, OutboxUnavailable: as for ``ingest.record_many``.
    """
    runs, summary = _runs(_read(chunks, name)), Summary()
    for first in range(0, len(runs), _BATCH):
        # A batch at a time: orjson keeps up to 4 kB for each result, however short it is.
        batch = [run if isinstance(run, bytes) else orjson.dumps(run) for run in runs[first : first + _BATCH]]
        summary.add(ingest.record_many(store, tenant, batch, replace=replace), first)
    return summary


def _read(chunks: Iterable[bytes], name: str) -> bytes:
    parts, size = [], 0
    encoding = _ENCODINGS.get(name.rpartition(".")[2].lower(), "")
    try:
        for part in decoded(chunks, encoding):
            size += len(part)
            if size > MAX_BYTES:
                raise TooLarge(
                    f"A file may have {MAX_BYTES // 2**20} MiB unpacked. Import more with the SDK's command."
                )
            parts.append(part)
    except InvalidInput as error:
        raise InvalidInput(f"The file is no complete {encoding} file, as its name says.") from error
    return b"".join(parts).removeprefix(codecs.BOM_UTF8)


def _runs(data: bytes) -> list[Any]:
    """Return the runs: those of an array parsed, others as bytes of JSON. Lines are not parsed
    here: a line may be invalid alone."""
    text = data.strip()
    if not text:
        raise InvalidInput("The file is empty.")
    if text.startswith(b"["):
        runs: list[Any] = _parsed(text)
        _expect_runs(len(runs))
        return runs
    is_one_object = not text.partition(b"\n")[0].rstrip().endswith(b"}")
    if is_one_object:
        return [orjson.dumps(_parsed(text))]
    _expect_runs(data.count(b"\n") + (not data.endswith(b"\n")))
    return data.split(b"\n")


def _expect_runs(count: int) -> None:
    if count > MAX_RUNS:
        raise TooLarge(f"A file may have {MAX_RUNS:,} runs, got {count:,}. Import more with the SDK's command.")


def _parsed(text: bytes) -> Any:
    if text.count(b"{") + text.count(b"[") > MAX_NESTED:
        raise TooLarge(f"The file has more than {MAX_NESTED:,} objects and lists. Import it as JSON lines.")
    try:
        return orjson.loads(text)
    except ValueError as error:
        raise InvalidInput(f"The file is not JSON: {error}.") from error
