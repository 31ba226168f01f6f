"""Late outcomes: durable at once, stored once, and the same on every host whatever came first."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from tests.examples import phase
from tests.storage.away import archive_away
from tests.storage.hosts import TENANT, WebProcess, new_id, stored_outcomes
from tests.strategies import examples
from trajectories import persistence
from trajectories.domain import answers
from trajectories.domain.query import parse_query
from trajectories.domain.record import Record
from trajectories.exceptions import (
    Deleted,
    IdempotencyConflict,
    InvalidInput,
    NotFound,
    TooLarge,
    TooManyOutcomes,
)
from trajectories.models import LateOutcome, Quarantined, Reference, RunOutcome, Trajectory
from trajectories.services import erasure, erasure_audit, outcomes
from trajectories.storage import archive_outcomes, archive_reads, archive_writes
from trajectories.storage.archive_outcomes import fill_references, forget_waiting
from trajectories.storage.store import get_store

PULL = {"pull_request": "shop#12"}
TWO_PHASES = [
    phase(phase_id="1", phase_name="implement", model="m-1", fit="good_fit"),
    phase(phase_id="2", phase_name="test", model="m-2"),
]


# One host.


def test_an_outcome_is_shown_at_once_without_redis_and_survives_a_restart(
    db: None, own: WebProcess, beside: WebProcess
) -> None:
    id_ = own.record().id
    own.list()
    own.outcome(id_, name="merged")
    assert own.outcomes(id_) == beside.outcomes(id_) == ["merged"]
    own.restart()
    assert own.outcomes(id_) == ["merged"]
    shown = orjson.loads(own.listed()[0])
    assert [one["value"] for one in shown["outcomes"]] == [True]
    assert shown["revision"] == own.retrieve(id_).revision


def test_an_outcome_is_accepted_while_the_archive_is_away(db: None, own: WebProcess) -> None:
    id_ = own.record().id
    with archive_away():
        assert own.outcome(id_).is_new


def test_a_record_without_outcomes_is_shown_as_before(db: None, own: WebProcess) -> None:
    own.record()
    assert b"outcomes" not in b"".join(own.listed()).replace(b"late_outcomes", b"")


def test_an_outcome_has_the_source_of_the_key_and_no_other(db: None, own: WebProcess) -> None:
    id_ = own.record().id
    assert orjson.loads(own.outcome(id_, source="ci").body)["source"] == "ci"
    assert "source" not in orjson.loads(own.outcome(id_, name="other").body)
    with pytest.raises(InvalidInput, match="API key"):
        outcomes.record(
            own.store, TENANT, b'{"name":"merged","value":true,"source":"me"}', source="ci", trajectory_id=id_
        )


def test_the_same_outcome_is_stored_once(db: None, own: WebProcess) -> None:
    id_ = own.record().id
    assert [own.outcome(id_, key="k").is_new, own.outcome(id_, key="k").is_new] == [True, False]
    assert [own.outcome(id_, name="ci").is_new, own.outcome(id_, name="ci").is_new] == [True, False]
    assert own.outcome(id_, name="ci", at="2026-01-05T10:00:00Z").is_new, "another time is another outcome"
    assert own.outcomes(id_) == ["merged", "ci", "ci"]


def test_a_key_of_another_outcome_is_a_conflict_even_without_its_row(
    archive_db: str, redis_tier: Redis, own: WebProcess
) -> None:
    id_ = own.record().id
    own.outcome(id_, key="k")
    with pytest.raises(IdempotencyConflict):
        own.outcome(id_, key="k", value=False)
    own.persist()
    own.outbox.prune(own.store.now_us())
    own.list()
    with pytest.raises(IdempotencyConflict):
        own.outcome(id_, key="k", value=False)
    assert not own.outcome(id_, key="k").is_new
    own.persist()
    assert own.outcomes(id_) == ["merged"]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"name": "fit", "value": True}, ""),
        ({"name": "merged", "value": "good_fit"}, ""),
        ({"value": 1e10}, "value"),
        ({"name": ""}, "name"),
        ({"unknown": 1}, "unknown"),
    ],
    ids=["fit without a word", "a word for another name", "a number too large", "no name", "an unknown key"],
)
def test_an_invalid_outcome_is_refused_with_its_place(
    db: None, own: WebProcess, fields: dict[str, Any], path: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        own.outcome(new_id(), **fields)
    assert path in [problem.path for problem in refused.value.details]


def test_an_outcome_without_a_target_or_too_large_is_refused(db: None, own: WebProcess) -> None:
    with pytest.raises(InvalidInput, match="trajectory_id"):
        outcomes.record(own.store, TENANT, b'{"name":"merged","value":true}', source=None)
    with pytest.raises(TooLarge):
        own.outcome(new_id(), evidence={"log": "x" * 20_000})


def test_a_target_has_no_more_outcomes_than_the_setting_says(
    archive_db: str, redis_tier: Redis, own: WebProcess, other_host: WebProcess, settings: Any
) -> None:
    settings.TRAJECTORIES |= {"OUTCOMES_PER_TARGET": 2}
    for process in (own, other_host):
        object.__setattr__(process.conf, "outcomes_per_target", 2)
    id_ = own.record().id
    for process, name in ((own, "a"), (own, "b"), (other_host, "c")):
        process.outcome(id_, name=name)
    with pytest.raises(TooManyOutcomes, match="2"):
        own.outcome(id_, name="d")
    own.persist()
    other_host.persist()
    assert own.outcomes(id_) == stored_outcomes(id_) == ["a", "b"]
    assert Quarantined.objects.count() == 1
    assert not other_host.waiting(), "the refused one is settled"


def test_credentials_in_evidence_are_replaced(db: None, own: WebProcess) -> None:
    accepted = own.outcome(new_id(), evidence={"log": "ghp_" + "a" * 36})
    assert orjson.loads(accepted.body)["evidence"] == {"log": "[redacted:github-token]"}


def test_an_outcome_waits_for_its_run(archive_db: str, redis_tier: Redis, own: WebProcess) -> None:
    id_ = new_id()
    own.outcome(id_)
    with pytest.raises(NotFound):
        own.retrieve(id_)
    own.persist()
    with pytest.raises(NotFound):
        own.retrieve(id_)
    own.record(id=str(id_))
    own.persist()
    assert own.outcomes(id_) == stored_outcomes(id_) == ["merged"]


def test_an_outcome_of_a_reference_is_one_of_each_run_that_names_it(
    archive_db: str, redis_tier: Redis, own: WebProcess
) -> None:
    before = own.record(external_refs=PULL).id
    own.persist()
    own.outcome(PULL, name="merged")
    own.outcome({"session_id": "s"}, name="liked")
    own.persist()
    after = own.record(external_refs=PULL, session_id="s").id
    other = own.record(external_refs={"pull_request": "shop#13"}).id
    own.persist()
    assert [own.outcomes(id_) for id_ in (before, after, other)] == [["merged"], ["merged", "liked"], []]
    # The outcomes follow the references that the run has now.
    own.update(before, external_refs={"pull_request": None})
    own.persist()
    assert own.outcomes(before) == []
    own.update(before, external_refs=PULL)
    own.persist()
    assert own.outcomes(before) == ["merged"]


# Several hosts.


def test_hosts_that_append_different_outcomes_keep_both(
    archive_db: str, redis_tier: Redis, own: WebProcess, other_host: WebProcess
) -> None:
    persistence.rebuild(get_store())
    id_ = own.record().id
    own.persist()
    assert other_host.outcomes(id_) == []
    own.outcome(id_, name="merged")
    other_host.outcome(id_, name="liked")
    other_host.update(id_, project="p")
    own.persist()
    other_host.persist()
    assert own.outcomes(id_) == other_host.outcomes(id_) == stored_outcomes(id_) == ["merged", "liked"]
    assert own.listed() == other_host.listed()


def test_an_outcome_of_two_hosts_is_stored_once(
    archive_db: str, redis_tier: Redis, own: WebProcess, other_host: WebProcess
) -> None:
    persistence.rebuild(get_store())
    id_ = own.record().id
    own.persist()
    for process in (own, other_host):
        process.outcome(id_, key="k")
    other_host.persist()
    own.persist()
    assert LateOutcome.objects.count() == 1
    assert own.listed() == other_host.listed()


@pytest.mark.parametrize("by", ["id", "reference"])
def test_a_worker_that_ends_before_redis_has_the_outcome_is_completed(
    archive_db: str, redis_tier: Redis, own: WebProcess, other_host: WebProcess, by: str
) -> None:
    persistence.rebuild(get_store())
    id_ = own.record(external_refs=PULL).id
    own.persist()
    assert other_host.outcomes(id_) == []
    own.outcome(id_ if by == "id" else PULL)
    waiting = own.waiting()
    own.store.redis_tier.open_batch([(TENANT, row.record.id) for row in waiting])
    archive_writes.mirror([row.record for row in waiting])
    object.__setattr__(own.conf, "settle_after_s", 0.0)
    assert persistence.settle(own.store) == 1
    own.settle(waiting)
    assert not own.waiting()
    assert own.outcomes(id_) == other_host.outcomes(id_) == ["merged"]


STEPS = st.lists(
    st.tuples(
        st.sampled_from([0, 1]),
        st.one_of(
            st.tuples(st.just("run"), st.sampled_from([0, 1]), st.booleans()),
            st.tuples(st.just("outcome"), st.sampled_from([0, 1, 2]), st.sampled_from(["a", "b"])),
            st.tuples(st.just("persist"), st.booleans(), st.none()),
        ),
    ),
    max_size=12,
)


@given(steps=STEPS)
@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_host_shows_the_outcomes_of_a_runs_references_in_any_order(
    db: None, redis_tier: Redis, own: WebProcess, other_host: WebProcess, steps: list[Any]
) -> None:
    hosts = own, other_host
    names = {reference: f"{new_id()}" for reference in ("project", "pull")}
    ids = [new_id(), new_id()]
    pull = {"pull_request": names["pull"]}
    if not own.store.redis_tier.is_trusted():
        persistence.rebuild(get_store())
    last: dict[int, bool] = {}
    given_outcomes: set[tuple[int, str]] = set()
    for at, (kind, what, more) in steps:
        if kind == "run":
            hosts[at].record(id=str(ids[what]), project=names["project"], external_refs=pull if more else {"x": "y"})
            last[what] = more
        elif kind == "outcome":
            hosts[at].outcome(pull if what == 2 else ids[what], name=more)
            given_outcomes.add((what, more))
        else:
            rows = hosts[at].waiting()
            hosts[at].persist(rows[::-1] if what else rows)
    for host in (*hosts, *hosts):
        host.persist()
    query = parse_query({"project": names["project"]}, 0)
    expected = {
        ids[run]: sorted(name for target, name in given_outcomes if target == run or (target == 2 and has_pull))
        for run, has_pull in last.items()
    }
    for host in hosts:
        assert {id_: sorted(host.outcomes(id_)) for id_ in host.ids(query)} == expected
        assert {id_: sorted(stored_outcomes(id_)) for id_ in expected} == expected
        counts = {one["name"]: one["count"] for one in host.stats(query)["late_outcomes"]}
        wanted = [name for of_run in expected.values() for name in of_run]
        assert counts == {name: wanted.count(name) for name in set(wanted)}
    assert own.listed(query) == other_host.listed(query)


# Stats.


def reported(process: WebProcess, **given: str) -> dict[str, Any]:
    found = process.stats(parse_query(given, 0))
    return {name: found[name] for name in ("late_outcomes", "late_outcomes_by_phase_model", "by_model")}


def test_stats_count_outcomes_by_name_phase_and_model_alike_in_every_tier(
    archive_db: str, redis_tier: Redis, own: WebProcess, tmp_path: Any
) -> None:
    skipped = phase(phase_id="3", phase_name="docs", model="m-3", outcome="skipped")
    for number in range(3):
        id_ = own.record(project="p", phases=[*TWO_PHASES, skipped]).id
        own.outcome(id_, name="merged", value=number > 0)
        own.outcome(id_, name="score", value=number / 4, phase_id="1")
        own.outcome(id_, name="fit", value="underpowered", phase_id="2")
        own.outcome(id_, name="lost", phase_id="no such phase")
    hot = reported(own, project="p")
    own.persist()
    # The hot cache holds one record, so the archive counts the others.
    small = WebProcess(tmp_path / "small", feed_poll_s=0.0, hot_max_records=1)
    assert reported(own, project="p") == reported(small, project="p") == hot
    by_name = {one["name"]: one for one in hot["late_outcomes"]}
    assert by_name["merged"]["rate"] | {"low": 0, "high": 0} == {"known": 3, "rate": 2 / 3, "low": 0, "high": 0}
    assert (by_name["score"]["mean"], by_name["score"]["numbers"]) == (0.25, 3)
    assert by_name["fit"]["fits"]["underpowered"] == 3
    assert by_name["lost"]["count"] == 3
    by_phase = {(one["name"], one["phase"], one["model"]): one["count"] for one in hot["late_outcomes_by_phase_model"]}
    assert by_phase == {
        ("merged", "implement", "m-1"): 3,
        ("merged", "test", "m-2"): 3,
        ("score", "implement", "m-1"): 3,
        ("fit", "test", "m-2"): 3,
    }
    recorded = {one["model"]: one["fits"]["good_fit"] for one in hot["by_model"]}
    assert recorded == {"m-1": 3, "m-2": 0, "m-3": 0}
    own.outcome(id_, name="late")
    small_again = WebProcess(tmp_path / "small_again", feed_poll_s=0.0, hot_max_records=1)
    own.persist()
    assert reported(small_again, project="p")["late_outcomes"][-1]["name"] == "late", "a kept answer is not repeated"


# Deletion and erasure.


def test_a_deletion_takes_outcomes_along_and_refuses_later_ones(
    archive_db: str, redis_tier: Redis, own: WebProcess, other_host: WebProcess
) -> None:
    persistence.rebuild(get_store())
    id_ = own.record(external_refs=PULL).id
    own.outcome(id_, name="a")
    own.outcome(PULL, name="b")
    own.persist()
    other_host.outcome(id_, name="c")
    own.delete(id_)
    with pytest.raises(Deleted):
        own.outcome(id_, name="d")
    other_host.persist()
    assert {row.kind for row in other_host.waiting()} == {"tombstone"}, "the outcome is settled"
    with pytest.raises(Deleted):
        other_host.outcome(id_, name="e")
    for model in (LateOutcome, Reference, RunOutcome):
        assert not model._default_manager.exists()


def test_outcomes_of_a_reference_stay_while_another_run_has_it(
    archive_db: str, redis_tier: Redis, own: WebProcess
) -> None:
    first, second = (own.record(external_refs=PULL).id for _ in range(2))
    own.outcome(PULL)
    own.persist()
    own.delete(first)
    own.persist()
    assert own.outcomes(second) == stored_outcomes(second) == ["merged"]


def test_an_erased_tenant_leaves_no_outcome(
    archive_db: str, redis_tier: Redis, celery_broker: str, own: WebProcess
) -> None:
    id_ = own.record(external_refs=PULL).id
    own.outcome(id_)
    own.outcome(PULL, name="b")
    own.persist()
    own.outcome(PULL, name="waits")
    erasure.erase(own.store, TENANT, timeout_s=5)
    traces = erasure_audit.find_traces(own.store, TENANT, [str(id_).encode(), b"waits"])
    assert [trace for trace in traces if trace.found and trace.unit != "places"] == []
    with pytest.raises(Deleted):
        own.outcome(id_, name="again")


def test_an_outcome_whose_run_never_comes_is_forgotten(db: None, redis_tier: Redis, own: WebProcess) -> None:
    id_ = own.record(external_refs=PULL).id
    own.outcome(id_, name="a")
    own.outcome(PULL, name="b")
    own.outcome(new_id(), name="c")
    own.persist()
    assert forget_waiting(own.store.now_us(), 10) == 1
    assert forget_waiting(own.store.now_us(), 10) == 0
    assert own.outcomes(id_) == ["a", "b"]


def test_the_references_of_runs_of_an_earlier_release_are_filled(
    archive_db: str, redis_tier: Redis, own: WebProcess
) -> None:
    id_ = own.record(external_refs=PULL, session_id="s").id
    own.persist()
    Reference.objects.all().delete()
    assert fill_references(Trajectory, Reference, archive_db) == 2
    fill_references(Trajectory, Reference, archive_db)
    own.outcome(PULL)
    own.persist()
    assert own.outcomes(id_) == ["merged"]


def test_redis_keeps_the_outcomes_when_a_later_version_comes(
    archive_db: str, redis_tier: Redis, own: WebProcess
) -> None:
    id_ = own.record().id
    own.outcome(id_)
    own.persist()
    own.update(id_, project="p")
    own.persist()
    found = own.store.redis_tier.find(TENANT, id_)
    assert isinstance(found, Record)
    assert [one["name"] for one in answers.outcomes_of(found)] == ["merged"]
    assert found == archive_reads.find(TENANT, id_)


def test_a_run_gets_a_bounded_part_of_the_outcomes_of_its_references(
    archive_db: str, redis_tier: Redis, own: WebProcess
) -> None:
    for name in "abcdef":
        own.outcome(PULL, name=name, evidence={"log": "x" * 8_000})
    one = own.record(external_refs=PULL).id
    own.outcome(one, name="own", evidence={"log": "x" * 15_000})
    own.persist()
    assert own.outcomes(one) == stored_outcomes(one) == ["a", "b", "c", "own"]
    # Not more with other references either: a run keeps the outcomes of those that it had.
    own.outcome({"session_id": "s"}, name="g", evidence={"log": "x" * 8_000})
    own.update(one, session_id="s", external_refs=None)
    own.persist()
    row = Trajectory.objects.get(trajectory_id=one)
    assert len(row.outcomes) < archive_outcomes.MAX_REFERRED_CHARS + 16_384
