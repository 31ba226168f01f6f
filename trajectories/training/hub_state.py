"""The state of a data set on the Hub: a small file in its repository, which the next push reads.

The archive numbers records by their arrival. Each *range* of numbers has its own files and a
fingerprint of its records. A push compares the fingerprint with the archive, so it finds deleted
and revised records without a list of ids, and writes only the ranges that have changed.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import orjson

from trajectories.domain.late_outcomes import count
from trajectories.domain.record import Record, tenant_digest
from trajectories.storage import archive_reads
from trajectories.training.export import Request
from trajectories.training.manifest import SCHEMA_VERSION, File

PATH = "trajectories.json"
VERSION = 1
_PAGE = 5_000


@dataclass(frozen=True)
class Range:
    """Records with numbers above ``after_seq`` until ``up_to_seq``, and the files made of them."""

    after_seq: int
    up_to_seq: int
    fingerprint: str
    records: int
    first: dict[str, Any] | None
    last: dict[str, Any] | None
    left_out: dict[str, int]
    policies: dict[str, int]
    files: tuple[File, ...]

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)


@dataclass(frozen=True)
class State:
    """The content of a repository, and the export that it is of. ``tenant`` is a digest of the
    slug."""

    store: str
    tenant: str
    container: str
    format: str
    options: dict[str, Any]
    filters: dict[str, str]
    split: str | None
    split_by: str | None
    part: str | None
    deduplicated: bool
    schema_version: int
    columns: Any
    license: str | None = None
    as_of: str = ""
    ranges: tuple[Range, ...] = ()
    version: int = field(default=VERSION)

    @property
    def files(self) -> dict[str, File]:
        return {file.name: file for range_ in self.ranges for file in range_.files}

    @property
    def records(self) -> int:
        return sum(range_.records for range_ in self.ranges)

    @property
    def lines(self) -> int:
        return sum(file.lines for file in self.files.values())

    def total(self, name: str) -> dict[str, int]:
        """Return the sum of a count of the ranges: ``left_out`` or ``policies``."""
        found: Counter[str] = Counter()
        for range_ in self.ranges:
            found.update(getattr(range_, name))
        return dict(sorted(found.items()))

    def dump(self) -> bytes:
        return orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    def differences(self, other: State) -> dict[str, tuple[Any, Any]]:
        """Return the keys in which two exports differ, with both values; not what they contain."""
        mine, theirs = (asdict(replace(one, ranges=(), license=None, as_of="")) for one in (self, other))
        return {name: (mine[name], theirs[name]) for name in mine if mine[name] != theirs[name]}


def state_of(store: str, tenant: str, request: Request, container: str) -> State:
    """Return the state of an export that nothing was pushed of yet."""
    split = request.split
    return State(
        store=store,
        tenant=tenant_digest(tenant),
        container=container,
        format=request.format.name,
        options=dict(request.options),
        filters=dict(request.given),
        split=request.split_text,
        split_by=None if split is None else split.by,
        part=request.part,
        deduplicated=request.is_deduplicated,
        schema_version=SCHEMA_VERSION,
        # As it is read back: without tuples, and with the same numbers.
        columns=orjson.loads(orjson.dumps(request.format.columns(request.options))),
    )


def read_state(data: bytes) -> State:
    """Return the state in a file.

    Raises:
        ValueError: the file is damaged, or of a later release.
    """
    try:
        fields = orjson.loads(data)
        if fields["version"] != VERSION:
            raise ValueError(f"it has the version {fields['version']!r}, and this release knows {VERSION}")
        ranges = tuple(
            Range(**one | {"files": tuple(File(**file) for file in one["files"])}) for one in fields.pop("ranges")
        )
        return State(**fields, ranges=ranges)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is damaged ({type(error).__name__}: {error})") from None


def fingerprint(tenant: str, request: Request, after_seq: int, up_to_seq: int) -> tuple[str, int]:
    """Return a digest of ids and revisions of the matching records of a range, and their number."""
    digest, records = hashlib.blake2b(digest_size=16), 0
    rows = archive_reads.in_order(tenant, request.query)
    while page := archive_reads.export_keys(rows, after_seq, up_to_seq, _PAGE):
        digest.update(b"".join(key_bytes(id_.bytes, revision, outcomes) for _, id_, revision, outcomes in page))
        records, after_seq = records + len(page), page[-1][0]
    return digest.hexdigest(), records


def key_bytes(id_: bytes, revision: int, outcomes: int) -> bytes:
    # Without outcomes as before, so that the ranges of earlier releases stay.
    return id_ + revision.to_bytes(8) + (outcomes.to_bytes(4) if outcomes else b"")


def key_of(record: Record) -> bytes:
    """Return what identifies the present content of a record in a fingerprint."""
    return key_bytes(record.id.bytes, record.revision, count(record.outcomes))
