"""Which errors of the database count as an unavailable archive, on SQLite and on Postgres."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import Error, connections

from tests.storage.away import archive_away
from trajectories.domain.query import Query
from trajectories.storage import archive_reads, archive_snapshot, archive_writes
from trajectories.storage.archive_errors import ArchiveError, archive_errors

TENANT = "north"


@contextmanager
def renamed(alias: str, what: str) -> Iterator[None]:
    """Rename a table or a column, as before a migration that adds it."""
    with connections[alias].cursor() as cursor:
        cursor.execute(f"ALTER TABLE trajectories_trajectory RENAME {what} TO lost")
    yield
    table, back = ("lost", "TO trajectories_trajectory") if not what else ("trajectories_trajectory", f"lost TO {what}")
    with connections[alias].cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME {back}")


def test_a_database_that_cannot_be_reached_is_unavailable(archive_db: str) -> None:
    with archive_away(), pytest.raises(ArchiveError):
        archive_reads.newest(TENANT, Query(), None, 1)


@pytest.mark.parametrize("what", ["", "digest"], ids=["table", "column"])
def test_a_database_that_is_not_migrated_yet_is_unavailable(archive_db: str, what: str) -> None:
    with renamed(archive_db, what), pytest.raises(ArchiveError):
        archive_reads.newest(TENANT, Query(), None, 1)
    assert archive_reads.newest(TENANT, Query(), None, 1) == []


def test_a_database_that_is_read_only_is_unavailable(archive_db: str) -> None:
    sqlite = "PRAGMA query_only = {}", "ON", "OFF"
    postgres = "SET default_transaction_read_only = {}", "on", "off"
    statement, on, off = sqlite if connections[archive_db].vendor == "sqlite" else postgres
    with connections[archive_db].cursor() as cursor:
        cursor.execute(statement.format(on))
        with pytest.raises(ArchiveError):
            archive_reads.renew_identity()
        cursor.execute(statement.format(off))
    assert archive_reads.renew_identity()


@pytest.mark.parametrize(
    "statement",
    ["SELECT nonsense(", "SELECT 1" + " + 1" * 200_000, "SELECT nonsense(1)"],
    ids=["syntax", "size", "name"],
)
def test_an_error_of_a_statement_is_a_fault_and_keeps_its_class(archive_db: str, statement: str) -> None:
    with pytest.raises(Error) as raised, archive_errors(), connections[archive_db].cursor() as cursor:
        cursor.execute(statement)
    assert not isinstance(raised.value, ArchiveError)


def test_an_error_inside_a_snapshot_is_classified_once(archive_db: str) -> None:
    with renamed(archive_db, "digest"), pytest.raises(ArchiveError) as raised, archive_snapshot.snapshot(1):
        archive_reads.newest(TENANT, Query(), None, 1)
    assert not isinstance(raised.value.__cause__, ArchiveError)
    assert archive_writes.alias() == archive_db
