"""Files of a data set, one range of records at a time, so that disk use is bounded too."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, groupby
from pathlib import Path
from typing import BinaryIO, NamedTuple

from trajectories.storage import archive_reads
from trajectories.storage.archive_reads import Exported
from trajectories.training.columns import Columns
from trajectories.training.encoding import PARQUET, Encoding
from trajectories.training.export import Request, Selection
from trajectories.training.formats.base import line
from trajectories.training.hub_state import Range, key_of
from trajectories.training.manifest import File, Tally
from trajectories.training.run import Run
from trajectories.training.seen import Seen

SHARD_BYTES = 64 * 1024**2
"""Size at which a range ends. A file is smaller where the range has several parts."""
ONLY_PART = "train"
"""Name of the only part, where there is no split: loaders expect it."""
_PAGE = 100

OnRecords = Callable[[int], None]


class Built(NamedTuple):
    """A range, and where its files are on disk."""

    range: Range
    paths: dict[str, Path]


class _Shard:
    """One file being written."""

    def __init__(self, path: Path, part: str) -> None:
        self.part, self.path = part, path
        self.lines = self.bytes = 0
        self._digest = hashlib.sha256()
        self._file: BinaryIO = path.open("wb")

    def write(self, line_: bytes) -> None:
        self._file.write(line_)
        self._digest.update(line_)
        self.lines, self.bytes = self.lines + 1, self.bytes + len(line_)

    def close(self, prefix: str, encoding: Encoding, columns: Columns) -> File:
        """End the file, as Parquet if the encoding says so."""
        self._file.close()
        size, digest = self.bytes, self._digest
        if encoding.file == PARQUET:
            size, digest = 0, hashlib.sha256()
            lines, self.path = self.path, self.path.with_suffix(encoding.suffix)
            with lines.open("rb") as source, self.path.open("wb") as file:
                for chunk in encoding.encoded(source, columns):
                    file.write(chunk)
                    size += len(chunk)
                    digest.update(chunk)
            lines.unlink()
        sha256 = digest.hexdigest()
        name = f"data/{self.part}/{prefix}-{sha256[:16]}{encoding.suffix}"
        return File(name, self.part, self.lines, size, sha256)


class Builder:
    """Write the files of ranges into ``directory``.

    The same records make the same files with the same names, so an upload that was cut finds on the
    Hub what it has uploaded.
    """

    def __init__(
        self,
        directory: Path,
        tenant: str,
        request: Request,
        encoding: Encoding,
        *,
        shard_bytes: int,
        on_records: OnRecords,
    ) -> None:
        self._encoding = encoding
        self._directory, self._tenant, self._request = directory, tenant, request
        self._shard_bytes, self._on_records = shard_bytes, on_records
        self._made = 0

    def rebuilt(self, after_seq: int, up_to_seq: int) -> Built:
        """Return the range with the records that it has now."""
        return self._range(after_seq, up_to_seq, self._records(after_seq, up_to_seq), limit=None)

    def new(self, after_seq: int, up_to_seq: int) -> Iterator[Built]:
        """Yield the ranges of the records after ``after_seq``; each ends at ``shard_bytes``."""
        records = self._records(after_seq, up_to_seq)
        for first in records:
            built = self._range(after_seq, None, chain([first], records), limit=self._shard_bytes)
            yield built
            after_seq = built.range.up_to_seq

    def whole(self, up_to_seq: int) -> Built:
        """Return one range of all records, for exports that compare records."""
        names: Iterable[str | None] = [None] if self._request.split is None else self._request.split.names
        keys, tally = hashlib.blake2b(digest_size=16), Tally()
        shards: list[_Shard] = []
        is_first = True
        for name in names:
            request = self._request if name is None else self._request._replace(part=name)
            shards += self._whole_part(request, name or ONLY_PART, up_to_seq, keys if is_first else None, tally)
            is_first = False
        return self._built(0, up_to_seq, keys.hexdigest(), tally, shards)

    def _whole_part(
        self, request: Request, part: str, up_to_seq: int, keys: hashlib.blake2b | None, tally: Tally
    ) -> list[_Shard]:
        shards: list[_Shard] = []
        options, one = request.options, Tally()

        def runs() -> Iterator[Run]:
            for exported in self._records(0, up_to_seq):
                if keys is not None:
                    keys.update(key_of(exported.record))
                for run, _ in selection.select([exported.record]):
                    one.add_policy(run)
                    yield run

        with Seen() as seen:
            selection = Selection(request, one, seen)
            if request.format.is_combined(options):
                rows = (row for run in runs() for row in request.format.rows_of(run, options, one.left_out))
                lines = (line(row) for row in request.format.combined(rows, options, one.left_out))
            else:
                lines = (text for run in runs() for text in request.format.lines_of(run, options, one.left_out))
            for text in lines:
                if not shards or shards[-1].bytes >= self._shard_bytes:
                    shards.append(self._shard(part))
                shards[-1].write(text)
        _add(tally, one, leaves_out_parts=request.split is not None and self._request.part is None)
        return shards

    def example(self, up_to_seq: int) -> bytes | None:
        """Return the first row of the data set; None if it has none, or compares records."""
        request, tally = self._request, Tally()
        if request.format.is_combined(request.options):
            return None
        with Seen() as seen:
            selection = Selection(request, tally, seen)
            for exported in self._records(0, up_to_seq):
                for run, _ in selection.select([exported.record]):
                    for text in request.format.lines_of(run, request.options, tally.left_out):
                        return text
        return None

    def _range(self, after_seq: int, up_to_seq: int | None, records: Iterable[Exported], *, limit: int | None) -> Built:
        request, shards, tally = self._request, dict[str, _Shard](), Tally()
        keys, seq = hashlib.blake2b(digest_size=16), after_seq
        with Seen() as seen:
            selection = Selection(request, tally, seen)
            for exported in records:
                seq, record = exported
                keys.update(key_of(record))
                for run, part in selection.select([record]):
                    tally.add_policy(run)
                    name = part or ONLY_PART
                    for text in request.format.lines_of(run, request.options, tally.left_out):
                        if name not in shards:
                            shards[name] = self._shard(name)
                        shards[name].write(text)
                if limit is not None and sum(shard.bytes for shard in shards.values()) >= limit:
                    break
        return self._built(after_seq, up_to_seq or seq, keys.hexdigest(), tally, list(shards.values()))

    def _built(self, after_seq: int, up_to_seq: int, keys: str, tally: Tally, shards: list[_Shard]) -> Built:
        files, paths, columns = [], {}, self._request.format.columns(self._request.options)
        for _, of_part in groupby(shards, key=lambda shard: shard.part):
            for number, shard in enumerate(of_part):
                prefix = f"{after_seq:012d}" + (f"-{number:05d}" if self._request.is_whole else "")
                file = shard.close(prefix, self._encoding, columns)
                files.append(file)
                paths[file.name] = shard.path
        counted = (dict(sorted(tally.left_out.items())), dict(sorted(tally.policies.items())))
        made = Range(after_seq, up_to_seq, keys, tally.records, tally.first, tally.last, *counted, tuple(files))
        return Built(made, paths)

    def _shard(self, part: str) -> _Shard:
        self._made += 1
        return _Shard(self._directory / f"{self._made}.jsonl", part)

    def _records(self, after_seq: int, up_to_seq: int) -> Iterator[Exported]:
        rows = archive_reads.in_order(self._tenant, self._request.query)
        while page := archive_reads.exported(rows, after_seq, up_to_seq, _PAGE):
            yield from page
            after_seq = page[-1].seq
            self._on_records(len(page))


def _add(total: Tally, one: Tally, *, leaves_out_parts: bool) -> None:
    """Add the counts of one part to those of all; records of other parts are not left out."""
    total.records_read = max(total.records_read, one.records_read)
    total.records += one.records
    total.first, total.last = _first(total.first, one.first), _last(total.last, one.last)
    total.policies.update(one.policies)
    for reason, count in one.left_out.items():
        if not (leaves_out_parts and reason == "in another part of the split"):
            is_of_all = reason == "in no part of the split"
            total.left_out[reason] = max(total.left_out[reason], count) if is_of_all else total.left_out[reason] + count


def _first(a: dict[str, str] | None, b: dict[str, str] | None) -> dict[str, str] | None:
    return min(filter(None, (a, b)), key=lambda one: one["recorded_at"], default=None)


def _last(a: dict[str, str] | None, b: dict[str, str] | None) -> dict[str, str] | None:
    return max(filter(None, (a, b)), key=lambda one: one["recorded_at"], default=None)
