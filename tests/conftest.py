"""Servers and databases of the tests. Each starts when the first test needs it, and ends with the
run.

Nothing has to be installed or running; ``REDIS_URL`` and ``DATABASE_URL`` name servers to use
instead of own ones.
"""

from __future__ import annotations

import gc
import os
import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
import psycopg
import pytest
from celery.contrib.testing.worker import start_worker
from django.core.cache import caches
from django.db import connections
from kombu import pools
from pytest_django import Settings
from redis import Redis
from xdist.scheduler import WorkStealingScheduling

from tests.postgres import throwaway_postgres
from tests.processes import Site
from tests.routing import ArchiveRouter
from tests.storage.hosts import QUICK, WebProcess
from trajectories import test_environment
from trajectories.storage.store import get_store
from trajectory_site import redis_url, servers
from trajectory_site.celery import app as celery_app

pytest_plugins = ["tests.longest_first", "tests.tables"]

_ARCHIVES = {"sqlite": "default", "postgres": "postgres"}


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Tests compute most of the time, and wait for processes in between; those of faults mostly
    wait."""
    return (os.cpu_count() or 1) + 2


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> WorkStealingScheduling | None:
    """Tests of faults are long and share nothing, so they are not kept together by module."""
    return WorkStealingScheduling(config, log) if _is_of_faults(config) else None


def _is_of_faults(config: pytest.Config) -> bool:
    return str(config.option.markexpr).startswith("faults")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the databases that tests of ``archive_db`` use, so that Postgres starts only where it is
    needed."""
    for item in items:
        archive = getattr(item, "callspec", None) and item.callspec.params.get("archive_db")  # type: ignore[attr-defined]
        if archive:
            databases = sorted({"default", _ARCHIVES[archive]})
            item.add_marker(pytest.mark.django_db(transaction=True, databases=databases))


def pytest_collection_finish() -> None:
    """Leave the tests themselves out of later collections of garbage: they are half a gigabyte."""
    gc.collect()
    gc.freeze()


# --- Settings


@pytest.fixture(autouse=True)
def trajectories_settings(settings: Settings, tmp_path: Path) -> dict[str, Any]:
    """Return ``settings.TRAJECTORIES`` of the test: an outbox of its own, and no relay in the
    process."""
    settings.TRAJECTORIES = {"OUTBOX_PATH": str(tmp_path / "outbox.sqlite3"), "RELAY_IN_PROCESS": False}
    return dict(settings.TRAJECTORIES)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m,mode=700", "none", str(directory)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system is not allowed here")
    yield directory
    # Lazily: a process of the test may not be gone yet.
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


# --- Databases


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A Postgres server."""
    with throwaway_postgres() as url:
        yield url


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[str]:
    """The URL of an empty Postgres database, for the processes of a site."""
    name = f"site_{secrets.token_hex(6)}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield urlsplit(postgres_url)._replace(path=f"/{name}").geturl()
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    django_db_modify_db_settings_parallel_suffix: None,
) -> None:
    """Set the databases before pytest-django creates them.

    SQLite uses a file, so that other processes can open it.
    """
    connections.settings["default"]["TEST"]["NAME"] = str(tmp_path_factory.mktemp("sqlite") / "db.sqlite3")
    if any(_uses_postgres(item) for item in request.session.items):
        config = environ.Env.db_url_config(request.getfixturevalue("postgres_url"))
        there = connections.settings["postgres"]
        there["OPTIONS"] |= config.pop("OPTIONS", {})
        there |= {key: config[key] for key in ("USER", "PASSWORD", "HOST", "PORT")}


def _uses_postgres(item: pytest.Item) -> bool:
    return any("postgres" in mark.kwargs.get("databases", ()) for mark in item.iter_markers("django_db"))


@pytest.fixture(params=list(_ARCHIVES))
def archive_db(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test twice, with the archive in SQLite and in Postgres; return the alias of the
    database."""
    alias = _ARCHIVES[request.param]
    with ArchiveRouter.to(alias):
        yield alias


# --- Redis and Celery


@pytest.fixture(scope="session")
def redis_server_url(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[str]:
    """The URL of a Redis database that tests may empty. The next database is the broker's."""
    with servers.running_redis(tmp_path_factory.mktemp("redis"), password=secrets.token_urlsafe(12)) as server:
        # Workers of pytest-xdist share a server that the environment names, so each takes two
        # databases of its own.
        ours = redis_url.database(server.url) + 2 * int(worker_id.removeprefix("gw").replace("master", "0"))
        url = redis_url.with_database(server.url, ours)
        for used in (url, redis_url.broker(url)):
            with _client(used) as client:
                if client.dbsize():
                    number = redis_url.database(used)
                    raise pytest.UsageError(f"Tests empty their Redis databases, and {number} has keys. Name another.")
        yield url
        for used in (url, redis_url.broker(url)):
            with _client(used) as client:
                client.flushdb()


def _client(url: str) -> Redis:
    return Redis.from_url(url, socket_timeout=5)


@pytest.fixture
def redis_tier_url(redis_server_url: str, settings: Settings) -> Iterator[str]:
    """The URL of the Redis tier, which is empty."""
    with _client(redis_server_url) as client:
        client.flushdb()
    tier = settings.CACHES["trajectories"] | {"LOCATION": redis_server_url}
    settings.CACHES = settings.CACHES | {"trajectories": tier}
    yield redis_server_url
    caches["trajectories"].close()


@pytest.fixture
def redis_tier(redis_tier_url: str) -> Iterator[Redis]:
    """A client of the Redis tier, which is empty."""
    with _client(redis_tier_url) as client:
        yield client


@pytest.fixture
def celery_broker(redis_server_url: str) -> Iterator[str]:
    """The URL of the broker, which is empty; this process publishes to it."""
    url = redis_url.broker(redis_server_url)
    with _client(url) as client:
        client.flushdb()
    before = celery_app.conf.broker_url
    publish_to(url)
    yield url
    publish_to(before)


@pytest.fixture
def consumed_queue(celery_broker: str) -> Iterator[str]:
    """The URL of a broker whose default queue a worker consumes, in a thread of this process."""
    with start_worker(celery_app, perform_ping_check=False, logfile=os.devnull):
        yield celery_broker


def publish_to(url: str) -> None:
    """Make this process send its tasks to another broker."""
    pools.reset()  # pools are kept by URL, and a closed one would be reused
    celery_app._after_fork()  # type: ignore[attr-defined]  # forgets the app's own references to them
    celery_app.control._after_fork()  # type: ignore[attr-defined]
    celery_app.conf.update(broker_url=url)


@pytest.fixture
def named_store(redis_tier: Redis) -> None:
    """The store of this process knows its identity, so that no database is asked for it."""
    get_store()._become("0123456789ab")


@pytest.fixture
def outside_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the app run as it does in a web server."""
    monkeypatch.setattr(test_environment, "is_active", lambda: False)


# --- Processes


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Return a factory of sites, each with its own data directory, database, Redis and processes.

    They end with the test.
    """
    made: list[Site] = []

    def make(**environment: str) -> Site:
        made.append(Site.make(tmp_path / f"site{len(made)}", environment))
        return made[-1]

    yield make
    for site in made:
        site.close()


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    """A migrated site with a tenant and a key; start its processes with ``site.web()`` and
    ``site.worker()``."""
    return make_site()


# --- Processes and hosts, without a process of their own


@pytest.fixture
def own(tmp_path: Path) -> WebProcess:
    return WebProcess(tmp_path / "own", **QUICK)


@pytest.fixture
def beside(own: WebProcess) -> WebProcess:
    """Another process of the same host."""
    return WebProcess(Path(own.conf.outbox_path), **QUICK)


@pytest.fixture
def other_host(tmp_path: Path) -> WebProcess:
    return WebProcess(tmp_path / "other", **QUICK)
