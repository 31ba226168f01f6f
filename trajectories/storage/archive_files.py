"""The archive: its files and tables as a whole."""

from __future__ import annotations

from django.db import OperationalError, connections

from trajectories.models import (
    ApiKey,
    AuditEntry,
    LateOutcome,
    Phase,
    Quarantined,
    Reference,
    RollUp,
    RunOutcome,
    Tenant,
    Tombstone,
    Trajectory,
)
from trajectories.storage import search_index
from trajectories.storage.archive_errors import archive_errors
from trajectories.storage.archive_writes import alias
from trajectories.workspace import Annotation


@archive_errors()
def compact(*, is_full: bool) -> bool:
    """Remove deleted data from the database files; return False if a file is in use.

    On Postgres, the write-ahead log keeps deleted data until it is overwritten. So does the free
    space in pages, unless ``is_full`` is set.
    """
    with connections[alias()].cursor() as cursor:
        if cursor.db.vendor == "sqlite":
            try:
                search_index.compact(alias())
                cursor.execute("VACUUM")
            except OperationalError:
                return False
            is_busy, *_ = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return not is_busy
        if cursor.db.vendor == "postgresql":
            of_runs = Phase, RunOutcome, Reference, LateOutcome, Trajectory, Annotation, RollUp
            models = *of_runs, Quarantined, Tombstone, ApiKey, AuditEntry, Tenant
            tables = ", ".join(cursor.db.ops.quote_name(model._meta.db_table) for model in models)
            cursor.execute(f"VACUUM (FULL {'ON' if is_full else 'OFF'}) {tables}, {search_index.TABLE}")
    return True


def files() -> list[str]:
    """Return the paths of the database files that this host can read; none unless it is SQLite."""
    settings = connections[alias()].settings_dict
    return [str(settings["NAME"])] if connections[alias()].vendor == "sqlite" else []


@archive_errors()
def refresh_statistics() -> None:
    """Let SQLite look at its tables where that is due, so that it chooses indexes by their content."""
    connection = connections[alias()]
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA analysis_limit = 1000")
            cursor.execute("PRAGMA optimize")
