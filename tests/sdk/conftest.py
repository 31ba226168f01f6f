"""A site in processes of its own, for all tests of a module, and clients of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.processes import Site, Web
from tests.sdk.proxy import CuttingProxy
from tests.sdk.served import ServedStore
from trajectories_sdk import Client


@pytest.fixture(scope="module")
def module_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site.make(tmp_path_factory.mktemp("sdk") / "site", {})
    yield site
    site.close()


@pytest.fixture(scope="module")
def web(module_site: Site) -> Web:
    """Its web server, with a worker behind it."""
    module_site.worker()
    return module_site.web()


@pytest.fixture(scope="module")
def api_key(module_site: Site, web: Web) -> str:
    """A client with every scope, of a tenant of its own."""
    return module_site.manage("create_api_key", "sdk", "--scopes", "record,read,export,admin").strip()


@pytest.fixture(scope="module")
def served_store(module_site: Site, web: Web, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> ServedStore:
    """The same, for tests that each want a tenant of their own."""
    ours = tmp_path_factory.getbasetemp()
    return ServedStore(module_site, web, ours if worker_id == "master" else ours.parent)


@pytest.fixture
def client(web: Web, api_key: str) -> Iterator[Client]:
    with Client(web.url, api_key) as client:
        yield client


@pytest.fixture
def proxy(web: Web) -> Iterator[CuttingProxy]:
    """Between a client and the web server."""
    proxy = CuttingProxy(int(web.url.rpartition(":")[2]))
    thread = threading.Thread(target=proxy.serve, daemon=True)
    thread.start()
    yield proxy
    proxy.close()
    thread.join()
