"""A database outage with real processes, and a worker that is killed inside its transaction on
Postgres."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import orjson
import psycopg
import pytest

from tests.examples import REFERENCE
from tests.processes import Site, Web, wait_until

PATH = "/v1/agent/trajectories"
JSON = {"Content-Type": "application/json"}
MakeSite = Callable[..., Site]


@pytest.fixture
def site(make_site: MakeSite, postgres_database: str) -> Site:
    """A site that resends and gives up quickly, and looks up the key on every request."""
    settings = {"RESEND_AFTER_S": "1", "EXPORT_WAIT_S": "0.2", "KEY_CACHE_S": "0"}
    given = {f"TRAJECTORIES_{name}": value for name, value in settings.items()}
    return make_site(DATABASE_URL=postgres_database, **given)


def post(web: Web, count: int) -> list[str]:
    """Post ``count`` runs one by one and return their ids."""
    ids = []
    for _ in range(count):
        answer = web.http.post(PATH, content=orjson.dumps(REFERENCE | {"id": str(uuid4())}), headers=JSON)
        assert answer.status_code == 201, answer.text
        ids.append(str(answer.json()["id"]))
    return ids


def page(web: Web) -> dict[str, Any]:
    answer = web.http.get(PATH, params={"limit": 1_000})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def listed(web: Web) -> list[str]:
    return [record["id"] for record in page(web)["data"]]


def asked(url: str, sql: str) -> Any:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(sql).fetchone()


def archived(url: str) -> int:
    return int(asked(url, "SELECT count(*) FROM trajectories_trajectory")[0])


@contextmanager
def away(url: str) -> Iterator[None]:
    """Close every connection to the database and refuse new ones."""
    server, name = urlsplit(url)._replace(path="/postgres").geturl(), urlsplit(url).path.lstrip("/")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        try:
            yield
        finally:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def test_a_server_restarted_during_a_database_outage_accepts_and_lists_then_archives(
    site: Site, postgres_database: str
) -> None:
    web = site.web()
    site.worker()
    ids = post(web, 3)
    wait_until(lambda: archived(postgres_database) == 3, what="the first are in the archive")
    wait_until(lambda: page(web)["complete"], what="Redis is followed")
    with away(postgres_database):
        ids += post(web, 2)
        assert listed(web) == ids[::-1]
        web.stop()
        web = site.web()
        ids += post(web, 2)
        assert set(listed(web)) >= set(ids[3:])
        export = web.http.get(f"{PATH}/export")
        assert export.status_code == 503
        assert int(export.headers["Retry-After"]) > 0
    wait_until(lambda: archived(postgres_database) == 7, 60, "the rest is in the archive")
    wait_until(lambda: listed(web) == ids[::-1], what="everything is listed in its order")
    assert web.http.get(f"{PATH}/stats").json()["count"] == 7


def test_a_worker_killed_inside_its_transaction_leaves_no_part_of_the_batch(site: Site, postgres_database: str) -> None:
    web = site.web()
    worker = site.worker(concurrency=1)
    ids = post(web, 5)
    wait_until(lambda: archived(postgres_database) == 5, what="the first are in the archive")
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%UPDATE%' AND query LIKE '%tenant%'"
    with psycopg.connect(postgres_database) as holder:
        holder.execute("UPDATE trajectories_tenant SET name = name")
        ids += post(web, 20)
        wait_until(lambda: asked(postgres_database, waits) == (1,), what="the worker waits for the tenant's row")
        worker.kill()
        shown, kept = len(listed(web)), archived(postgres_database)
        print(f"worker away: list {shown}, archive {kept}")
        assert (shown, kept) == (25, 5)
        holder.rollback()
    site.worker()
    wait_until(lambda: archived(postgres_database) == 25, 60, "the rest is in the archive")
    print(f"worker back: list {len(listed(web))}, archive {archived(postgres_database)}")
    assert listed(web) == ids[::-1]
    counts = (
        "SELECT count(*), count(DISTINCT trajectory_id), count(DISTINCT seq), max(seq) FROM trajectories_trajectory"
    )
    assert asked(postgres_database, counts) == (25, 25, 25, 25)
    assert asked(postgres_database, "SELECT count(*) FROM trajectories_phase") == (25,)
