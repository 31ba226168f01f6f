"""The pytest plugin, which pytest finds by its entry point.

pytest imports it before Django is set up, so this module imports nothing that needs Django.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from trajectories import test_environment

if TYPE_CHECKING:
    from trajectories.testing import IsolatedStore


def pytest_configure() -> None:
    test_environment.is_pytest_session = True


def pytest_unconfigure() -> None:
    test_environment.is_pytest_session = False


@pytest.fixture
def trajectories_store() -> Iterator[IsolatedStore]:
    """Give the test a store of its own: see ``trajectories.testing.isolated_store``."""
    from trajectories.testing import isolated_store

    with isolated_store() as store:
        yield store
