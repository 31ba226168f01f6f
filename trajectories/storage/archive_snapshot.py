"""One snapshot of the archive for several reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections, router, transaction

from trajectories.models import Trajectory
from trajectories.storage.archive_errors import archive_errors


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
