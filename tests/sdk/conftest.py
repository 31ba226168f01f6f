"""A store in processes of its own, for the SDKs to speak to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import pytest

from tests.processes import Site, Web

_numbers = count(1)


@dataclass(frozen=True)
class Store:
    """A site with a web server and a worker that run."""

    site: Site
    web: Web

    @property
    def url(self) -> str:
        return self.web.url

    def key(self, *, scopes: str = "record,read,export") -> str:
        """An API key of a new tenant, which has no records."""
        return self.site.manage("create_api_key", f"tenant-{next(_numbers)}", "--scopes", scopes).strip()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    site = Site.make(tmp_path_factory.mktemp("store") / "site", {})
    try:
        site.worker()
        yield Store(site, site.web())
    finally:
        site.close()
