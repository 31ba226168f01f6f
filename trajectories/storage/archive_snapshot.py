"""One snapshot of the archive for several reads, and its file in memory for a read of many rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections, router, transaction

from trajectories.models import Trajectory
from trajectories.storage.archive_errors import archive_errors

_MAPPED_BYTES = 2**30
"""Bytes of an SQLite file that a read of many rows maps; SQLite reads the rest page by page."""


@contextmanager
def mapped(using: str | None = None) -> Iterator[None]:
    """Map the file of an SQLite archive into memory for the reads inside.

    A read of many rows finds them for a third of the CPU. The mapping ends with the reads, because
    its pages count as memory of the process; one that the connection had before, such as that of an
    ``init_command``, goes on. Inside a transaction nothing is mapped.
    """
    connection = connections[using or router.db_for_read(Trajectory)]
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        yield
        return
    with archive_errors(), connection.cursor() as cursor:
        cursor.execute("PRAGMA mmap_size")
        before = cursor.fetchone()  # none of a database in memory
        cursor.execute(f"PRAGMA mmap_size = {_MAPPED_BYTES}")
        try:
            yield
        finally:
            cursor.execute(f"PRAGMA mmap_size = {before[0] if before else 0}")


@contextmanager
def snapshot(statement_timeout_s: float, using: str | None = None) -> Iterator[None]:
    """Run every read inside on one snapshot of the archive, or of the database ``using``.

    Inside a transaction of the caller, the reads use that transaction's snapshot.
    """
    with archive_errors():
        connection = connections[using or router.db_for_read(Trajectory)]
        if connection.in_atomic_block:
            yield
        elif connection.vendor == "sqlite":
            # atomic() sends BEGIN IMMEDIATE if the host configured it, and a reader must not wait for
            # writers.
            with connection.cursor() as cursor:
                cursor.execute("BEGIN DEFERRED")
                try:
                    yield
                finally:
                    cursor.execute("ROLLBACK")
        else:
            with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
                if connection.vendor == "postgresql":
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                    timeout_ms = round(statement_timeout_s * 1000)
                    cursor.execute(f"SET LOCAL statement_timeout = {timeout_ms}")
                yield
