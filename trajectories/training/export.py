"""One export of a tenant's records, in any format: the same for the API, commands and the Hub.

Records are read page by page, so memory does not depend on their number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from trajectories.domain.clock import rfc3339
from trajectories.domain.outcomes import phase_group
from trajectories.domain.query import FILTERS, Query, parse_query
from trajectories.domain.record import Record
from trajectories.exceptions import InvalidInput
from trajectories.services import reads
from trajectories.storage.store import Store
from trajectories.training import formats
from trajectories.training.formats.base import Format, Options, line
from trajectories.training.formats.of_decisions import request_key
from trajectories.training.manifest import SCHEMA_VERSION, File, Manifest, Tally
from trajectories.training.run import Run
from trajectories.training.scratch import Scratch
from trajectories.training.splits import SPLIT_BY, Split, parse_split

PARAMETERS = ("format", "split", "split_by", "part", "dedupe")
"""Parameters of an export besides the filters and the options of its format."""
_CHUNK_BYTES = 256 * 1024
OPTIONS = tuple(dict.fromkeys(name for one in formats.FORMATS.values() for name in one.options))
"""The options of all formats."""


class Request(NamedTuple):
    """What to export, and how. ``given`` are the filters as text; ``part`` is one of ``split``."""

    given: Mapping[str, str]
    query: Query
    format: Format
    options: Options
    split: Split | None = None
    split_text: str | None = None
    part: str | None = None
    is_deduplicated: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether lines depend on earlier records, so that the export cannot be continued after an
        id."""
        return self.is_deduplicated or self.format.is_combined(self.options)


def parse_request(given: Mapping[str, str], now_us: int) -> Request:
    """Parse filters, PARAMETERS and the options of the format.

    Args:
        given: ``dedupe`` is 0 or 1.
        now_us: the end of spans such as ``since=7d``.

    Raises:
        InvalidInput: 400; unknown format or option, or an invalid value.
    """
    left = dict(given)
    format_ = formats.get(left.pop("format", formats.DEFAULT))
    dedupe, text, part = left.pop("dedupe", "0"), left.pop("split", None), left.pop("part", None)
    split_by = left.pop("split_by", None)
    if dedupe not in ("0", "1"):
        raise InvalidInput("dedupe must be 0 or 1.", code="invalid_parameter", param="dedupe")
    if text is None and (part is not None or split_by is not None):
        param = "part" if part is not None else "split_by"
        raise InvalidInput(
            f"{param} needs split, such as split=train=0.9,test=0.1.", code="invalid_parameter", param=param
        )
    split = None if text is None else parse_split(text, split_by or SPLIT_BY[0])
    if split is not None and part is not None and part not in split.names:
        raise InvalidInput(f"part must be one of {', '.join(split.names)}.", code="invalid_parameter", param="part")
    filters = {name: left.pop(name) for name in FILTERS if name in left}
    return Request(
        filters, parse_query(filters, now_us), format_, format_.read_options(left), split, text, part, dedupe == "1"
    )


class Selection:
    """Which records of an export's pages are exported, and what was counted."""

    def __init__(self, request: Request, scratch: Scratch, tally: Tally | None = None) -> None:
        self.tally = Tally() if tally is None else tally
        self._request = request
        self._scratch = scratch

    def select(self, page: Iterable[Record]) -> Iterator[tuple[Run, str | None]]:
        """Yield the records to export and the part of each."""
        split, only = self._request.split, self._request.part
        for record in page:
            run = Run(record)
            self.tally.records_read += 1
            part = None if split is None else split.part_of(run)
            if split is not None and part is None:
                self.tally.left_out["in no part of the split"] += 1
            elif only is not None and part != only:
                self.tally.left_out["in another part of the split"] += 1
            elif self._request.is_deduplicated and not self._scratch.is_new(content_digest(run)):
                self.tally.left_out["duplicate"] += 1
            else:
                self.tally.add(run)
                yield run, part


def content_digest(run: Run) -> bytes:
    """Return a digest that is the same for runs of the same request with the same phases.

    Compared are the request without case and repeated blanks, its type, and of each phase its
    group, agent, model and outcome.
    """
    fields = run.fields
    phases = [
        [phase_group(phase["phase_name"]), phase.get("agent"), phase.get("model"), phase.get("outcome")]
        for phase in fields["phases"]
    ]
    key = [request_key(fields["request_summary"]), fields.get("request_type"), phases]
    return hashlib.blake2b(orjson.dumps(key), digest_size=16).digest()


def export(
    store: Store,
    tenant: str,
    request: Request,
    *,
    after: UUID | None = None,
    has_end: bool = False,
    actor: str = "code",
) -> Iterator[bytes]:
    """Yield the lines of an export, some at a time.

    The first page of records is read before this returns.

    Args:
        after: id of the last record of which the client has all lines; the export continues after
            it.
        has_end: add a last line ``{"end": {"count", "cursor", "sha256"}}``: the number of lines in
            this response, the id to continue after, and the SHA-256 of their bytes, newlines
            included.
        actor: who exports, for the audit trail.

    Raises:
        InvalidInput: 400; ``after`` with an export that compares records.
        NotFound, ExportBehind, ArchiveUnavailable: as for ``reads.export_pages``.
    """
    if after is not None and request.is_whole:
        what = "dedupe=1" if request.is_deduplicated else f"format={request.format.name}"
        raise InvalidInput(
            f"{what} compares all records, so it cannot continue after one; leave out after.",
            code="invalid_parameter",
            param="after",
        )
    pages = reads.export_pages(store, tenant, request.query, after=after, actor=actor).pages
    return _lines(_Stream(request, pages, after), has_end=has_end)


def manifest(store: Store, tenant: str, request: Request, *, actor: str = "code") -> Manifest:
    """Return the manifest of the lines that ``export`` yields, which are read for it.

    Raises:
        NotFound, ExportBehind, ArchiveUnavailable: as for ``reads.export_pages``.
    """
    stream = _Stream(
        request, reads.export_pages(store, tenant, request.query, actor=actor).pages, None, has_policies=True
    )
    for lines in stream:
        stream.tally.lines += lines.count(b"\n")
    return manifest_of(store, tenant, request, stream.tally, sha256=stream.digest.hexdigest())


def manifest_of(
    store: Store, tenant: str, request: Request, tally: Tally, *, sha256: str | None = None, files: Iterable[File] = ()
) -> Manifest:
    """Return the manifest of an export that has counted ``tally``."""
    split = request.split
    return Manifest(
        format=request.format.name,
        options=dict(request.options),
        filters=dict(request.given),
        split=request.split_text,
        split_by=None if split is None else split.by,
        part=request.part,
        deduplicated=request.is_deduplicated,
        schema_version=SCHEMA_VERSION,
        columns=request.format.columns(request.options),
        tenant=tenant,
        store=store.identity,
        as_of=rfc3339(store.now_us()).decode(),
        records_read=tally.records_read,
        records=tally.records,
        lines=tally.lines,
        first=tally.first,
        last=tally.last,
        policies=dict(sorted(tally.policies.items())),
        left_out=dict(sorted(tally.left_out.items())),
        sha256=sha256,
        files=list(files),
    )


class _Stream:
    """The lines of an export, and what was counted so far."""

    def __init__(
        self, request: Request, pages: Iterator[list[Record]], after: UUID | None, *, has_policies: bool = False
    ) -> None:
        self.tally, self.digest, self.cursor = Tally(), hashlib.sha256(), after
        self._request, self._pages, self._has_policies = request, pages, has_policies

    def __iter__(self) -> Iterator[bytes]:
        with ExitStack() as stack:
            # The pages' audit entry is written when they are closed.
            stack.callback(getattr(self._pages, "close", lambda: None))
            selection = Selection(self._request, stack.enter_context(Scratch()), self.tally)
            is_combined = self._request.format.is_combined(self._request.options)
            for lines in self._combined(selection) if is_combined else self._of_pages(selection):
                self.digest.update(lines)
                yield lines

    def _runs(self, selection: Selection) -> Iterator[list[Run]]:
        for page in self._pages:
            self.cursor = page[-1].id if page else self.cursor
            runs = [run for run, _ in selection.select(page)]
            # A canonical line needs no parsing, and policies do.
            for run in runs if self._has_policies else ():
                self.tally.add_policy(run)
            yield runs

    def _of_pages(self, selection: Selection) -> Iterator[bytes]:
        format_, options, left_out = self._request.format, self._request.options, self.tally.left_out
        lines = (
            one for runs in self._runs(selection) for run in runs for one in format_.lines_of(run, options, left_out)
        )
        return _chunks(lines)

    def _combined(self, selection: Selection) -> Iterator[bytes]:
        format_, options, left_out = self._request.format, self._request.options, self.tally.left_out
        rows = (
            row for runs in self._runs(selection) for run in runs for row in format_.rows_of(run, options, left_out)
        )
        return _chunks(line(row) for row in format_.combined(rows, options, left_out))


def _chunks(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Join lines to chunks of at least _CHUNK_BYTES; the rows of one record may be far larger than
    it."""
    chunk: list[bytes] = []
    size = 0
    for one in lines:
        chunk.append(one)
        size += len(one)
        if size >= _CHUNK_BYTES:
            yield b"".join(chunk)
            chunk, size = [], 0
    if chunk:
        yield b"".join(chunk)


def _lines(stream: _Stream, *, has_end: bool) -> Iterator[bytes]:
    count = 0
    for lines in stream:
        count += lines.count(b"\n")
        yield lines
    if has_end:
        end: dict[str, Any] = {"count": count, "cursor": stream.cursor, "sha256": stream.digest.hexdigest()}
        yield orjson.dumps({"end": end}) + b"\n"
