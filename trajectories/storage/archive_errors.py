"""Which errors of the database mean that the archive is unavailable.

Callers answer these with what other tiers have, or try again. Any other error is a fault of this
program: it passes as it is, so a request gets 500 and the log names its class.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import DatabaseError, Error, InterfaceError, InternalError, OperationalError


class ArchiveError(OperationalError):
    """The archive cannot be reached, is locked, read-only, damaged or not migrated, or timed out."""


@contextmanager
def archive_errors() -> Iterator[None]:
    """Raise ArchiveError for a database error inside that means unavailability. Also a decorator."""
    try:
        yield
    except Error as error:
        if isinstance(error, ArchiveError) or not _is_unavailability(error):
            raise
        raise ArchiveError(*error.args) from error


# Errors of processes whose release expects a migration that has not run yet. PostgreSQL, appendix A:
# undefined_table, undefined_column.
_NOT_MIGRATED = ("42P01", "42703")
_NOT_MIGRATED_TEXTS = ("no such table", "no such column", "has no column named")
_STATEMENT_TOO_COMPLEX = "54"
"""Class of SQLSTATE. psycopg makes OperationalError of it, although the statement is at fault."""


def _is_unavailability(error: Error) -> bool:
    cause = error.__cause__
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    if state in _NOT_MIGRATED:
        return True
    # SQLite reports its own states by other codes, and everything wrong with a statement by this one.
    if getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR:
        return any(text in str(error) for text in _NOT_MIGRATED_TEXTS)
    if state and state.startswith(_STATEMENT_TOO_COMPLEX):
        return False
    # InternalError: the server became a read-only standby. DatabaseError itself: a damaged SQLite file.
    return isinstance(error, OperationalError | InterfaceError | InternalError) or type(error) is DatabaseError
