"""Callers of the API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from django.db import connection
from django.test import Client

from tests.api.client import client_of, issue
from trajectories.storage.store import get_store


@pytest.fixture
def bound_host(db: None) -> None:
    """A host that has run before: its outbox names the store."""
    get_store().verify()


@pytest.fixture
def north(bound_host: None) -> Client:
    """A client of the tenant "north" that may do everything."""
    return client_of(issue("north")[1])


@pytest.fixture
def south(bound_host: None) -> Client:
    """A client of another tenant that may do everything there."""
    return client_of(issue("south")[1])


@pytest.fixture
def without_tables(db: None) -> Callable[..., AbstractContextManager[None]]:
    """A context in which the database has lost some tables, so that it answers what it answers when
    it is away."""

    @contextmanager
    def lost(*models: str) -> Iterator[None]:
        names = [f"trajectories_{model}" for model in models]
        for name in names:
            _rename(name, f"{name}_lost")
        yield
        for name in names:
            _rename(f"{name}_lost", name)

    return lost


def _rename(table: str, to: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO {to}")
