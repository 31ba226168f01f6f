"""The whole path in processes of its own: web servers, a relay, a worker, Redis, an archive."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest

from tests.examples import REFERENCE
from tests.processes import Site, Web, wait_until

PATH = "/v1/agent/trajectories"
DAYS_90_S = 90 * 24 * 3600
SOAR = Path(__file__).resolve().parents[2] / "shared" / "data" / "soar.jsonl"


def bodies(count: int) -> list[dict[str, Any]]:
    return [REFERENCE | {"id": str(uuid4()), "request_summary": f"run {number}"} for number in range(count)]


def ndjson(runs: list[dict[str, Any]]) -> bytes:
    return b"\n".join(orjson.dumps(run) for run in runs)


def post(web: Web, data: bytes) -> dict[str, Any]:
    answer = web.http.post(PATH, content=data, headers={"Content-Type": "application/x-ndjson"})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def listed(web: Web) -> list[str]:
    """Return every listed id, page by page."""
    ids, cursor = [], None
    while True:
        page = web.http.get(PATH, params={"limit": 100} | ({"cursor": cursor} if cursor else {})).json()
        ids += [record["id"] for record in page["data"]]
        cursor = page["next_cursor"]
        if not page["has_more"]:
            return ids


def archive(site: Site, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(site.data_dir / "db.sqlite3", timeout=20)) as db:
        return db.execute(sql).fetchall()


def archived(site: Site) -> int:
    return int(archive(site, "SELECT count(*) FROM trajectories_trajectory")[0][0])


def waiting(site: Site, outbox: str = "outbox.sqlite3") -> int:
    with closing(sqlite3.connect(site.data_dir / outbox, timeout=20)) as db:
        return int(db.execute("SELECT count(*) FROM rows WHERE state = 'waiting'").fetchone()[0])


def expiries(site: Site) -> dict[bytes, float]:
    """Return the expiry of each record's key in whole seconds since 1970; Redis 6.2 reports only
    the remaining time."""
    with site.redis.client() as client:
        keys = sorted(client.scan_iter("*:record:*"))
        with client.pipeline(transaction=True) as pipe:
            pipe.time()
            for key in keys:
                pipe.pttl(key)
            (seconds, micros), *left_ms = pipe.execute()
    assert all(ms > 0 for ms in left_ms), "a record without an end"
    return {key: round(seconds + micros / 1e6 + ms / 1000) for key, ms in zip(keys, left_ms, strict=True)}


def everything(site: Site, web: Web) -> tuple[str, dict[bytes, float], list[tuple[Any, ...]]]:
    """Return what a repeat must not change: exported bytes, expiries of keys, and the order of
    changes."""
    export = web.http.get(f"{PATH}/export?end=1")
    assert export.is_success, export.text
    rows = archive(site, "SELECT trajectory_id, seq, changed, revision, recorded_at_us FROM trajectories_trajectory")
    return export.text, expiries(site), sorted(rows)


@contextmanager
def locked_archive(site: Site) -> Iterator[None]:
    """Lock the archive, so that a writer waits inside its transaction."""
    with closing(sqlite3.connect(site.data_dir / "db.sqlite3", isolation_level=None, timeout=20)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")


def test_a_posted_run_reaches_redis_and_the_archive(site: Site) -> None:
    web = site.web()
    site.worker()
    runs = bodies(7)
    assert post(web, ndjson(runs))["accepted"] == 7
    assert listed(web) == [run["id"] for run in reversed(runs)]
    export = web.http.get(f"{PATH}/export?end=1")
    *lines, end = map(json.loads, export.text.splitlines())
    assert [line["id"] for line in lines] == [run["id"] for run in runs]
    assert end["end"]["count"] == 7
    assert len(expiries(site)) == 7
    assert all(abs(at - time.time() - DAYS_90_S) < 120 for at in expiries(site).values())
    assert archive(site, "SELECT count(*) FROM trajectories_phase") == [(7,)]
    assert waiting(site) == 0


def test_two_sites_on_one_redis_keep_their_runs_apart(make_site: Callable[..., Site]) -> None:
    one = make_site()
    other = make_site(REDIS_URL=one.redis.url)
    webs = [site.web() for site in (one, other)]
    for site in (one, other):
        site.worker(concurrency=1)
    runs = [bodies(4), bodies(4)]
    for web, own in zip(webs, runs, strict=True):
        post(web, ndjson(own))
    for site, web, own in zip((one, other), webs, runs, strict=True):
        expect_complete(site, web)
        assert listed(web) == [run["id"] for run in reversed(own)]
        exported = web.http.get(f"{PATH}/export").text.splitlines()
        assert [json.loads(line)["id"] for line in exported] == [run["id"] for run in own]


def expect_complete(site: Site, web: Web) -> None:
    """Wait until nothing is under way and the list says that it is complete."""
    wait_until(lambda: archived(site) and not waiting(site), what="the runs are in the archive")
    wait_until(lambda: web.http.get(PATH).json()["complete"], what="Redis is trusted")


def test_posting_a_file_again_changes_no_answer(site: Site) -> None:
    web = site.web()
    site.worker()
    runs = bodies(25)
    post(web, ndjson(runs))
    wait_until(lambda: archived(site) == 25 and not waiting(site), what="everything in the archive")
    before = everything(site, web)

    assert post(web, ndjson(runs))["accepted"] == 25
    wait_until(lambda: not waiting(site), what="the repeats are confirmed")
    assert everything(site, web) == before

    # Redis is down, and a new process remembers nothing.
    site.redis.stop()
    web.stop()
    web = site.web()
    assert post(web, ndjson(runs))["accepted"] == 25
    site.redis.start()
    wait_until(lambda: not waiting(site), what="the repeats are confirmed")
    assert everything(site, web) == before

    # A host that has never seen them.
    web.stop()
    other = site.web(TRAJECTORIES_OUTBOX_PATH=str(site.data_dir / "other.sqlite3"))
    assert {result["status"] for result in post(other, ndjson(runs))["results"]} == {201}
    wait_until(lambda: not waiting(site, "other.sqlite3"), what="the repeats are confirmed")
    assert everything(site, other) == before
    assert len(listed(other)) == 25


def test_a_worker_killed_in_the_middle_of_a_batch_loses_nothing_and_doubles_nothing(site: Site) -> None:
    site.environment["TRAJECTORIES_RESEND_AFTER_S"] = "1"
    web = site.web()
    worker = site.worker(concurrency=1)
    first, second = bodies(40), bodies(60)
    post(web, ndjson(first))
    wait_until(lambda: archived(site) == 40, what="the first runs are in the archive")
    with locked_archive(site):
        post(web, ndjson(second))
        # A worker writes to Redis first, so a batch in Redis is in progress: its worker waits for
        # the archive.
        wait_until(lambda: len(expiries(site)) > 40, what="a batch is under way")
        worker.kill()
    assert not worker.is_running
    shown, kept = len(listed(web)), archived(site)
    print(f"worker away: list {shown}, archive {kept}")
    assert (shown, kept) == (100, 40)

    site.worker()
    wait_until(lambda: archived(site) == 100 and not waiting(site), 60, "the rest is in the archive")
    print(f"worker back: list {len(listed(web))}, archive {archived(site)}")
    assert sorted(listed(web)) == sorted(run["id"] for run in first + second)
    doubled = "SELECT trajectory_id FROM trajectories_trajectory GROUP BY trajectory_id HAVING count(*) > 1"
    assert archive(site, doubled) == []
    assert archive(site, "SELECT count(*) FROM trajectories_phase") == [(100,)]


def test_a_process_lists_at_once_the_records_of_another_on_its_host(site: Site) -> None:
    one, other = site.web(), site.web()
    site.redis.stop()
    for number in range(1_000):
        writer, reader = (one, other) if number % 2 else (other, one)
        answer = writer.http.post(PATH, json=REFERENCE | {"request_summary": f"run {number}"})
        assert answer.status_code == 201, answer.text
        page = reader.http.get(PATH, params={"limit": 1}).json()
        assert page["data"][0]["id"] == answer.json()["id"], f"number {number} is missing"


def test_writes_go_on_and_reads_say_so_while_redis_is_away(site: Site) -> None:
    web = site.web()
    site.worker()
    runs = bodies(3)
    post(web, ndjson(runs[:1]))
    wait_until(lambda: archived(site) == 1, what="the run is in the archive")
    wait_until(lambda: web.http.get(PATH).json()["complete"], what="Redis is trusted")
    site.redis.stop()
    post(web, ndjson(runs[1:]))
    # A process polls the feed only once in a while.
    wait_until(lambda: not web.http.get(PATH).json()["complete"], what="Redis is missed")
    page = web.http.get(PATH).json()
    assert [record["id"] for record in page["data"]] == [run["id"] for run in reversed(runs)]
    assert page["complete"] is False
    assert "redis" not in page["tiers"]
    site.redis.start()
    wait_until(lambda: archived(site) == 3, 60, "what was written meanwhile is in the archive")
    wait_until(lambda: web.http.get(PATH).json()["complete"], what="the feed is followed again")


@pytest.mark.skipif(not SOAR.exists(), reason="the real runs are not beside this checkout")
def test_real_runs_are_counted_as_their_makers_counted_them(site: Site) -> None:
    web = site.web()
    site.worker()
    data = SOAR.read_bytes()
    assert post(web, data)["accepted"] == 244
    assert len(set(listed(web))) == 244
    stats = web.http.get(f"{PATH}/stats").json()
    assert (stats["count"], stats["phases"]["count"], stats["phases"]["outcomes"]["skipped"]) == (244, 1780, 328)
    assert stats["cost_usd"]["sum"] == 0.882611
    assert {group["cost_usd"]["mean"] for group in stats["by_phase"]} == {None}
    assert [group["model"] for group in stats["by_model"]] == [None]
    wait_until(lambda: archived(site) == 244, what="everything is in the archive")
    assert len(expiries(site)) == 244
    assert archive(site, "SELECT count(*) FROM trajectories_phase") == [(1780,)]
