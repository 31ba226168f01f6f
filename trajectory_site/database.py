"""The archive's database: ``DATABASE_URL`` and the options that its engine needs."""

from __future__ import annotations

import re
import warnings
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import environ
from django.db.backends.signals import connection_created
from django.dispatch import receiver

from trajectories import private_files
from trajectory_site import environment

_URL = "DATABASE_URL"
_SCHEMES = ("postgres", "postgresql", "sqlite")


def from_environment(default: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of ``DATABASES`` that ``DATABASE_URL`` describes, or ``default`` without
    one."""
    url = environment.text(_URL)
    if not url:
        return config(default)
    scheme, separator, rest = url.partition("://")
    url, scheme = f"{scheme.lower()}{separator}{rest}", scheme.lower()
    if scheme not in _SCHEMES or not separator:
        given = repr(scheme[:20]) if separator else "no scheme"
        environment.refuse(_URL, f"must begin with postgresql:// or sqlite:///, got {given}.")
    try:
        with warnings.catch_warnings(action="ignore"):
            found: dict[str, Any] = environ.Env.db_url_config(url)
    except ValueError:
        environment.refuse(
            _URL,
            "cannot be read: the port must be a number, and in user and password the characters @ : / ? # % must be"
            " written as %40 %3A %2F %3F %23 %25.",
        )
    if not found["NAME"] or found["NAME"] == ":memory:":
        environment.refuse(_URL, "names no database; it ends with /NAME, and for SQLite with the path of a file.")
    if scheme != "sqlite" and find_spec("psycopg") is None:
        environment.refuse(_URL, "names a Postgres, whose driver is not installed: pip install 'psycopg[binary]'.")
    return config(found)


def config(found: dict[str, Any]) -> dict[str, Any]:
    """Return ``found`` with the options its engine needs; options in the URL win."""
    options: dict[str, Any] = {}
    timeouts_ms, is_pooled = _timeouts_ms(), environment.boolean("DATABASE_TRANSACTION_POOLING")
    if found["ENGINE"].endswith(".sqlite3"):
        options = {
            "timeout": 20,
            # A deferred transaction that reads before it writes cannot wait for a writer.
            "transaction_mode": "IMMEDIATE",
            # synchronous stays FULL: the outbox drops archived rows, so the archive must keep them.
            "init_command": "PRAGMA journal_mode=WAL",
        }
    elif found["ENGINE"].endswith(".postgresql"):
        options = {
            "connect_timeout": 3,
            # A connection to a silent server is closed after this time, in milliseconds.
            "tcp_user_timeout": 10_000,
        }
        found.setdefault("CONN_HEALTH_CHECKS", True)
        # A pooler that gives each transaction another server connection would apply a SET to another
        # client's transactions, and not to all of ours; the role's own timeouts apply there. Django
        # does not use prepared statements unless asked.
        found |= {"DISABLE_SERVER_SIDE_CURSORS": True} if is_pooled else {"SESSION_MS": timeouts_ms}
    found.setdefault("CONN_MAX_AGE", 60)
    return found | {"OPTIONS": options | found.get("OPTIONS", {})}


def make_private(entry: dict[str, Any]) -> None:
    """Create the file of an SQLite database, which SQLite would make readable by other users."""
    if entry["ENGINE"].endswith(".sqlite3"):
        with suppress(OSError):  # the connection reports it
            private_files.make_file(Path(entry["NAME"]))


def _timeouts_ms() -> dict[str, int]:
    """Return the timeouts of a session; 0 disables the first, for the migration of a large table."""
    return {
        "statement_timeout": environment.integer("DATABASE_STATEMENT_TIMEOUT_MS", 60_000),
        "lock_timeout": 10_000,
        "idle_in_transaction_session_timeout": 60_000,
    }


@receiver(connection_created, dispatch_uid="trajectory_site.database")
def _set_timeouts(connection: Any, **_: object) -> None:
    """Set the timeouts of a new session.

    Not in the startup packet, as PgBouncer refuses its parameter ``options``.
    """
    given = str(connection.settings_dict["OPTIONS"].get("options", ""))
    own = {
        name: ms
        for name, ms in connection.settings_dict.get("SESSION_MS", {}).items()
        if not re.search(rf"\b{name}\b", given)
    }
    if own:
        # On the driver's connection: it is no query of the caller that opened the connection.
        connection.connection.execute("; ".join(f"SET {name} = {ms}" for name, ms in own.items()))
