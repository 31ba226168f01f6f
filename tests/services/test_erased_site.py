"""Files and keys after an erasure, of a site with two hosts and of the tables of Postgres."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from django.db import connections
from redis import Redis

from tests.processes import Site, Web, wait_until
from tests.routing import ArchiveRouter
from tests.services.test_erasure import BOB, MARKER, erase
from tests.storage.hosts import WebProcess
from tests.test_whole_path import PATH, archived, bodies, listed, ndjson, post, waiting
from trajectories.services import erasure

pytestmark = pytest.mark.usefixtures("celery_broker")


@contextmanager
def site_at_work(directory: Path) -> Iterator[tuple[Site, Web, Web]]:
    """Two hosts and a worker."""
    site = Site.make(directory / "site", {"TRAJECTORIES_OUTBOX_KEEP_CONFIRMED_S": "600"})
    try:
        web = site.web()
        other = site.web(TRAJECTORIES_OUTBOX_PATH=str(site.data_dir / "other.sqlite3"))
        site.worker()
        wait_until(lambda: web.http.get("/health/ready").is_success and other.http.get("/health/ready").is_success)
        yield site, web, other
    finally:
        site.close()


def holding(directory: Path, marker: bytes) -> list[str]:
    """Return the names of files below ``directory`` that contain ``marker``, logs included."""
    return [path.name for path in sorted(directory.rglob("*")) if path.is_file() and marker in path.read_bytes()]


def in_redis(site: Site, marker: bytes) -> int:
    """Count the keys of every database with ``marker`` in their name or value."""
    count = 0
    with site.redis.client() as client:
        client.config_set("rdbcompression", "no")  # of what DUMP answers
        for number in range(16):
            client.execute_command("SELECT", number)
            count += sum(marker in key or marker in (client.dump(key) or b"") for key in client.scan_iter())
    return count


def test_after_the_command_no_file_and_no_key_of_a_site_has_anything_of_the_tenant(tmp_path: Path) -> None:
    marker = f"marker{uuid4().hex}"
    with site_at_work(tmp_path) as (site, web, other):
        bob_key = site.manage("create_api_key", BOB, "--scopes", "record,read,export").strip()
        for target in (web, other):
            post(target, ndjson([run | {"request_summary": f"{marker} {run['id']}"} for run in bodies(60)]))
        bobs = bodies(20)
        headers = {"Authorization": f"Bearer {bob_key}", "Content-Type": "application/x-ndjson"}
        assert web.http.post(PATH, content=ndjson(bobs), headers=headers).is_success
        wait_until(lambda: archived(site) == 140 and not waiting(site) and not waiting(site, "other.sqlite3"))
        assert len(listed(web)) == len(listed(other)) == 120
        assert {"outbox.sqlite3", "other.sqlite3", "db.sqlite3"} <= {
            name.removesuffix("-wal") for name in holding(site.data_dir, marker.encode())
        }
        assert in_redis(site, marker.encode()) >= 120

        said = site.manage("erase_tenant", site.tenant, "--no-input", "--marker", marker)

        assert f"{site.tenant} erased: 120 records" in said
        assert said.endswith("Nothing is left.\n")
        wait_until(lambda: holding(site.data_dir, marker.encode()) == [], 60, "the other host has erased it too")
        assert in_redis(site, marker.encode()) == 0
        assert web.http.get(PATH).status_code in (200, 401)  # a process may know the key for a minute
        assert web.http.get(PATH, headers=headers).json()["data"]
        late = web.http.post(PATH, json=bodies(1)[0])
        assert late.status_code in (401, 409), late.text
        assert archived(site) == 20
        assert holding(site.data_dir, site.api_key.partition(".")[0].encode()) == []


@pytest.mark.parametrize("archive_db", ["postgres"], indirect=True)
def test_no_rewritten_table_of_postgres_has_data_of_it(archive_db: str, redis_tier: Redis, own: WebProcess) -> None:
    def tables_hold() -> list[str]:
        with connections[ArchiveRouter.alias].cursor() as cursor:
            cursor.execute("CHECKPOINT")
            cursor.execute("SHOW data_directory")
            return holding(Path(cursor.fetchone()[0]) / "base", MARKER.encode())

    own.record(request_summary=MARKER)
    own.persist()
    assert tables_hold()
    erase(own)
    erasure.compact(own.store, is_full=True, timeout_s=5)
    assert tables_hold() == []
