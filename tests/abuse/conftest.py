"""A server under attack, one for the tests of a module."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.abuse.attack import Attack, Bystander
from tests.processes import Site, Web

THREADS = 4
"""As ``Site.web`` has them."""


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """One worker of four threads."""
    site = Site.make(tmp_path_factory.mktemp("abuse") / "site", {})
    try:
        yield site.web()
    finally:
        site.close()


@pytest.fixture
def attack(web: Web, tabulate: Callable[..., None]) -> Iterator[Attack]:
    with Bystander(web) as bystander:
        made = Attack(web, bystander, tabulate)
        yield made
        made.attacker.close()
