"""List, retrieve and stats give the same answer from any tier."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from tests.examples import body
from tests.processes import wait_until
from tests.routing import ArchiveRouter
from tests.storage import reference
from tests.storage.away import archive_away
from tests.storage.hosts import EVERYTHING, QUICK, TENANT, Clock, WebProcess, made, new_id
from tests.storage.reference import Reference
from tests.strategies import examples
from trajectories import persistence
from trajectories.domain.clock import DAY_S, SECOND_US
from trajectories.domain.query import FILTERS, parse_query
from trajectories.domain.record import Position, Record, facets_of
from trajectories.services import ingest, reads
from trajectories.storage import archive_reads, rollup_reads
from trajectories.storage.archive_errors import ArchiveError
from trajectories.storage.archive_writes import mirror
from trajectories.storage.store import Store, get_store

SIZES = (3, 10, 10_000)

properties = settings(
    max_examples=examples(30),
    deadline=None,
    database=None,
    # Fixtures of one test serve all its examples: each takes a tenant of its own.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture
def clock() -> Clock:
    """A clock that starts a day ago and advances a second a call: nothing expires, no two stamps
    are equal."""
    return Clock((int(time.time()) - DAY_S) * SECOND_US)


class World:
    """A host with processes of several cache sizes, another host, and the expected answers."""

    def __init__(self, path: Path, tenant: str, clock: Clock, *, has_redis: bool) -> None:
        self.tenant = tenant
        self.has_redis = has_redis
        quick: dict[str, Any] = {"now_us": clock, "feed_poll_s": 0.0, "archive_retry_s": 0.0}
        self.processes = {size: WebProcess(path / "outbox", hot_max_records=size, **quick) for size in SIZES}
        self.largest = self.processes[max(SIZES)]
        self.other = WebProcess(path / "other", **quick)
        self.reference = Reference()

    def post(self, id_: UUID, fields: dict[str, Any]) -> None:
        if not self.has_redis:
            self.restart()  # without a feed, it learns about other hosts only by filling its cache
        self.largest.list(tenant=self.tenant, limit=1)
        self.reference.accept(self.largest.record(self.tenant, **fields | {"id": str(id_)}))

    def repeat(self, id_: UUID) -> None:
        if known := self.reference.standing().get(id_):
            self.post(id_, orjson.loads(known.body))

    def post_elsewhere(self, id_: UUID, fields: dict[str, Any]) -> None:
        """Post to the other host, which has never seen the records of this one, and persist at
        once."""
        self.other.record(self.tenant, **fields | {"id": str(id_)})
        self.persist(self.other, list(range(len(self.other.waiting()))))
        # The revision of a body depends on the versions seen before, so let every process see this
        # one.
        for process in self.processes.values():
            process.list(tenant=self.tenant, limit=1)

    def persist(self, process: WebProcess, places: list[int]) -> None:
        """Persist the waiting rows at ``places``, in that order."""
        waiting = [row for row in process.waiting() if row.record.tenant == self.tenant]
        rows = [waiting[place % len(waiting)] for place in places if waiting]
        if not rows:
            return
        if self.has_redis:
            process.persist(rows)
        else:
            mirror([row.record for row in rows])
            process.settle(rows)
        self.reference.archive([row.record for row in rows])

    def restart(self) -> None:
        for process in self.processes.values():
            process.restart()

    def check(self, given: dict[str, str], limit: int, view: Mapping[str, str]) -> None:
        """Check that every process answers as the reference does, byte for byte.

        Args:
            view: credit rule and bucket of the stats.
        """
        query = parse_query(given, now_us=0)
        expected = self.reference.listed(given), orjson.dumps(self.reference.stats(given, **view))
        totals = self.reference.totals(given)
        if not self.has_redis:
            self.restart()
        for size, process in self.processes.items():
            assert process.listed(query, tenant=self.tenant, limit=limit) == expected[0], size
            stats = process.stats(query, tenant=self.tenant, **view)
            assert orjson.dumps(stats) == expected[1], size
            assert stats["count"] == totals["count"]
            for name in ("cost_usd", "duration_ms", "input_tokens", "unattributed_cost_usd"):
                total = stats[name]["sum"]
                assert (None if total is None else float(total)) == totals[name]

    def recorded(self) -> list[int]:
        return sorted({version.recorded_at_us for version in self.reference.standing().values()})


STEPS = ("post", "post", "post", "repeat", "elsewhere", "persist", "persist", "persist", "check", "restart")
IDS = [UUID(int=number) for number in range(1, 9)]


def check(world: World, data: st.DataObject) -> None:
    query = data.draw(reference.queries(world.recorded()), label="query")
    world.check(query, data.draw(st.integers(1, 5)), data.draw(reference.views, label="view"))


def live(world: World, data: st.DataObject) -> None:
    """Run the steps that Hypothesis draws, and check during and after them."""
    for step in data.draw(st.lists(st.sampled_from(STEPS), min_size=6, max_size=30), label="steps"):
        if step in ("post", "elsewhere"):
            id_ = data.draw(st.sampled_from(IDS) | st.uuids(version=4))
            fields = data.draw(reference.bodies)
            (world.post if step == "post" else world.post_elsewhere)(id_, fields)
        elif step == "repeat":
            world.repeat(data.draw(st.sampled_from(IDS)))
        elif step == "persist":
            world.persist(world.largest, data.draw(st.lists(st.integers(0, 20), max_size=8), label="places"))
        elif step == "restart":
            world.restart()
        else:
            check(world, data)
    for persisted in (False, True):
        if persisted:
            world.persist(world.largest, list(range(len(world.largest.waiting()))))
        world.check({}, data.draw(st.integers(1, 5)), {"credit_rule": "checks", "bucket": "day"})
        for _ in range(3):
            check(world, data)


@pytest.fixture
def tenants() -> Iterator[str]:
    """A new tenant for each example, so that no example sees the records of another."""
    return (f"tenant-{new_id().hex}" for _ in iter(int, 1))


@properties
@given(data=st.data())
def test_list_and_stats_are_the_same_bytes_for_any_cache_size_and_the_archive(
    data: st.DataObject, archive_db: str, clock: Clock, tmp_path: Path, tenants: Iterator[str]
) -> None:
    tenant = next(tenants)
    live(World(tmp_path / tenant, tenant, clock, has_redis=False), data)


@properties
@given(data=st.data())
def test_list_and_stats_are_the_same_bytes_in_processes_that_follow_outbox_and_feed(
    data: st.DataObject,
    archive_db: str,
    clock: Clock,
    tmp_path: Path,
    tenants: Iterator[str],
    redis_tier: Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tenant = next(tenants)
    persistence.rebuild(get_store())  # from here on Redis is trusted, and stats come from roll-ups
    monkeypatch.setattr("trajectories.services.rolled_up.FEW", 1)
    # Roll-ups that do not cover a filter are used too, whatever part of the records it matches.
    monkeypatch.setattr("trajectories.services.rolled_up._SAMPLE_MIN", 0)
    monkeypatch.setattr("trajectories.services.rolled_up._MOST", -1)
    live(World(tmp_path / tenant, tenant, clock, has_redis=True), data)


# Roll-ups.


@pytest.fixture
def followed(archive_db: str, redis_tier: Redis, tmp_path: Path) -> tuple[WebProcess, WebProcess]:
    """A host that holds two records in memory, and another host; Redis is trusted."""
    persistence.rebuild(get_store())
    return WebProcess(tmp_path / "own", hot_max_records=2, **QUICK), WebProcess(tmp_path / "other", **QUICK)


def test_stats_come_from_roll_ups_where_these_cover_the_filters(followed: tuple[WebProcess, WebProcess]) -> None:
    own, _ = followed
    for _ in range(4):
        own.record(project="p")
    own.persist()
    for filters, way in [({}, "rollups"), ({"project": "p"}, "rollups"), ({"tag": "none"}, "records")]:
        window = own.window(parse_query(filters, 0))
        assert (window["computed_from"], window["tiers"], window["complete"]) == (
            way,
            ["hot", "redis", "archive"],
            True,
        )
    with archive_away():
        # The answer of before holds, since no record changed; another one is computed from records.
        window = own.window(parse_query({"source": "x"}, 0))
    assert (window["computed_from"], window["tiers"], window["complete"]) == ("records", ["hot", "redis"], False)


def test_a_filter_that_matches_most_records_subtracts_the_others_from_roll_ups(
    followed: tuple[WebProcess, WebProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trajectories.services.rolled_up._SAMPLE_MIN", 2)
    own, other = followed
    own.record(tags=["rare"])
    for _ in range(4):
        own.record(tags=["nightly"], project="p")
    own.persist()
    other.record(tags=["nightly"])
    own.record(tags=["nightly"])
    for filters, way, expected in [
        ({"tag": "nightly"}, "rollups", 5),
        ({"tag": "nightly", "project": "p"}, "records", 4),  # too few in the sample
        ({"tag": "rare"}, "records", 1),
    ]:
        query = parse_query(filters, 0)
        assert (own.window(query)["computed_from"], own.stats(query)["count"]) == (way, expected)


def test_a_waiting_version_takes_the_place_of_the_archived_one_where_the_others_are_subtracted(
    followed: tuple[WebProcess, WebProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trajectories.services.rolled_up._SAMPLE_MIN", 2)
    own, _ = followed
    first, second, *_ = [own.record(tags=["nightly"]) for _ in range(5)]
    own.persist()
    nightly = parse_query({"tag": "nightly"}, 0)
    for id_, tags, expected in [(first.id, ["nightly", "again"], 5), (second.id, [], 4)]:
        own.record(id=str(id_), tags=tags)
        assert (own.window(nightly)["computed_from"], own.stats(nightly)["count"]) == ("rollups", expected)


def test_stats_of_a_search_read_the_body_of_no_record(followed: tuple[WebProcess, WebProcess]) -> None:
    own, _ = followed
    for number in range(12):
        own.record(request_summary=f"Add authentication, part {number % 2}")
    own.persist()
    own.stats()
    with CaptureQueriesContext(connections[ArchiveRouter.alias]) as captured:
        assert own.stats(parse_query({"q": "authentication 1"}, 0))["count"] == 6
    assert captured.captured_queries
    assert not [query["sql"] for query in captured.captured_queries if "body" in query["sql"]]


def test_stats_of_few_records_come_from_memory(followed: tuple[WebProcess, WebProcess]) -> None:
    own, _ = followed
    own.record()
    assert own.window()["computed_from"] == "records"


def test_roll_ups_count_pending_rows_and_those_of_another_hosts_worker(
    followed: tuple[WebProcess, WebProcess],
) -> None:
    """Versions that the archive lacks, of new ids and of archived ones, and deletions."""
    own, other = followed
    first, second, third, *_ = [own.record(project="a") for _ in range(5)]
    own.persist()
    other.ids()

    def counts() -> tuple[str, dict[str, int]]:
        stats = own.stats()
        groups = {group["project"]: group["count"] for group in stats["by_project"]}
        assert own.stats(parse_query({"project": "b"}, 0))["count"] == groups.get("b", 0)
        return own.window()["computed_from"], groups

    own.record(id=str(first.id), project="b")
    own.record(project="b")
    assert counts() == ("rollups", {"a": 4, "b": 2})
    other.record(id=str(second.id), project="b")
    other.record(project="b")
    rows = other.waiting()
    with archive_away(), pytest.raises(ArchiveError):
        other.persist(rows)
    assert len(own.store.redis_tier.under_way(TENANT) or ()) == 2
    assert counts()[1]["b"] >= 3  # the revision is below what this host holds in memory
    # Another worker gives the batch up; the archive still lacks its records.
    persistence.settle(_settling(own.store))
    assert own.store.redis_tier.under_way(TENANT) == {row.record.id for row in rows}
    assert counts()[1]["b"] >= 3
    other.persist(rows)
    own.delete(third.id)
    own.persist()
    assert counts() == ("rollups", {"a": 2, "b": 4})


def _settling(store: Store) -> Store:
    """The store as a worker sees it that settles at once."""
    return Store(replace(store.conf, settle_after_s=0.0))


# Every filter by itself.


def recorded(count: int) -> list[Record]:
    """Records of which each filter matches some and not others."""
    made_of: list[dict[str, Any]] = []
    for number in range(count):

        def pick(values: Any, number: int = number) -> Any:
            return values[number % len(values)]

        phase = {
            "phase_name": pick(reference.PHASES),
            "model": pick(reference.MODELS),
            "model_selection_method": pick(reference.METHODS),
            "agent": pick(reference.NAMES),
            "tools_used": [pick(reference.TOOLS)],
            "cost_usd": pick(reference.COSTS),
            "fit": pick(["good_fit", "underpowered", "overprovisioned"]),
        }
        fields = {
            "request_summary": pick(reference.SUMMARIES),
            "phases": [phase],
            "request_type": pick(reference.NAMES),
            "source": pick(reference.NAMES[1:]),
            "project": pick(reference.NAMES[2:]),
            "outcome": pick(["success", "failure", "partial", "unknown"]),
            "build_passed": pick([True, False]),
            "tests_passed": pick([True, False, True]),
            "tags": [pick(reference.NAMES)],
            "started_at": pick(reference.TIMES),
            "total_duration_ms": pick(reference.DURATIONS),
            "policy": pick(reference.NAMES[:3]),
        }
        # Each field is unknown now and then.
        made_of.append(
            {name: value for place, (name, value) in enumerate(fields.items()) if place < 2 or (number + place) % 5}
        )
    return [made(new_id(), (number + 1) * SECOND_US, **fields) for number, fields in enumerate(made_of)]


@pytest.mark.parametrize("name", FILTERS)
def test_each_filter_takes_the_same_out_of_hot_cache_archive_and_reference(archive_db: str, name: str) -> None:
    records = recorded(60)
    mirror(records)
    whole = {record.id: reference.Version.of(record) for record in records}
    values = VALUES.get(name) or ["1970-01-01T00:00:30Z"]
    for text in values:
        query = parse_query({name: text}, now_us=0)
        expected = {id_ for id_, version in whole.items() if reference.matches({name: text}, version)}
        facets = {record.id: facets_of(record.body) for record in records}
        assert {r.id for r in records if query.matches(r.recorded_at_us, facets[r.id])} == expected
        assert {record.id for record in archive_reads.newest(TENANT, query, None, 1_000)} == expected
        for summary in (archive_reads.summary(TENANT, query, None), rollup_reads.summary_of(TENANT, query, [*whole])):
            assert summary.as_json()["count"] == len(expected)
    found = [len(archive_reads.newest(TENANT, parse_query({name: text}, now_us=0), None, 1_000)) for text in values]
    assert max(found) > 0
    assert min(found) < 60


VALUES: dict[str, list[str]] = {
    "project": reference.NAMES,
    "source": reference.NAMES,
    "request_type": reference.NAMES,
    "policy": reference.NAMES,
    "outcome": ["success", "failure", "partial", "unknown"],
    "phase": [*reference.PHASES, "implementation", "nothing"],
    "model": reference.MODELS,
    "selection_method": [*reference.METHODS, "OWN-way"],
    "agent": reference.NAMES,
    "tool": reference.TOOLS,
    "credited": ["success", "failure", "partial", "none"],
    "fit": ["good_fit", "underpowered", "overprovisioned", "failed"],
    "build_passed": ["true", "false"],
    "tests_passed": ["true", "false"],
    "tag": reference.NAMES,
    "started_since": reference.TIMES,
    "started_until": reference.TIMES,
    "min_cost_usd": ["0", "0.1", "0.100000001", "1e6", "1e30"],
    "max_cost_usd": ["0", "0.1", "1e6", "1e30"],
    "min_duration_ms": ["0", "0.001", "17500.5", "17500.501"],
    "max_duration_ms": ["0", "0.001", "17500.5"],
    "q": ["add", "LOGIN add", "strasse", "fix", "%", "_", "\\", "'", "  ", "nothing"],
}


# While everything moves.


@pytest.mark.parametrize("size", [5, 10_000])
def test_no_read_misses_or_doubles_a_record_during_writes_revisions_and_pruning(
    archive_db: str, redis_tier: Redis, tmp_path: Path, size: int
) -> None:
    process = WebProcess(tmp_path / "own", hot_max_records=size, feed_poll_s=0.0, archive_retry_s=0.0)
    acknowledged: list[UUID] = []
    reads_made: list[int] = []
    is_over = threading.Event()

    def write() -> None:
        for number in count():
            if number < 200:
                acknowledged.append(ingest.record(get_store(), TENANT, orjson.dumps(body(error=str(number)))).record.id)
            revised = acknowledged[number % len(acknowledged)]
            ingest.record(get_store(), TENANT, orjson.dumps(body(id=str(revised), error=f"revised {number}")))
            wait_until(
                lambda: is_over.is_set() or len(process.outbox.waiting(0, 60)) < 60, what="a worker that keeps up"
            )
            if is_over.is_set():
                return

    def persist() -> None:
        while not is_over.is_set():
            if rows := process.outbox.waiting(0, 7):
                persistence.persist(get_store(), [row.record for row in rows])
                # In parts, as batches are.
                process.settle(rows[3:])
                process.settle(rows[:3])
                if size > 200:  # otherwise the host forgets ids that are revised later
                    process.outbox.prune(2**62)

    def read() -> None:
        while not is_over.is_set():
            before = set(acknowledged)
            found: list[UUID] = []
            after: Position | None = None
            while True:
                page = reads.list_(get_store(), TENANT, EVERYTHING, after=after, limit=37)
                found += [record.id for record in page.records]
                after = page.next_position
                if after is None:
                    break
            assert len(found) == len(set(found))
            assert before <= set(found)
            low = len(acknowledged)
            counted = reads.stats(get_store(), TENANT, EVERYTHING)["count"]
            assert low <= counted <= len(acknowledged) + 1
            reads_made.append(counted)

    def run(work: Callable[[], None]) -> None:
        try:
            work()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        works = [pool.submit(run, work) for work in (write, persist, read, read)]
        try:
            wait_until(lambda: len(reads_made) >= 60 or any(work.done() for work in works), 120, "sixty reads")
        finally:
            is_over.set()
        for work in works:
            work.result(60)
    assert len(reads_made) >= 60
