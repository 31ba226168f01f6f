"""Temporary tables on disk for what an export remembers of all its records.

SQLite keeps them, so memory stays the same however many records there are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, NamedTuple

import orjson

BY_KEY = "member"
BEST_FIRST = "mean0 DESC, mean1 NULLS LAST, member"
"""Orders of the members of a group: by their key; or the greatest mean of the first value, then the
lowest of the second one, then by their key."""
_CACHE_KIB = 8 * 1024
_PAGE_BYTES = 16 * 1024
"""A row of some kB fits into a page of this size, and takes a fifth less CPU than with 4 kB."""


class Item(NamedTuple):
    """A row, the keys of its group and of the member of it, and three numbers, None where not
    known."""

    group: bytes
    member: bytes
    row: dict[str, Any]
    values: tuple[float | None, float | None, float | None]


class Member(NamedTuple):
    """The items of a member: how many, the first row of them, and the mean of each value."""

    items: int
    row: dict[str, Any]
    means: tuple[float | None, ...]


class Alone(NamedTuple):
    """Groups of one member, and their items."""

    groups: int
    items: int


class Scratch:
    """A temporary file of SQLite, which deletes it when it is closed."""

    alone = Alone(0, 0)

    def __init__(self) -> None:
        # An export may be closed in another thread than the one that began it.
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._db.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._db.execute("CREATE TABLE kept (n INTEGER PRIMARY KEY, value BLOB NOT NULL)")
        self._db.execute(
            "CREATE TABLE item (n INTEGER PRIMARY KEY, grouped_by BLOB NOT NULL, member BLOB NOT NULL,"
            " value0 REAL, value1 REAL, value2 REAL, row BLOB NOT NULL)"
        )

    def __enter__(self) -> Scratch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    def keep(self, value: bytes) -> int:
        """Keep a value that many rows share, and return its number for ``kept``."""
        number = self._db.execute("INSERT INTO kept (value) VALUES (?)", (value,)).lastrowid
        assert number is not None  # noqa: S101  the row has been inserted
        return number

    def kept(self, number: int) -> bytes:
        (value,) = self._db.execute("SELECT value FROM kept WHERE n = ?", (number,)).fetchone()
        return bytes(value)

    def groups(self, items: Iterable[Item], order: str) -> Iterator[tuple[dict[str, Any], Iterator[Member]]]:
        """Yield the first row of each group of at least two members, and its members; groups in the
        order of their first row. The others are counted in ``alone`` before the first is yielded.

        Args:
            items: all are read before the first group is yielded.
            order: of the members, BY_KEY or BEST_FIRST. Read them before the next group.
        """
        self._db.execute("BEGIN")
        self._db.executemany(
            "INSERT INTO item (grouped_by, member, value0, value1, value2, row) VALUES (?, ?, ?, ?, ?, ?)",
            ((one.group, one.member, *one.values, orjson.dumps(one.row)) for one in items),
        )
        self._db.execute("CREATE INDEX by_key ON item (grouped_by, member, n, value0, value1, value2)")
        self._db.execute("COMMIT")
        # Means come from the index, so of each member one row is read.
        members_of = (
            "SELECT items, row, mean0, mean1, mean2 FROM (SELECT MIN(n) AS first, COUNT(*) AS items,"
            " AVG(value0) AS mean0, AVG(value1) AS mean1, AVG(value2) AS mean2"
            f" FROM item WHERE grouped_by = ? GROUP BY member) JOIN item ON n = first ORDER BY {order}"
        )
        of_groups = "FROM item GROUP BY grouped_by HAVING MIN(member)"
        alone = f"SELECT COUNT(*), TOTAL(items) FROM (SELECT COUNT(*) AS items {of_groups} = MAX(member))"
        self.alone = Alone(*map(int, self._db.execute(alone).fetchone()))
        groups = self._db.execute(f"SELECT MIN(n), grouped_by {of_groups} < MAX(member) ORDER BY 1")
        for first, key in groups:
            (row,) = self._db.execute("SELECT row FROM item WHERE n = ?", (first,)).fetchone()
            yield orjson.loads(row), map(_member, self._db.execute(members_of, (key,)))


def _member(columns: Sequence[Any]) -> Member:
    items, row, *means = columns
    return Member(items, orjson.loads(row), tuple(means))
