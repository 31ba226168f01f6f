"""An archive that does not answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections

from tests.routing import ArchiveRouter
from trajectories.storage.store import get_store


@contextmanager
def archive_away() -> Iterator[None]:
    """Name a database that does not exist, so that each new connection gets an OperationalError.

    Threads keep the connections that they have. The store of this process knows its identity, as
    that of a host that has run before.
    """
    get_store().verify()
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
