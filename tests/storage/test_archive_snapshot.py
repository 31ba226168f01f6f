"""Reads of many rows map the file of an SQLite archive, and give the memory back."""

from __future__ import annotations

import pytest
from django.db import connections, transaction

from tests.storage.away import archive_away
from trajectories.storage.archive_errors import ArchiveError
from trajectories.storage.archive_snapshot import mapped, snapshot


def mapped_bytes(alias: str) -> int:
    with connections[alias].cursor() as cursor:
        return int(cursor.execute("PRAGMA mmap_size").fetchone()[0])


def test_a_read_of_many_rows_maps_the_file_until_it_ends(archive_db: str) -> None:
    if connections[archive_db].vendor != "sqlite":
        with mapped(archive_db), snapshot(1.0, archive_db):
            pass  # nothing to map
        return
    with mapped(archive_db), snapshot(1.0, archive_db):
        assert mapped_bytes(archive_db) > 0
    assert mapped_bytes(archive_db) == 0
    with pytest.raises(ZeroDivisionError), mapped(archive_db):
        raise ZeroDivisionError
    assert mapped_bytes(archive_db) == 0


def test_a_mapping_of_the_installation_or_of_an_outer_read_goes_on(archive_db: str) -> None:
    if connections[archive_db].vendor != "sqlite":
        return
    with mapped(archive_db):
        with mapped(archive_db):
            pass
        assert mapped_bytes(archive_db) > 0
    with connections[archive_db].cursor() as cursor:
        cursor.execute("PRAGMA mmap_size = 4096")
        with mapped(archive_db):
            assert mapped_bytes(archive_db) > 4096
        assert mapped_bytes(archive_db) == 4096
        cursor.execute("PRAGMA mmap_size = 0")


def test_a_transaction_of_the_caller_maps_nothing(archive_db: str) -> None:
    with transaction.atomic(using=archive_db), mapped(archive_db):
        assert connections[archive_db].vendor != "sqlite" or mapped_bytes(archive_db) == 0


def test_an_archive_that_is_away_cannot_be_mapped(archive_db: str) -> None:
    if connections[archive_db].vendor == "sqlite":
        with archive_away(), pytest.raises(ArchiveError), mapped(archive_db):
            raise AssertionError("the archive was mapped")
