"""Late outcomes that come before their run: every process of a host shows them with it at once."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from uuid import UUID

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from tests.storage.hosts import QUICK, WebProcess, new_id, stored_outcomes
from tests.strategies import examples
from trajectories import persistence
from trajectories.domain.record import Record
from trajectories.exceptions import (
    Deleted,
    NotFound,
    OutboxUnavailable,
)
from trajectories.services import outcomes
from trajectories.storage.outbox import Outbox
from trajectories.storage.store import get_store


def test_an_outcome_that_came_before_its_run_is_shown_with_it_at_once(
    db: None, own: WebProcess, beside: WebProcess
) -> None:
    id_, both = new_id(), (own, beside)
    for process in both:
        process.list()
        process.outcome(id_, name=f"of {len(process.waiting())}")
        process.list()
    own.record(id=str(id_))
    for process in both:
        assert process.outcomes(id_) == ["of 0", "of 1"]
        assert [one["name"] for one in orjson.loads(process.listed()[0])["outcomes"]] == ["of 0", "of 1"]
        assert [one["count"] for one in process.stats()["late_outcomes"]] == [1, 1]


def test_an_outcome_that_the_archive_has_is_shown_with_its_run_at_once(
    archive_db: str, redis_tier: Redis, own: WebProcess, beside: WebProcess
) -> None:
    id_ = new_id()
    own.list()
    own.outcome(id_)
    own.persist()
    own.record(id=str(id_))
    assert own.outcomes(id_) == beside.outcomes(id_) == ["merged"]
    own.persist()
    assert own.outcomes(id_) == beside.outcomes(id_) == stored_outcomes(id_) == ["merged"]


def test_a_refused_outcome_is_not_shown_with_a_run_that_comes_later(db: None, own: WebProcess) -> None:
    id_ = new_id()
    own.list()
    own.outcome(id_)
    own.outbox.settle([], quarantined=[row.n for row in own.waiting()])
    own.list()
    own.record(id=str(id_))
    own.restart()
    own.list()
    assert own.outcomes(id_) == []


def test_a_run_without_earlier_outcomes_costs_its_process_no_query(
    db: None, own: WebProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.list()
    id_ = own.record().id
    own.list()
    asked = list[Any]()
    read = Outbox.outcomes

    def noted(*args: Any) -> list[Record]:
        asked.append(args)
        return read(*args)

    monkeypatch.setattr(Outbox, "outcomes", noted)
    own.record()
    own.record(id=str(id_), project="p")
    assert not asked
    own.outcome(early := new_id())
    own.record(id=str(early))
    assert len(asked) == 1


def test_a_run_is_accepted_although_its_earlier_outcomes_cannot_be_read(
    db: None, own: WebProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.list()
    own.outcome(id_ := new_id())
    with monkeypatch.context() as patched:
        patched.setattr(Outbox, "outcomes", Mock(side_effect=OutboxUnavailable("locked")))
        own.record(id=str(id_))
    assert own.outcomes(id_) == ["merged"]


def test_a_run_below_the_hot_cache_is_listed_while_an_earlier_outcome_waits(
    archive_db: str, redis_tier: Redis, own: WebProcess, other_host: WebProcess
) -> None:
    id_ = new_id()
    own.outcome(id_)
    other_host.record(id=str(id_))
    newer = other_host.record().id
    other_host.persist()
    small = WebProcess(Path(own.conf.outbox_path), **QUICK, hot_max_records=1)
    assert small.ids() == [newer, id_]
    assert b'"merged"' in small.listed()[1]


RUNS = [0, 1, 2]
STEPS_OF_A_HOST = st.lists(
    st.tuples(
        st.sampled_from([0, 1]),
        st.one_of(
            st.tuples(st.just("run"), st.sampled_from(RUNS), st.text("ab", max_size=1)),
            st.tuples(st.just("outcome"), st.sampled_from(RUNS), st.sampled_from(["m", "n"])),
            st.tuples(st.just("outcomes"), st.lists(st.sampled_from(RUNS), min_size=1, max_size=4), st.none()),
            st.tuples(st.just("of the session"), st.none(), st.sampled_from(["m", "n"])),
            st.tuples(st.just("deletion"), st.sampled_from(RUNS), st.none()),
            st.tuples(st.just("read"), st.none(), st.none()),
            st.tuples(st.just("delivery"), st.integers(1, 3), st.none()),
        ),
    ),
    max_size=14,
)


def take_step(process: WebProcess, tenant: str, ids: list[UUID], kind: str, what: Any, more: Any) -> None:
    if kind == "run":
        process.record(tenant, id=str(ids[what]), request_summary=more, session_id="s")
    elif kind == "outcome":
        process.outcome(ids[what], tenant=tenant, name=more)
    elif kind == "outcomes":
        given = [{"name": f"o{at}", "value": at, "trajectory_id": str(ids[run])} for at, run in enumerate(what)]
        outcomes.record_many(process.store, tenant, map(orjson.dumps, given), source=None)
    elif kind == "of the session":
        process.outcome({"session_id": "s"}, tenant=tenant, name=more)
    elif kind == "deletion":
        process.delete(ids[what], tenant=tenant)
    elif kind == "read":
        process.list(tenant=tenant)
    else:
        process.persist(process.waiting()[:what])


@given(steps=STEPS_OF_A_HOST)
@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_process_of_a_host_shows_the_same_outcomes_as_one_that_starts(
    archive_db: str, redis_tier: Redis, own: WebProcess, steps: list[Any]
) -> None:
    path, tenant, ids = Path(own.conf.outbox_path), f"t{new_id()}", [new_id() for _ in RUNS]
    if not own.store.redis_tier.is_trusted():
        persistence.rebuild(get_store())
    # Two runs of three are in the hot cache of one of them.
    processes = own, WebProcess(path, **QUICK, hot_max_records=2)
    for process in processes:
        process.list(tenant=tenant)
    for at, step in steps:
        with suppress(NotFound, Deleted):
            take_step(processes[at], tenant, ids, *step)
    fresh = WebProcess(path, **QUICK)
    for process in processes:
        assert process.listed(tenant=tenant) == fresh.listed(tenant=tenant)
        assert process.stats(tenant=tenant) == fresh.stats(tenant=tenant)
