"""Health and metrics, of one process and of several."""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import Settings

from tests.api.client import PATH, error, posted
from tests.examples import REFERENCE, body
from tests.processes import Site, Web, wait_until
from tests.storage.hosts import draft, new_id, taken
from trajectories.storage.outbox import Outbox
from trajectories.storage.store import get_store

SECRET = "a long enough secret"


def numbers(text: str) -> dict[str, float]:
    """Samples by name, those with labels added up."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


def test_every_record_of_an_outbox_is_counted_in_one_state() -> None:
    rows = [taken(get_store().outbox.append([draft(new_id())]))[0].row.n for _ in range(5)]
    get_store().outbox.settle(rows[:2], rows[2:3])
    get_store().outbox.settle(rows[:2])  # another relay, a moment later
    get_store().outbox.prune(2**62)
    get_store().outbox.count_sent(5, is_again=False)
    get_store().outbox.count_sent(2, is_again=True)
    counts = get_store().outbox.counts()
    assert counts[:7] == (5, 5, 2, 2, 1, 0, 2)
    assert counts.oldest_waiting_us
    assert counts.max_bytes > counts.bytes > 0


def test_a_file_of_the_previous_release_is_adopted_with_its_counts(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite3"
    old = Outbox(str(path), synchronous="NORMAL", max_bytes=2**30)
    rows = [taken(old.append([draft(new_id())]))[0].row.n for _ in range(6)]
    old.settle(rows[:3], rows[3:4])
    old.prune(2**62)
    with closing(sqlite3.connect(path)) as db:
        db.executescript(
            "DROP TRIGGER rows_confirmed; DROP TRIGGER rows_quarantined; PRAGMA user_version = 0;"
            "DELETE FROM numbers WHERE name NOT IN ('last_stamp', 'pruned_n', 'quarantines')"
        )
    counts = Outbox(str(path), synchronous="NORMAL", max_bytes=2**30).counts()
    assert (counts.acknowledged, counts.confirmed, counts.quarantined, counts.waiting) == (6, 3, 1, 2)


def test_metrics_are_served_to_clients_that_the_setting_names(client: Client, settings: Settings) -> None:
    error(client.get("/metrics"), 404, "not_found")
    settings.TRAJECTORIES |= {"METRICS_ACCESS": SECRET}
    error(client.get("/metrics"), 401, "invalid_api_key")
    error(client.get("/metrics", headers={"Authorization": "Bearer wrong"}), 401, "invalid_api_key")
    assert client.get("/metrics", headers={"Authorization": f"Bearer {SECRET}"}).status_code == 200
    settings.TRAJECTORIES |= {"METRICS_ACCESS": "open"}
    answer = client.get("/metrics")
    assert answer["Content-Type"].startswith("text/plain")
    error(client.post("/metrics"), 405, "method_not_allowed")


@pytest.mark.django_db
def test_metrics_count_accepted_records_and_their_time(north: Client, settings: Settings) -> None:
    settings.TRAJECTORIES |= {"METRICS_ACCESS": "open"}
    before = numbers(north.get("/metrics").content.decode())
    posted(north, body())
    after = numbers(north.get("/metrics").content.decode())
    assert after["trajectories_acknowledged_total"] - before["trajectories_acknowledged_total"] == 1
    assert after["trajectories_outbox_waiting"] == 1
    assert after["trajectories_request_seconds_count"] - before.get("trajectories_request_seconds_count", 0) == 1


def test_it_is_ready_with_nothing_but_its_outbox_and_says_why_it_is_not(
    client: Client, settings: Settings, tmp_path: Path
) -> None:
    for accept in ("text/html", "nonsense", "application/rss+xml"):
        live, ready = (client.get(f"/health/{name}", headers={"Accept": accept}) for name in ("live", "ready"))
        assert (live.status_code, live.json()) == (200, {})
        assert (ready.status_code, ready.json()) == (200, {"TakesWrites()": "OK"})
    probed_at = "SELECT value FROM numbers WHERE name = 'probed_at'"
    before = get_store().outbox._file.read(probed_at)
    assert client.get("/health/ready").status_code == 200
    assert get_store().outbox._file.read(probed_at) == before, "the outbox was probed a moment ago"
    settings.TRAJECTORIES |= {"OUTBOX_MAX_BYTES": 2**19}
    answer = client.get("/health/ready")
    assert (answer.status_code, answer["Retry-After"]) == (503, "1")
    assert "full" in answer.json()["TakesWrites()"]
    assert client.get("/health/live").status_code == 200


def test_an_outbox_that_cannot_be_checked_is_not_ready_and_the_reason_is_in_the_log(
    client: Client, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.TRAJECTORIES = {}
    answer = client.get("/health/ready")
    assert (answer.status_code, answer.json()) == (503, {"TakesWrites()": "Unknown Error: unknown error"})
    assert "OUTBOX_PATH" in caplog.text


def scraped(web: Web) -> dict[str, float]:
    answer = web.http.get("/metrics")
    assert answer.status_code == 200, answer.text
    return numbers(answer.text)


def test_any_process_reports_the_metrics_of_all_even_after_a_kill(site: Site) -> None:
    site.environment["TRAJECTORIES_METRICS_ACCESS"] = "open"
    web = site.web(workers=2)
    for _ in range(40):
        assert web.http.post(PATH, json=REFERENCE).status_code == 201
    for _ in range(10):
        found = scraped(web)
        assert found["trajectories_acknowledged_total"] == found["trajectories_outbox_waiting"] == 40
        assert found["trajectories_request_seconds_count"] == 40
    children: Any = Path(f"/proc/{web.pid}/task/{web.pid}/children")
    before = children.read_text().split()
    os.kill(int(before[0]), signal.SIGKILL)
    wait_until(lambda: before[0] not in children.read_text().split() and len(children.read_text().split()) == 2)
    wait_until(lambda: web.http.get("/health/ready").is_success)
    found = scraped(web)
    assert found["trajectories_acknowledged_total"] == found["trajectories_request_seconds_count"] == 40
    site.redis.stop()
    assert web.http.get("/health/ready").json() == {"TakesWrites()": "OK"}
