"""The rows of the outbox: what they are, and what is done with them inside a transaction of its file."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast
from uuid import UUID

from trajectories.record import Record, tombstone

RECORD_COLUMNS = "tenant, id, stamp, digest, revision, recorded_at_us, body"
CHUNK = 1_000
"""Rows that go in one transaction, so that nobody waits long for the file."""


class Draft(NamedTuple):
    """A record at the door, before its stamps; ``known`` is the newest version that this process knows of its id."""

    tenant: str
    id: UUID
    digest: str
    body: bytes
    known: Record | None


class Row(NamedTuple):
    """A row of the outbox."""

    n: int
    record: Record
    state: str


class Appended(NamedTuple):
    """A committed row, and whether this host had not known the id."""

    row: Row
    is_new: bool


def now_us() -> int:
    """Microseconds since 1970 by this host's clock."""
    return time.time_ns() // 1_000


def insert_all(db: sqlite3.Connection, groups: Iterable[Sequence[Draft]]) -> list[list[Appended | None]]:
    last_stamp = _last_stamp(db)
    results: list[list[Appended | None]] = []
    for drafts in groups:
        results.append([])
        for draft in drafts:
            appended = _insert(db, draft, last_stamp + 1)
            results[-1].append(appended)
            last_stamp = appended.row.record.stamp if appended else last_stamp
    _set_last_stamp(db, last_stamp)
    return results


def _last_stamp(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT value FROM numbers WHERE name = 'last_stamp'").fetchone()[0])


def _set_last_stamp(db: sqlite3.Connection, stamp: int) -> None:
    db.execute("UPDATE numbers SET value = ? WHERE name = 'last_stamp'", (stamp,))


def _is_buried(db: sqlite3.Connection, tenant: str, id_: UUID) -> bool:
    found = db.execute("SELECT 1 FROM tombstones WHERE tenant = ? AND id = ?", (tenant, id_.bytes)).fetchone()
    return found is not None


def bury(db: sqlite3.Connection, tenant: str, id_: UUID) -> int:
    gone = db.execute("DELETE FROM rows WHERE tenant = ? AND id = ? AND kind = 'record'", (tenant, id_.bytes)).rowcount
    if not _is_buried(db, tenant, id_):
        stamp = max(now_us(), _last_stamp(db) + 1)
        _set_last_stamp(db, stamp)
        db.execute("INSERT INTO tombstones VALUES (?, ?, ?)", (tenant, id_.bytes, stamp))
        _insert_row(db, tombstone(tenant, id_, stamp), kind="tombstone")
    return gone


def _insert(db: sqlite3.Connection, draft: Draft, least_stamp: int) -> Appended | None:
    if _is_buried(db, draft.tenant, draft.id):
        return None
    versions = [version for version in (draft.known, _newest(db, draft)) if version]
    known = max(versions, key=lambda version: version.rank, default=None)
    stamp = max(now_us(), least_stamp, known.stamp + 1 if known else 0)
    record = Record(
        tenant=draft.tenant,
        id=draft.id,
        stamp=stamp,
        digest=draft.digest,
        revision=known.revision if known and known.digest == draft.digest else stamp,
        recorded_at_us=min((version.recorded_at_us for version in versions), default=stamp),
        body=draft.body,
    )
    return Appended(Row(_insert_row(db, record, kind="record"), record, "waiting"), is_new=known is None)


def _insert_row(db: sqlite3.Connection, r: Record, *, kind: str) -> int:
    values = (kind, r.tenant, r.id.bytes, r.stamp, r.digest, r.revision, r.recorded_at_us, r.body)
    return cast(
        int, db.execute(f"INSERT INTO rows (kind, {RECORD_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values).lastrowid
    )


def _newest(db: sqlite3.Connection, draft: Draft) -> Record | None:
    found = db.execute(
        f"SELECT {RECORD_COLUMNS} FROM rows WHERE tenant = ? AND id = ? AND state <> 'quarantined' ORDER BY stamp DESC LIMIT 1",
        (draft.tenant, draft.id.bytes),
    ).fetchone()
    return found and record(found)


def record(columns: Sequence[Any]) -> Record:
    tenant, id_bytes, *rest = columns
    return Record(tenant, UUID(bytes=id_bytes), *rest)


def delete_settled(db: sqlite3.Connection, before_us: int) -> int:
    gone = db.execute(
        "SELECT n FROM rows WHERE state <> 'waiting' AND settled_at_us <= ? ORDER BY settled_at_us LIMIT ?",
        (before_us, CHUNK),
    ).fetchall()
    if gone:
        db.executemany("DELETE FROM rows WHERE n = ?", gone)
        db.execute("UPDATE numbers SET value = max(value, ?) WHERE name = 'pruned_n'", max(gone))
    return len(gone)
