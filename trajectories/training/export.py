"""One export of a tenant's records, in any format: the same for the API, commands and the Hub.

Records are read page by page, so memory does not depend on their number.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple
from uuid import UUID

from trajectories.domain.clock import rfc3339
from trajectories.domain.export_facts import content_key_of
from trajectories.domain.query import FILTERS, Query, got, parse_query
from trajectories.domain.record import Record
from trajectories.exceptions import InvalidInput
from trajectories.services import exports
from trajectories.storage.store import Store
from trajectories.training import formats
from trajectories.training.encoding import PARQUET, Encoding
from trajectories.training.formats.base import Format, Options, line
from trajectories.training.manifest import SCHEMA_VERSION, File, Manifest, Tally
from trajectories.training.run import Run
from trajectories.training.seen import Seen
from trajectories.training.splits import NO_PART, OTHER_PART, SPLIT_BY, Split, parse_split

PARAMETERS = ("format", "split", "split_by", "part", "dedupe")
"""Parameters of an export besides the filters and the options of its format."""
OPTIONS = tuple(dict.fromkeys(name for one in formats.FORMATS.values() for name in one.options))
"""The options of all formats."""


class Request(NamedTuple):
    """The selection and form of an export. ``given`` are the filters as text; ``part`` is one of
    ``split``."""

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

    def choice(self, seen: Seen) -> exports.Choice:
        """Return which bodies are read: not those that the split leaves out, that repeat what was
        ``seen`` or that yield no line."""
        split = self.split
        return exports.Choice(
            self.format.needs(self.options),
            split and split.left_out_by(self.part),
            split and split.by,
            seen.is_new if self.is_deduplicated else None,
        )


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
        raise InvalidInput(f"dedupe must be 0 or 1, {got(dedupe)}.", code="invalid_parameter", param="dedupe")
    if text is None and (part is not None or split_by is not None):
        param = "part" if part is not None else "split_by"
        raise InvalidInput(
            f"{param} needs split, such as split=train=0.9,test=0.1.", code="invalid_parameter", param=param
        )
    split = None if text is None else parse_split(text, split_by or SPLIT_BY[0])
    if split is not None and part is not None and part not in split.names:
        names = ", ".join(split.names)
        raise InvalidInput(f"part must be one of {names}, {got(part)}.", code="invalid_parameter", param="part")
    filters = {name: left.pop(name) for name in list(left) if name in FILTERS}
    return Request(
        filters, parse_query(filters, now_us), format_, format_.read_options(left), split, text, part, dedupe == "1"
    )


class Selection:
    """Which records of an export's pages are exported, and what was counted.

    Args:
        seen: the contents of earlier records; None if the pages have no duplicates.
    """

    def __init__(self, request: Request, tally: Tally, seen: Seen | None = None) -> None:
        self.tally, self._request = tally, request
        self._seen = seen if request.is_deduplicated else None

    def leave_out(self, counts: Counter[str]) -> None:
        """Count the records of a page whose bodies were not read, by reason."""
        self.tally.records_read += counts.total()
        self.tally.left_out.update(counts)

    def select(self, page: Iterable[Record]) -> Iterator[tuple[Run, str | None]]:
        """Yield the records to export and the part of each."""
        split, only = self._request.split, self._request.part
        for record in page:
            run = Run(record)
            self.tally.records_read += 1
            part = None if split is None else split.part_of(run)
            if split is not None and part is None:
                self.tally.left_out[NO_PART] += 1
            elif only is not None and part != only:
                self.tally.left_out[OTHER_PART] += 1
            elif self._seen is not None and not self._seen.is_new(content_key_of(run.fields)):
                self.tally.left_out[exports.DUPLICATE] += 1
            else:
                self.tally.add(run)
                yield run, part


def export(
    store: Store,
    tenant: str,
    request: Request,
    *,
    encoding: Encoding = Encoding(),  # noqa: B008  a tuple
    after: UUID | None = None,
    has_end: bool = False,
    actor: str = "code",
) -> Iterator[bytes]:
    """Yield an export, some bytes at a time.

    The first page of records is read before this returns.

    Args:
        after: id of the last record of which the client has all lines; the export continues after
            it.
        has_end: add a last line ``{"end": {"count", "cursor", "sha256"}}``: the number of lines in
            this response, the id to continue after, and the SHA-256 of their bytes, newlines
            included, before compression.
        actor: who exports, for the audit trail.

    Raises:
        InvalidInput: 400; ``after`` with an export that compares records, or ``has_end`` with
            Parquet.
        NotFound, ExportBehind, ArchiveUnavailable: as for ``exports.export_pages``.
    """
    if after is not None and request.is_whole:
        what = "dedupe=1" if request.is_deduplicated else f"format={request.format.name}"
        raise InvalidInput(
            f"{what} compares all records, so it cannot continue after one; leave out after.",
            code="invalid_parameter",
            param="after",
        )
    if has_end and encoding.file == PARQUET:
        raise InvalidInput(
            "end=1 is a line, and Parquet has none; a Parquet file that was cut cannot be opened.",
            code="invalid_parameter",
            param="end",
        )
    seen = Seen()
    choice = request.choice(seen)
    found = exports.export_pages(store, tenant, request.query, choice=choice, after=after, actor=actor)
    stream = _Stream(request, found.pages, seen, after)
    return encoding.encoded(_lines(stream, has_end=has_end), request.format.columns(request.options))


def export_selected(
    store: Store,
    tenant: str,
    request: Request,
    pages: Generator[exports.Page, None, None],
    *,
    encoding: Encoding = Encoding(),  # noqa: B008  a tuple
) -> Iterator[bytes]:
    """Yield an export of these records, whatever the filters of ``request``; some bytes at a time."""
    stream = _Stream(request, pages, Seen(), are_chosen=False)
    return encoding.encoded(iter(stream), request.format.columns(request.options))


def manifest(store: Store, tenant: str, request: Request, *, actor: str = "code") -> Manifest:
    """Return the manifest of the lines that ``export`` yields, which are read for it.

    Raises:
        NotFound, ExportBehind, ArchiveUnavailable: as for ``exports.export_pages``.
    """
    seen = Seen()
    found = exports.export_pages(store, tenant, request.query, choice=request.choice(seen), actor=actor)
    stream = _Stream(request, found.pages, seen, has_policies=True)
    stream.tally.lines = sum(1 for _ in stream)
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
    """The lines of an export, and what was counted so far.

    Args:
        seen: is closed at the end.
        are_chosen: the pages are those of ``request.choice(seen)``.
    """

    def __init__(
        self,
        request: Request,
        pages: Generator[exports.Page, None, None],
        seen: Seen,
        after: UUID | None = None,
        *,
        are_chosen: bool = True,
        has_policies: bool = False,
    ) -> None:
        self.tally, self.digest, self.cursor = Tally(), hashlib.sha256(), after
        self._request, self._pages, self._has_policies = request, pages, has_policies
        self._seen, self._selection = seen, Selection(request, self.tally, None if are_chosen else seen)

    def __iter__(self) -> Iterator[bytes]:
        with ExitStack() as stack:
            stack.enter_context(self._seen)
            stack.callback(self._pages.close)  # writes the audit entry
            is_combined = self._request.format.is_combined(self._request.options)
            for one in self._combined() if is_combined else self._of_runs():
                self.digest.update(one)
                yield one

    def _runs(self) -> Iterator[Run]:
        for page in self._pages:
            self._selection.leave_out(page.left_out)
            for run, _ in self._selection.select(page.records):
                # A canonical line needs no parsing, and policies do.
                if self._has_policies:
                    self.tally.add_policy(run)
                yield run
            self.cursor = page.last or self.cursor

    def _of_runs(self) -> Iterator[bytes]:
        format_, options, left_out = self._request.format, self._request.options, self.tally.left_out
        return (one for run in self._runs() for one in format_.lines_of(run, options, left_out))

    def _combined(self) -> Iterator[bytes]:
        format_, options, left_out = self._request.format, self._request.options, self.tally.left_out
        rows = (row for run in self._runs() for row in format_.rows_of(run, options, left_out))
        return (line(row) for row in format_.combined(rows, options, left_out))


def _lines(stream: _Stream, *, has_end: bool) -> Iterator[bytes]:
    count = 0
    for one in stream:
        count += 1
        yield one
    if has_end:
        end: dict[str, Any] = {"count": count, "cursor": stream.cursor, "sha256": stream.digest.hexdigest()}
        yield line({"end": end})
