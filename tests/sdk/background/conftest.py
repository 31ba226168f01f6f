"""A server for the SDK's background queue, and programs that use it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.processes import Process, Site, Web
from trajectories_sdk import Client
from trajectory_site import servers

MakeProgram = Callable[..., Process]


@dataclass
class Store:
    """A site with one web server, which a test may kill and start again. Tests share it, and each
    has a project."""

    site: Site
    port: int
    web: Web
    project: str

    def start(self) -> None:
        """On the same port as before."""
        self.web = self.site.web(port=self.port)

    def arrived(self) -> list[UUID]:
        """The ids that it has of this test's project."""
        ids: list[UUID] = []
        parameters: dict[str, Any] = {"limit": 1000, "project": self.project}
        while True:
            page = self.web.http.get("/v1/agent/trajectories", params=parameters).json()
            ids += [UUID(record["id"]) for record in page["data"]]
            if not page["has_more"]:
                return ids
            parameters["cursor"] = page["next_cursor"]


@pytest.fixture(scope="package")
def package_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    site = Site.make(tmp_path_factory.mktemp("sdk") / "site", {})
    port = servers.free_port()
    yield Store(site, port, site.web(port=port), "")
    site.close()


@pytest.fixture
def store(package_store: Store) -> Store:
    if not package_store.web.is_running:
        package_store.start()
    package_store.project = uuid4().hex
    return package_store


@pytest.fixture
def spool_dir(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def client(store: Store, spool_dir: Path) -> Iterator[Client]:
    """A client of this process; it shares the spool with the programs."""
    with Client(store.web.url, store.site.api_key, spool_dir=spool_dir) as client:
        yield client


@pytest.fixture
def environment(store: Store, spool_dir: Path) -> dict[str, str]:
    """For a program that reads where the server is."""
    return store.site.environment | {
        "TRAJSTORE_BASE_URL": store.web.url,
        "TRAJSTORE_API_KEY": store.site.api_key,
        "TRAJSTORE_SPOOL_DIR": str(spool_dir),
        "PROJECT": store.project,
    }


@pytest.fixture
def program(environment: dict[str, str], tmp_path: Path) -> Iterator[MakeProgram]:
    """Runs ``python -m tests.sdk.background.pipeline``; ended with the test."""
    made: list[Process] = []

    def run(how: str, count: int, **more: str) -> Process:
        arguments = [sys.executable, "-m", "tests.sdk.background.pipeline", how, str(count)]
        made.append(Process(arguments, environment | more, tmp_path / f"{len(made)}.log"))
        return made[-1]

    yield run
    for process in made:
        process.kill()


def printed_ids(program: Process) -> list[UUID]:
    """The ids that the program printed after `enqueue` returned."""
    return [UUID(line) for line in program.output.split("\n")[:-1] if len(line) == 36]
