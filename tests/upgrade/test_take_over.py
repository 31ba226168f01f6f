"""The present code takes over the data directory of an earlier revision, with its own web server,
worker and Redis."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from tests.processes import Access, Site, Web, wait_until
from tests.upgrade.fixture import DATABASE, OUTBOX, Expected, unpack
from trajectories.storage.outbox import Outbox
from trajectory_site import servers

PATH = "/v1/agent/trajectories"
# The files get older every day; their records must not have expired when they are taken over.
_FOR_EVER = str(1_000 * 365 * 24 * 3600)
_ENVIRONMENT = {
    "TRAJECTORIES_REDIS_TTL_S": _FOR_EVER,
    "TRAJECTORIES_TOMBSTONE_KEEP_S": _FOR_EVER,
    "TRAJECTORIES_KEY_OFFLINE_S": _FOR_EVER,
    "TRAJECTORIES_OUTBOX_KEEP_CONFIRMED_S": _FOR_EVER,
    "TRAJECTORIES_METRICS_ACCESS": "open",
}


@dataclass(frozen=True, slots=True)
class TakenOver:
    """The site on these files, at work; what waited is archived."""

    site: Site
    web: Web
    expected: Expected


@pytest.fixture(scope="module")
def taken_over(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TakenOver]:
    data_dir = tmp_path_factory.mktemp("taken_over")
    expected = unpack(data_dir, DATABASE, OUTBOX)
    site = Site.around(data_dir, _ENVIRONMENT, Access(expected.tenant, expected.api_key))
    try:
        site.manage("migrate", "--no-input")
        web, _ = site.web(), site.worker()
        wait_until(lambda: not row_states(data_dir / OUTBOX)["waiting"], 60, "what waited is archived")
        wait_until(lambda: web.http.get(PATH).json()["complete"], 60, "Redis is rebuilt")
        yield TakenOver(site, web, expected)
    finally:
        site.close()


def row_states(path: Path) -> Counter[str]:
    with closing(sqlite3.connect(path, timeout=20)) as db:
        return Counter(state for (state,) in db.execute("SELECT state FROM rows"))


_ADDED = re.compile(r',"derived":\{"outcome":.*\}$')


def records(texts: Sequence[str]) -> dict[str, str]:
    """Records as they were sent, by id; each once, without what only the present code adds at the
    end."""
    by_id = {json.loads(text)["id"]: re.sub(_ADDED, "}", text) for text in texts}
    assert len(by_id) == len(texts), "an id is there twice"
    return by_id


def listed(answer: str) -> dict[str, str]:
    """The records of an answer to list, newest first.

    Made of the objects as they stand, not parsed and written anew.
    """
    start, end = len('{"data":['), answer.rindex('],"next_cursor":')
    decoder, texts = json.JSONDecoder(), []
    while start < end:
        _, after = decoder.raw_decode(answer, start)
        texts.append(answer[start:after])
        start = after + 1
    return records(texts)


def exported(answer: str) -> dict[str, str]:
    """The records of an export that has an end."""
    *lines, end = answer.splitlines()
    assert json.loads(end)["end"]["count"] == len(lines)
    return records(lines)


def get(web: Web, address: str = "", **parameters: str) -> str:
    answer = web.http.get(f"{PATH}{address}", params=parameters)
    assert answer.is_success, answer.text
    return str(answer.text)


def without(by_id: dict[str, str], *ids: str) -> list[tuple[str, str]]:
    return [(id_, text) for id_, text in by_id.items() if id_ not in ids]


def test_the_list_is_byte_for_byte_that_of_the_earlier_code(taken_over: TakenOver) -> None:
    expected = taken_over.expected
    # The one test of this module that changes anything replays this.
    assert without(listed(get(taken_over.web)), expected.quarantined) == without(listed(expected.listed))


def test_the_export_equals_the_earlier_code_s_and_the_waiting_rows_follow(taken_over: TakenOver) -> None:
    expected = taken_over.expected
    before, now = exported(expected.exported), exported(get(taken_over.web, "/export", end="1"))
    assert without(now, expected.revised, expected.quarantined, *expected.new) == without(before, expected.revised)
    assert [id_ for id_, _ in without(now, expected.quarantined)] == [*before, *expected.new]


def test_pending_records_are_archived_once_with_their_newest_body(taken_over: TakenOver) -> None:
    expected, shown = taken_over.expected, listed(taken_over.expected.listed)
    assert json.loads(shown[expected.replaced_while_waiting])["tests_passed"] is False
    assert json.loads(shown[expected.revised])["review_findings"] == 7
    archived = exported(get(taken_over.web, "/export", end="1"))
    in_redis = redis_bodies(taken_over.site)
    for id_ in (expected.revised, *expected.new):
        assert archived[id_] == shown[id_]
        assert in_redis[id_] == body_of(shown[id_])
    assert in_redis.keys() == archived.keys()


def redis_bodies(site: Site) -> dict[str, dict[str, Any]]:
    with site.redis.client() as client:
        keys = list(client.scan_iter("*:record:*"))
        bodies = [orjson.loads(client.hget(key, "body") or b"null") for key in keys]
    return {body["id"]: body for body in bodies if body is not None}


def body_of(text: str) -> dict[str, Any]:
    """Without the two fields that the server adds."""
    return {name: value for name, value in json.loads(text).items() if name not in ("recorded_at", "revision")}


def test_cursors_of_the_earlier_code_go_on_where_they_stood(taken_over: TakenOver) -> None:
    expected, web = taken_over.expected, taken_over.web
    page = listed(get(web, cursor=expected.cursor))
    assert without(page, expected.quarantined) == list(listed(expected.listed).items())[2:]
    *_, end = expected.exported.splitlines()
    added = exported(get(web, "/export", after=json.loads(end)["end"]["cursor"], end="1"))
    assert [id_ for id_, _ in without(added, expected.quarantined)] == expected.new


def test_the_counters_of_the_outbox_begin_where_the_earlier_code_stood(tmp_path: Path) -> None:
    expected = unpack(tmp_path, OUTBOX)
    counts = Outbox(str(tmp_path / OUTBOX), synchronous="FULL", max_bytes=1024**2).counts()
    assert (counts.acknowledged, counts.confirmed, counts.quarantined, counts.waiting) == (
        expected.acknowledged,
        expected.acknowledged - expected.waiting_rows - 1,
        1,
        expected.waiting_rows,
    )


def test_the_counters_of_the_outbox_agree_after_everything_was_archived(taken_over: TakenOver) -> None:
    told = metrics(taken_over.web)
    assert told["outbox_waiting"] == 0
    assert told["acknowledged_total"] >= taken_over.expected.acknowledged
    assert told["acknowledged_total"] == told["confirmed_total"] + told["quarantined_total"]
    assert told["quarantined_total"] == 1


def metrics(web: Web) -> dict[str, float]:
    lines = httpx2.get(f"{web.url}/metrics", trust_env=False).text.splitlines()
    pairs = (line.split() for line in lines if line.startswith("trajectories_") and "{" not in line)
    return {name.removeprefix("trajectories_"): float(value) for name, value in pairs}


def test_an_id_of_the_earlier_code_posted_again_is_answered_200_with_its_recorded_at(taken_over: TakenOver) -> None:
    before = exported(taken_over.expected.exported)
    id_, text = without(before, taken_over.expected.revised)[0]
    answer = taken_over.web.http.post(PATH, json=body_of(text))
    assert (answer.status_code, records([answer.text])) == (200, {id_: text})
    wait_until(lambda: not row_states(taken_over.site.data_dir / OUTBOX)["waiting"], what="the repeat is archived")
    assert exported(get(taken_over.web, "/export", end="1"))[id_] == text


def test_quarantined_rows_of_the_earlier_release_can_be_replayed(taken_over: TakenOver) -> None:
    refused = taken_over.expected.quarantined
    assert refused not in listed(taken_over.expected.listed)
    kept = "SELECT trajectory_id, attempts FROM trajectories_quarantined"
    with closing(sqlite3.connect(taken_over.site.data_dir / DATABASE, timeout=20)) as db:
        assert db.execute(kept).fetchall() == [(refused.replace("-", ""), 1)]
        assert taken_over.site.manage("replay_quarantine") == "1 replayed, 0 still refused.\n"
        assert db.execute(kept).fetchall() == []
    wait_until(lambda: refused in listed(get(taken_over.web)), what="other processes hear of it")
    assert json.loads(exported(get(taken_over.web, "/export", end="1"))[refused])["project"] == "odd"


def test_the_key_is_known_from_the_outbox_file_of_the_earlier_code_alone(taken_over: TakenOver, tmp_path: Path) -> None:
    unpack(tmp_path, OUTBOX)
    web = taken_over.site.web(
        DATABASE_URL=f"postgres://nobody@127.0.0.1:{servers.free_port()}/away",
        TRAJECTORIES_OUTBOX_PATH=str(tmp_path / OUTBOX),
        TRAJECTORIES_RELAY_IN_PROCESS="false",
    )
    answer = web.http.post(PATH, json={"request_summary": "x", "phases": []})
    assert answer.status_code == 201, answer.text
