"""The rows of the outbox, and the operations on them inside a transaction of its file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple, cast
from uuid import UUID

import orjson

from trajectories.domain import late_outcomes
from trajectories.domain.clock import DAY_US
from trajectories.domain.compression import UnreadableBody, decompress, plain_size
from trajectories.domain.record import Record, digest_of, tenant_digest, tombstone
from trajectories.exceptions import Deleted, IdempotencyConflict, TooManyOutcomes

RECORD_COLUMNS = "tenant, id, stamp, digest, revision, recorded_at_us, body"
_FAST_CLOCK_US = DAY_US
"""How far ahead the clocks of other hosts may be."""
CHUNK = 1_000
"""Rows per transaction, so that other writers do not wait long for the file."""


class Draft(NamedTuple):
    """A validated record, not yet stamped.

    ``known`` is the newest version that this process has of its id; its body may be compressed.
    ``revise`` gets the newest one that the host knows, or None, and what reads the plain body of
    that; it returns the body to store. It is called under the lock of the file, so no other version
    of this host comes between. An exception of it refuses this draft alone.

    ``expect_room`` gets by how many bytes a new version is longer than the one before. It is called
    like ``revise`` and may raise too; not for a record whose id this host does not know.

    ``max_outcomes`` is set in the draft of an addition (``record.Record``), whose ``id`` is the
    target and whose ``digest`` is the id of the outcome.
    """

    tenant: str
    id: UUID
    digest: str
    body: bytes
    known: Record | None
    revise: Callable[[Record | None, Callable[[], bytes]], bytes] | None = None
    expect_room: Callable[[int], object] | None = None
    max_outcomes: int | None = None


class Row(NamedTuple):
    """A row of the outbox.

    ``kind``: record, outcome (an addition), tombstone, or erasure. In an erasure, the tenant of
    ``record`` is the digest of the erased tenant.
    """

    n: int
    record: Record
    state: str
    kind: str


class Appended(NamedTuple):
    """A committed row, and whether its id was new to this host.

    ``added_bytes`` is by how much its body is longer than that of the version before; negative if
    it is shorter. ``is_first``: it is a record, and this host has no earlier row of its id, not even
    an outcome; refused ones do not count.
    """

    row: Row
    is_new: bool
    added_bytes: int = 0
    is_first: bool = False


def deleted(id_: UUID) -> Deleted:
    """Return the refusal of an id that was deleted."""
    return Deleted(f"The trajectory {id_} was deleted and does not come back.", param="id")


class Binding(NamedTuple):
    """The store that an outbox belongs to, and the other store whose archive was found behind it.

    Both are None in a new file. ``other`` is None while the two agree.
    """

    store: str | None
    other: str | None


def insert_all(
    db: sqlite3.Connection, groups: Iterable[Sequence[Draft]], now_us: int, expect: Callable[[Binding], object]
) -> list[list[Appended | Exception]]:
    """Insert the drafts of several callers with their stamps.

    Args:
        expect: gets the binding of the file as this transaction sees it, and raises if nothing may
            be inserted.
    """
    last_stamp, has_erasures, *binding = db.execute(_BEGIN).fetchone()
    expect(Binding(*binding))
    erased = erasures(db) if has_erasures else {}
    targets = _Targets(db)
    results: list[list[Appended | Exception]] = []
    for drafts in groups:
        results.append([])
        for draft in drafts:
            least_stamp = max(now_us, last_stamp + 1)
            is_erased = bool(erased) and tenant_digest(draft.tenant) in erased
            result = deleted(draft.id) if is_erased else _insert(db, draft, least_stamp, targets)
            results[-1].append(result)
            # A repeated outcome has its old one. One far ahead is of another tier, and not of a clock:
            # every later record of this host would be as far ahead.
            if isinstance(result, Appended) and result.row.record.stamp <= max(least_stamp, now_us + _FAST_CLOCK_US):
                last_stamp = max(last_stamp, result.row.record.stamp)
    _set_last_stamp(db, last_stamp)
    return results


# One statement, as each gives up the GIL.
_BEGIN = (
    "SELECT value, EXISTS (SELECT 1 FROM erasures), (SELECT store FROM bindings WHERE name = 'store'),"
    " (SELECT store FROM bindings WHERE name = 'other') FROM numbers WHERE name = 'last_stamp'"
)


def _last_stamp(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT value FROM numbers WHERE name = 'last_stamp'").fetchone()[0])


def _set_last_stamp(db: sqlite3.Connection, stamp: int) -> None:
    db.execute("UPDATE numbers SET value = ? WHERE name = 'last_stamp'", (stamp,))


def _is_deleted(db: sqlite3.Connection, tenant: str, id_: UUID) -> bool:
    found = db.execute("SELECT 1 FROM tombstones WHERE tenant = ? AND id = ?", (tenant, id_.bytes)).fetchone()
    return found is not None


def delete(db: sqlite3.Connection, tenant: str, id_: UUID, now_us: int) -> int:
    gone = db.execute(
        "DELETE FROM rows WHERE tenant = ? AND id = ? AND kind <> 'tombstone'", (tenant, id_.bytes)
    ).rowcount
    if not _is_deleted(db, tenant, id_):
        stamp = max(now_us, _last_stamp(db) + 1)
        _set_last_stamp(db, stamp)
        db.execute("INSERT INTO tombstones VALUES (?, ?, ?)", (tenant, id_.bytes, stamp))
        _insert_row(db, tombstone(tenant, id_, stamp), kind="tombstone")
    return gone


def erasures(db: sqlite3.Connection) -> dict[str, int]:
    """Return the stamps of the erasures that this host knows, by tenant digest."""
    return dict(db.execute("SELECT digest, stamp FROM erasures"))


def begin_erasure(db: sqlite3.Connection, digest: str, stamp: int, now_us: int) -> list[str]:
    """Refuse records of this tenant from now on, and remove its API keys.

    Returns:
        The slugs of the tenant on this host, at most one.
    """
    # Not yet ``stamp``: if the process is killed before the end, the erasure is still due.
    db.execute("INSERT OR REPLACE INTO erasures VALUES (?, ?)", (digest, stamp - 1))
    keys = db.execute("SELECT prefix, json_extract(verified, '$[1]') FROM api_keys").fetchall()
    gone = [prefix for prefix, tenant in keys if tenant_digest(tenant) == digest]
    forget_keys(db, gone)
    # The row informs the other processes of this host. It is never sent, but is counted as
    # confirmed.
    last_stamp = max(now_us, _last_stamp(db) + 1)
    _set_last_stamp(db, last_stamp)
    n = _insert_row(db, tombstone(digest, UUID(int=0), last_stamp), kind="erasure")
    db.execute("UPDATE rows SET state = 'confirmed', settled_at_us = ? WHERE n = ?", (now_us, n))
    return [tenant for tenant in _tenants(db) if tenant_digest(tenant) == digest]


def erase_some(db: sqlite3.Connection, tenant: str) -> tuple[int, bool]:
    """Delete some rows and tombstones of ``tenant``.

    Returns:
        The number of records deleted, and whether more rows or tombstones remain.
    """
    gone = [
        db.execute(
            f"DELETE FROM rows WHERE n IN (SELECT n FROM rows WHERE tenant = ? AND {kind} LIMIT {CHUNK})", (tenant,)
        ).rowcount
        for kind in ("kind = 'record'", "kind <> 'record'")
    ]
    gone.append(
        db.execute(
            f"DELETE FROM tombstones WHERE (tenant, id) IN (SELECT tenant, id FROM tombstones WHERE tenant = ? LIMIT {CHUNK})",
            (tenant,),
        ).rowcount
    )
    return gone[0], any(gone)


def end_erasure(db: sqlite3.Connection, digest: str, stamp: int) -> None:
    db.execute("UPDATE erasures SET stamp = max(stamp, ?) WHERE digest = ?", (stamp, digest))


def _tenants(db: sqlite3.Connection) -> list[str]:
    """Return the tenants with a row or a tombstone.

    Each tenant costs one step in the index, however many rows it has.
    """
    found: set[str] = set()
    for table in ("rows", "tombstones"):
        tenant = ""
        while row := db.execute(
            f"SELECT tenant FROM {table} WHERE tenant > ? ORDER BY tenant LIMIT 1", (tenant,)
        ).fetchone():
            found.add(tenant := row[0])
    return sorted(found)


class _Targets:
    """The outcomes of the targets of one transaction, each read once: a request may have thousands
    of one target, which has megabytes of them."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._known: dict[tuple[str, UUID], tuple[dict[str, bytes], dict[str, Row]]] = {}
        self._read: dict[tuple[str, UUID], Record] = {}
        """The version of the target whose outcomes were read last."""

    def of(self, draft: Draft) -> tuple[dict[str, bytes], dict[str, Row]]:
        """Return the outcomes of the draft's target that this host knows, and its rows of them, by
        the id of the outcome."""
        key = draft.tenant, draft.id
        if key not in self._known:
            self._known[key] = self._own(draft)
        known, own = self._known[key]
        # Callers of one commit may have seen other versions: the hot cache was filled between them.
        if draft.known is not None and draft.known is not self._read.get(key):
            self._read[key] = draft.known
            for one in orjson.loads(draft.known.outcomes or b"[]"):
                known.setdefault(UUID(one["id"]).hex, orjson.dumps(one))
        return known, own

    def _own(self, draft: Draft) -> tuple[dict[str, bytes], dict[str, Row]]:
        found = self._db.execute(
            f"SELECT n, state, {RECORD_COLUMNS} FROM rows"
            " WHERE tenant = ? AND id = ? AND kind = 'outcome' AND state <> 'quarantined'",
            (draft.tenant, draft.id.bytes),
        )
        own = [Row(row[0], Record.from_row(row[2:]), row[1], "outcome") for row in found]
        known = {row.record.digest: row.record.body[1:-1] for row in own}
        return known, {row.record.digest: row for row in own}


def _insert(db: sqlite3.Connection, draft: Draft, least_stamp: int, targets: _Targets) -> Appended | Exception:
    if draft.max_outcomes is not None:
        if _is_deleted(db, draft.tenant, draft.id):
            return deleted(draft.id)
        return _insert_outcome(db, draft, draft.max_outcomes, least_stamp, targets)
    newest, newest_bytes, is_first, is_deleted = _newest(db, draft)
    if is_deleted:
        return deleted(draft.id)
    versions = [version for version in (draft.known, newest) if version]
    known = max(versions, key=lambda version: version.rank, default=None)
    try:
        if draft.revise:
            body = draft.revise(known, partial(_body, db, known))
            if body is not draft.body:
                draft = draft._replace(body=body, digest=digest_of(body))
        added_bytes = _added_bytes(draft, known, newest_bytes if known is newest else None)
        if known and draft.expect_room:
            draft.expect_room(added_bytes)
    except Exception as error:  # the other drafts of this commit must not fail with it
        return error
    stamp = max(least_stamp, known.stamp + 1 if known else 0)
    record = Record(
        tenant=draft.tenant,
        id=draft.id,
        stamp=stamp,
        digest=draft.digest,
        revision=known.revision if known and known.digest == draft.digest else stamp,
        recorded_at_us=min((version.recorded_at_us for version in versions), default=stamp),
        body=draft.body,
    )
    row = Row(_insert_row(db, record, kind="record"), record, "waiting", "record")
    return Appended(row, known is None, added_bytes, is_first)


def _added_bytes(draft: Draft, known: Record | None, known_bytes: int | None) -> int:
    """Return by how much the body of ``draft`` is longer than that of ``known``.

    Args:
        known_bytes: the length of the latter; None if it is not known yet.
    """
    if known is None:
        return len(draft.body)
    if known.digest == draft.digest:
        return 0
    return len(draft.body) - (_plain_size(known) if known_bytes is None else known_bytes)


def _plain_size(known: Record) -> int:
    try:
        return plain_size(known.body)
    except UnreadableBody:  # a version that replaces it is stored all the same
        return 0


def _insert_outcome(
    db: sqlite3.Connection, draft: Draft, max_outcomes: int, least_stamp: int, targets: _Targets
) -> Appended | Exception:
    """Add an outcome to its target, once."""
    known, own = targets.of(draft)
    given = draft.body[1:-1]
    if draft.digest in known:
        if not late_outcomes.is_same(known[draft.digest], given):
            return IdempotencyConflict(
                "This idempotency key was used for another outcome of the same target. Use another key, or repeat the"
                " same outcome.",
                param="idempotency_key",
            )
        if draft.digest in own:
            return Appended(own[draft.digest], is_new=False)
    elif len(known) >= max_outcomes:
        return TooManyOutcomes(f"The target has {len(known)} outcomes, and may have {max_outcomes}.")
    is_new = draft.digest not in known
    record = Record(draft.tenant, draft.id, least_stamp, draft.digest, least_stamp, least_stamp, draft.body)
    row = Row(_insert_row(db, record, kind="outcome"), record, "waiting", "outcome")
    known[draft.digest], own[draft.digest] = given, row
    return Appended(row, is_new=is_new)


def _insert_row(db: sqlite3.Connection, r: Record, *, kind: str) -> int:
    values = (kind, *r.to_row())
    return cast(
        int, db.execute(f"INSERT INTO rows (kind, {RECORD_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values).lastrowid
    )


def _newest(db: sqlite3.Connection, draft: Draft) -> tuple[Record | None, int, bool, bool]:
    """Return the newest version of the draft's id without its body, the length of that, whether the
    id has no row, not even an outcome, and whether it is deleted: for most, one statement, as each
    gives up the GIL."""
    key = draft.tenant, draft.id.bytes
    found = db.execute(_NEWEST, (*key, *key)).fetchall()
    is_deleted = any(kind == _DELETED for kind, *_ in found)
    row = next((row for row in found if row[0] != _DELETED), None)
    is_first = row is None
    if row and row[0] != "record":
        row = db.execute(_NEWEST_RECORD, key).fetchone()
    return Record.from_row(row[2:]) if row else None, row[1] if row else 0, is_first, is_deleted


_DELETED = "deleted"
_NEWEST_ROW = (
    # SQLite reads the length of a blob without its pages.
    "SELECT kind, length(body), tenant, id, stamp, digest, revision, recorded_at_us, x'' FROM rows"
    " WHERE tenant = ? AND id = ? AND state <> 'quarantined'"
)
_NEWEST_RECORD = f"{_NEWEST_ROW} AND kind = 'record' ORDER BY stamp DESC LIMIT 1"
_NEWEST = (
    f"SELECT * FROM ({_NEWEST_ROW} ORDER BY stamp DESC LIMIT 1)"
    f" UNION ALL SELECT '{_DELETED}', 0, '', x'', 0, '', 0, 0, x'' FROM tombstones WHERE tenant = ? AND id = ?"
)


def _body(db: sqlite3.Connection, known: Record | None) -> bytes:
    """Return the plain body of ``known``; empty without one."""
    if known is None or known.body:
        return b"" if known is None else decompress(known.body)
    found = db.execute(_BODY, (known.tenant, known.id.bytes, *known.rank)).fetchone()
    return bytes(found[0])


_BODY = (
    "SELECT body FROM rows WHERE tenant = ? AND id = ? AND stamp = ? AND digest = ? AND kind = 'record'"
    " AND state <> 'quarantined'"
)


def has_waiting(db: sqlite3.Connection) -> bool:
    return db.execute("SELECT 1 FROM rows WHERE state = 'waiting' LIMIT 1").fetchone() is not None


def forget_keys(db: sqlite3.Connection, prefixes: Iterable[str]) -> None:
    """Forget these API keys, and make every process drop the keys that it has cached."""
    db.executemany("DELETE FROM api_keys WHERE prefix = ?", [(prefix,) for prefix in prefixes])
    db.execute("INSERT INTO numbers VALUES ('key_changes', 1) ON CONFLICT (name) DO UPDATE SET value = value + 1")


def forget_store(db: sqlite3.Connection) -> None:
    """Delete everything that only the previous store of this file knows."""
    db.execute(
        "UPDATE numbers SET value = coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'rows'), 0)"
        " WHERE name = 'pruned_n'"
    )
    for table in ("rows WHERE state <> 'waiting'", "tombstones", "erasures", "api_keys"):
        db.execute(f"DELETE FROM {table}")


def reopen(db: sqlite3.Connection, confirmed: Iterable[int]) -> None:
    for n in confirmed:
        is_open = db.execute(
            "UPDATE rows SET state = 'waiting', settled_at_us = NULL WHERE n = ? AND state = 'confirmed'", (n,)
        ).rowcount
        db.execute("UPDATE numbers SET value = value - ? WHERE name = 'confirmed'", (is_open,))


def delete_settled(db: sqlite3.Connection, before_us: int) -> int:
    gone = db.execute(
        "SELECT n FROM rows WHERE state <> 'waiting' AND settled_at_us <= ? ORDER BY settled_at_us LIMIT ?",
        (before_us, CHUNK),
    ).fetchall()
    if gone:
        db.executemany("DELETE FROM rows WHERE n = ?", gone)
        db.execute("UPDATE numbers SET value = max(value, ?) WHERE name = 'pruned_n'", max(gone))
    return len(gone)
