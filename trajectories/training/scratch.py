"""Temporary tables on disk for what an export remembers of all its records.

SQLite keeps them, so memory stays the same however many records there are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, NamedTuple

import orjson

VALUES = 3
"""Numbers of an item."""
BY_KEY = "member"
BEST_FIRST = "sum0 / known0 DESC, sum1 / known1 NULLS LAST, member"
"""Orders of the members of a group: by their key; or the greatest mean of the first value, then the
lowest of the second one, then by their key."""
_CACHE_KIB = 8 * 1024


class Item(NamedTuple):
    """A row, the keys of its group and of the member of it, and up to VALUES numbers, None if not known."""

    group: bytes
    member: bytes
    row: dict[str, Any]
    values: Sequence[float | None]


class Member(NamedTuple):
    """The items of a member: how many, the first row of them, and the mean of each value."""

    items: int
    row: dict[str, Any]
    means: list[float | None]


class Scratch:
    """A temporary file of SQLite, which deletes it when it is closed."""

    def __init__(self) -> None:
        # An export may be closed in another thread than the one that began it.
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._db.execute("CREATE TABLE seen (digest BLOB PRIMARY KEY) WITHOUT ROWID")
        sums = ", ".join(f"known{at} INTEGER NOT NULL, sum{at} REAL NOT NULL" for at in range(VALUES))
        self._db.execute(
            "CREATE TABLE item (n INTEGER PRIMARY KEY, grouped_by BLOB NOT NULL, member BLOB NOT NULL,"
            f" items INTEGER NOT NULL, {sums}, row BLOB NOT NULL, UNIQUE (grouped_by, member))"
        )

    def __enter__(self) -> Scratch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    def is_new(self, digest: bytes) -> bool:
        """Return whether this is the first call with ``digest``."""
        return self._db.execute("INSERT OR IGNORE INTO seen VALUES (?)", (digest,)).rowcount == 1

    def groups(self, items: Iterable[Item], order: str) -> Iterator[tuple[dict[str, Any], Iterator[Member]]]:
        """Yield the first row of each group and its members; groups in the order of their first row.

        Args:
            items: all are read before the first group is yielded.
            order: of the members, BY_KEY or BEST_FIRST. Read them before the next group.
        """
        sums = [f"{name}{at}" for at in range(VALUES) for name in ("known", "sum")]
        added = ", ".join(f"{name} = {name} + excluded.{name}" for name in ("items", *sums))
        self._db.execute("BEGIN")
        self._db.executemany(
            f"INSERT INTO item (grouped_by, member, row, items, {', '.join(sums)})"
            f" VALUES (?, ?, ?, 1{', ?' * len(sums)}) ON CONFLICT (grouped_by, member) DO UPDATE SET {added}",
            map(_columns, items),
        )
        self._db.execute("COMMIT")
        firsts = self._db.execute("SELECT MIN(n), grouped_by FROM item GROUP BY grouped_by ORDER BY 1")
        for first, key in firsts:
            (row,) = self._db.execute("SELECT row FROM item WHERE n = ?", (first,)).fetchone()
            members = self._db.execute(
                f"SELECT items, row, {', '.join(sums)} FROM item WHERE grouped_by = ? ORDER BY {order}", (key,)
            )
            yield orjson.loads(row), map(_member, members)


def _columns(item: Item) -> list[Any]:
    columns: list[Any] = [item.group, item.member, orjson.dumps(item.row)]
    for at in range(VALUES):
        value = item.values[at] if at < len(item.values) else None
        columns += (0, 0.0) if value is None else (1, value)
    return columns


def _member(columns: Sequence[Any]) -> Member:
    items, row, *sums = columns
    means = [total / known if known else None for known, total in zip(sums[::2], sums[1::2], strict=True)]
    return Member(items, orjson.loads(row), means)
