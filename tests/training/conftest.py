"""A store of the test's own, with runs in its archive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.training.runs import run_with_choices
from trajectories import record
from trajectories.models import Tenant
from trajectories.testing import IsolatedStore, isolated_store

TENANT = "north"


@pytest.fixture
def store(db: None) -> Iterator[IsolatedStore]:
    """An isolated store with a tenant."""
    with isolated_store() as store:
        Tenant.objects.get_or_create(slug=TENANT)
        yield store


@pytest.fixture
def archive(store: IsolatedStore) -> Callable[..., None]:
    """A function that archives as many runs, in turn of two models and of three sessions."""

    def archive(count: int, **fields: Any) -> None:
        for number in range(1, count + 1):
            of = run_with_choices(number, "large" if number % 2 else "small", session_id=f"s{number % 3 + 6}", **fields)
            record(TENANT, of.body)
        store.deliver()

    return archive
