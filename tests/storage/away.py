"""An archive that does not answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections

from tests.routing import ArchiveRouter


@contextmanager
def archive_away() -> Iterator[None]:
    """The archive is a database that is not there, so whoever connects gets an OperationalError.

    Threads that are connected stay so.
    """
    connection = connections[ArchiveRouter.alias]
    name = connection.settings_dict["NAME"]
    connection.close()
    # The same dict in every thread. For SQLite a file in a directory that does not exist.
    connection.settings_dict["NAME"] = "nowhere/at_all"
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["NAME"] = name
