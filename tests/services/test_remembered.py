"""A repeated question to stats, or how many records there are, is answered from memory, and as if it
were asked anew."""

from __future__ import annotations

import gc
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from tests.storage.hosts import EVERYTHING, QUICK, TENANT, WebProcess, new_id
from trajectories.conf import Settings
from trajectories.domain.query import parse_query
from trajectories.domain.stats import Summary
from trajectories.exceptions import Deleted
from trajectories.services import reads, remembered
from trajectories.services.read_shares import ReadShares
from trajectories.services.remembered import RememberedAnswers
from trajectories.storage import archive_reads, archive_writes

QUERIES = [EVERYTHING, parse_query({"project": "a"}, 0), parse_query({"tool": "grep"}, 0)]
VIEWS: tuple[tuple[str, str | None], ...] = (("checks", None), ("run_outcome", "day"))
IDS = [UUID(int=number) for number in range(1, 7)]
NO_SHARE = ReadShares(Settings(long_reads_per_tenant=0)).of("anyone")

steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["post", "post", "post", "post elsewhere", "delete", "persist", "persist", "settle", "nothing"]
        ),
        st.sampled_from(["host", "neighbour", "other host"]),
        st.sampled_from(IDS),
        st.sampled_from(["a", "b"]),
    ),
    min_size=5,
    max_size=14,
)


@pytest.mark.django_db(transaction=True)
@settings(
    max_examples=12,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=steps)
def test_an_answer_from_memory_is_always_that_of_a_new_question(
    steps: list[tuple[str, str, UUID, str]], redis_tier: Redis, tmp_path: Path
) -> None:
    tenant = f"tenant-{new_id().hex}"
    processes = {
        "host": WebProcess(tmp_path / "own", hot_max_records=2, **QUICK),
        "neighbour": WebProcess(tmp_path / "own", **QUICK),
        "other host": WebProcess(tmp_path / "other", hot_max_records=3, **QUICK),
    }
    for step, name, id_, project in steps:
        process = processes[name]
        if step.startswith("post"):
            with suppress(Deleted):
                process.record(tenant, id=str(id_), project=project)
        elif step == "delete" and id_ in process.ids(tenant=tenant):
            process.delete(id_, tenant=tenant)
        waiting = [row for row in process.waiting() if row.record.tenant == tenant]
        if step == "persist":
            process.persist(waiting[:2])
        elif step == "settle":
            archive_writes.mirror([row.record for row in waiting])
            process.settle(waiting)
        for one in processes.values():
            for query, (rule, bucket) in product(QUERIES, VIEWS):
                snapshot = one.hot.snapshot(tenant)
                expected = reads._summarized(one.store, tenant, snapshot, query, NO_SHARE, rule, bucket).json
                shown = one.stats(query, tenant=tenant, credit_rule=rule, bucket=bucket)
                assert shown == orjson.loads(expected)
                assert reads.count(one.store, tenant, query) == shown["count"]


@pytest.fixture
def host(db: None, tmp_path: Path) -> WebProcess:
    return WebProcess(tmp_path / "outbox", hot_max_records=2, **QUICK)


@pytest.fixture
def summaries(monkeypatch: pytest.MonkeyPatch) -> list[Summary]:
    """The summaries that were made."""
    made: list[Summary] = []
    as_json = Summary.as_json

    def noted(self: Summary, credit_rule: str) -> dict[str, Any]:
        made.append(self)
        return as_json(self, credit_rule)

    monkeypatch.setattr(Summary, "as_json", noted)
    return made


@pytest.mark.parametrize("count", [2, 5])
def test_a_repeated_question_is_not_computed_until_a_record_changes(
    host: WebProcess, summaries: list[Summary], count: int
) -> None:
    for _ in range(count):
        host.record()
    archive_writes.mirror([row.record for row in host.waiting()])
    host.settle(host.waiting())
    assert [host.stats()["count"] for _ in range(5)] == [count] * 5
    assert len(summaries) == 1
    host.record()
    assert host.stats()["count"] == count + 1
    assert len(summaries) == 2


@pytest.mark.parametrize("records", [2, 5])
def test_a_count_makes_no_groups(host: WebProcess, summaries: list[Summary], records: int) -> None:
    for _ in range(records):
        host.record()
    assert reads.count(host.store, TENANT, EVERYTHING) == records
    assert summaries == []


def test_each_tenant_and_each_question_has_an_answer_of_its_own(host: WebProcess, summaries: list[Summary]) -> None:
    host.record("alice", project="a")
    host.record("bob", project="b")
    for _ in range(2):
        assert [host.stats(query, tenant="alice")["count"] for query in QUERIES[:2]] == [1, 1]
        assert [host.stats(query, tenant="bob")["count"] for query in QUERIES[:2]] == [1, 0]
    assert len(summaries) == 4


def test_the_memory_of_answers_is_bounded(host: WebProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    host.record()
    answers = host.store.part(RememberedAnswers)
    monkeypatch.setattr(remembered, "MAX_BYTES", 40_000)
    for number in range(50):
        host.stats(parse_query({"project": f"project {number}"}, 0))
    assert 30_000 < answers.size <= 40_000
    assert answers.size == sum(remembered._size(answer) for answer, _ in answers._answers.values())


def test_an_answer_larger_than_the_memory_is_not_remembered(host: WebProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "MAX_BYTES", 10)
    assert [host.stats()["count"] for _ in range(2)] == [0, 0]
    assert host.store.part(RememberedAnswers).size == 0


def test_an_erasure_in_progress_changes_the_version_of_the_archive(host: WebProcess) -> None:
    for _ in range(3):
        host.record()
    archive_writes.mirror([row.record for row in host.waiting()])
    before = archive_reads.last_changed("alice")
    archive_writes.erase_some("alice", 1)
    assert archive_reads.last_changed("alice") != before


@pytest.mark.parametrize("count", [1, 5])
def test_answers_are_dropped_with_the_records_that_they_were_made_from(host: WebProcess, count: int) -> None:
    first, *_ = [host.record() for _ in range(count)]
    archive_writes.mirror([row.record for row in host.waiting()])
    host.settle(host.waiting())
    for query in QUERIES:
        host.stats(query)
    answers = host.store.part(RememberedAnswers)
    assert len(answers) == len(QUERIES)
    host.record(id=str(first.id), project="another")
    host.record()
    host.hot.snapshot("alice")
    gc.collect()  # errors of the Redis that is not there hold the frames of earlier reads
    assert (len(answers), answers.size) == (0, 0)
