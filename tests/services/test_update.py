"""Updates: one result on every host, and none of a host's patches is lost."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytest_django import Settings
from redis import Redis

from tests.examples import body, phase
from tests.storage.away import archive_away
from tests.storage.hosts import QUICK, TENANT, WebProcess, draft, made, new_id, taken
from trajectories import persistence
from trajectories.domain import answers, patch
from trajectories.domain.record import ID_BYTES, Record
from trajectories.exceptions import (
    ArchiveUnavailable,
    Deleted,
    NotFound,
    PhasesDropped,
    RevisionMismatch,
    TooLarge,
    TooManyReads,
)
from trajectories.models import Trajectory
from trajectories.services import ingest, read_shares
from trajectories.services.ingest import Accepted
from trajectories.services.read_shares import ReadShares
from trajectories.storage import archive_reads
from trajectories.storage.archive_writes import mirror
from trajectories.storage.redis_tier import RedisError
from trajectories.storage.store import get_store

TWO_PHASES = [phase(phase_id="1"), phase(phase_name="test", phase_id="2")]


def fields_of(record: Record) -> dict[str, Any]:
    fields: dict[str, Any] = orjson.loads(record.body)
    return fields


# Where the newest version is found.


def test_a_record_that_waits_in_the_outbox_is_patched(db: None, own: WebProcess, beside: WebProcess) -> None:
    first = own.record(phases=TWO_PHASES)
    patched = beside.update(first.id, phases=[{"phase_id": "2", "outcome": "failure"}], tests_passed=False)
    assert fields_of(patched)["phases"] == [TWO_PHASES[0], TWO_PHASES[1] | {"outcome": "failure"}]
    assert fields_of(patched)["tests_passed"] is False
    assert patched.revision > first.revision
    assert patched.position == first.position
    assert own.retrieve(first.id) == beside.retrieve(first.id) == patched


def test_a_record_that_only_the_archive_has_is_patched(archive_db: str, own: WebProcess) -> None:
    stored = made(new_id(), 5, project="p")
    mirror([stored])
    patched = own.update(stored.id, outcome="success")
    assert (fields_of(patched)["project"], patched.position) == ("p", stored.position)
    own.restart()
    assert own.retrieve(stored.id) == patched


def test_a_version_of_another_host_that_this_one_has_not_followed_yet_is_patched(
    archive_db: str, redis_tier: Redis, own: WebProcess, other_host: WebProcess, tmp_path: Any
) -> None:
    persistence.rebuild(get_store())
    patient = WebProcess(tmp_path / "patient", **QUICK | {"feed_poll_s": 3_600.0})
    first = own.record(phases=TWO_PHASES)
    own.persist()
    assert patient.ids() == [first.id]
    other_host.update(first.id, tests_passed=True)
    other_host.persist()
    assert patient.retrieve(first.id) == first, "it follows later"
    assert fields_of(patient.update(first.id, project="p"))["tests_passed"] is True


def test_without_the_archive_an_unknown_id_is_not_said_to_be_missing(archive_db: str, own: WebProcess) -> None:
    known = own.record()
    with archive_away():
        own.restart()
        assert fields_of(own.update(known.id, project="p"))["project"] == "p"
        with pytest.raises(ArchiveUnavailable):
            own.update(new_id(), project="p")
    with pytest.raises(NotFound):
        own.update(new_id(), project="p")


# Versions.


def test_a_repeated_patch_is_the_same_revision_with_a_newer_stamp(db: None, own: WebProcess) -> None:
    id_ = own.record(phases=TWO_PHASES).id
    changes: dict[str, Any] = {"phases": [{"phase_id": "3", "phase_name": "review"}], "project": "p"}
    first, again = (own.update(id_, **changes) for _ in range(2))
    assert answers.whole(again) == answers.whole(first)
    assert again.stamp > first.stamp


def test_an_update_with_another_revision_than_expected_changes_nothing(db: None, own: WebProcess) -> None:
    first = own.record()
    second = own.update(first.id, project="p", if_match={first.revision})
    with pytest.raises(RevisionMismatch, match=str(second.revision)):
        own.update(first.id, project="q", if_match={first.revision})
    assert own.retrieve(first.id) == second


def test_one_of_concurrent_updates_of_a_revision_succeeds(db: None, own: WebProcess) -> None:
    first = own.record()

    def attempt(number: int) -> bool:
        try:
            own.update(first.id, project=str(number), if_match={first.revision})
        except RevisionMismatch:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(8))) == 1


def test_concurrent_updates_of_one_host_lose_nothing(db: None, own: WebProcess, beside: WebProcess) -> None:
    id_ = own.record(phases=[phase(phase_id=str(number)) for number in range(8)]).id
    own.list()
    beside.list()

    def change(number: int) -> None:
        process = (own, beside)[number % 2]
        for count in range(1, 6):
            process.update(
                id_,
                phases=[{"phase_id": str(number), "steps_taken": count}, phase(phase_id=f"{number}-{count}")],
                metadata={str(number): count},
            )

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(change, range(8)))
    found = fields_of(own.retrieve(id_))
    assert found["metadata"] == {str(number): 5 for number in range(8)}
    assert [one["steps_taken"] for one in found["phases"][:8]] == [5] * 8
    appended = {one["phase_id"] for one in found["phases"][8:]}
    assert appended == {f"{number}-{count}" for number in range(8) for count in range(1, 6)}
    assert beside.retrieve(id_) == own.retrieve(id_)


def test_a_patch_is_applied_before_the_lock_and_again_only_to_a_newer_version(
    db: None, own: WebProcess, beside: WebProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = own.record(phases=TWO_PHASES).id
    applied, apply = list[bytes](), patch.apply

    def noted(body: bytes, changes: Any) -> bytes:
        applied.append(body)
        if len(applied) == 2:  # the first one is about to be appended
            beside.update(id_, project="p")
        return apply(body, changes)

    own.update(id_, error="e")
    monkeypatch.setattr(patch, "apply", noted)
    own.update(id_, error="f")
    assert len(applied) == 1
    assert fields_of(own.update(id_, tests_passed=True)) | {"project": "p", "error": "f"} == fields_of(
        own.retrieve(id_)
    )
    assert len(applied) == 4, "both of its own, and one beside"


def test_a_patch_of_a_large_record_takes_a_share_of_its_tenant(
    db: None, own: WebProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_shares, "WAIT_S", 0.0)
    small, large = own.record(), own.record(metadata={"text": "x" * ingest.LARGE_BYTES})
    shares = own.store.part(ReadShares)
    for _ in range(own.store.conf.long_reads_per_tenant):
        shares.take(TENANT)
    own.update(small.id, tests_passed=True)
    with pytest.raises(TooManyReads):
        own.update(large.id, tests_passed=True)
    shares.give_back(TENANT)
    assert fields_of(own.update(large.id, tests_passed=True))["tests_passed"] is True
    shares.take(TENANT)  # the patch has given its share back


def test_a_draft_whose_revision_fails_does_not_fail_the_others_of_its_commit(db: None, own: WebProcess) -> None:
    def fail(known: Record | None, body: Callable[[], bytes]) -> bytes:
        raise ZeroDivisionError

    bad, good = draft(new_id())._replace(revise=fail), draft(new_id())
    refused, *others = own.outbox.append([bad, good])
    assert isinstance(refused, ZeroDivisionError)
    assert [one.row.record.id for one in taken(others)] == [good.id]


# Refusals.


def test_an_update_of_a_deleted_id_is_refused_as_a_record_of_it(db: None, own: WebProcess) -> None:
    gone = own.record()
    own.outbox.delete(TENANT, [gone.id])
    with pytest.raises(Deleted):
        own.update(gone.id, project="p")


def test_credentials_of_a_patch_are_replaced_and_all_of_the_record_are_counted(db: None, own: WebProcess) -> None:
    keys = ["ghp_" + letter * 36 for letter in "ab"]
    id_ = own.record(error=f"with {keys[0]}").id
    changes: dict[str, Any] = {"metadata": {"note": keys[1]}}
    patched, again = (own.update(id_, **changes) for _ in range(2))
    assert not [key for key in keys if key.encode() in patched.body]
    assert fields_of(patched)["metadata"]["trajectories:redacted"] == {"github-token": 2}
    assert answers.whole(again) == answers.whole(patched)


def test_a_record_may_not_grow_over_its_limit(db: None, own: WebProcess) -> None:
    first = own.record(metadata={"a": "x"})
    room = own.conf.max_record_bytes + ID_BYTES - len(first.body)
    largest = own.update(first.id, metadata={"a": "x" * (room + 1)})
    assert len(largest.body) == own.conf.max_record_bytes + ID_BYTES
    with pytest.raises(TooLarge) as refused:
        own.update(first.id, request_summary="xy")
    assert refused.value.code == "record_too_large"
    assert own.update(first.id, request_summary="y").revision > largest.revision


def test_a_record_may_not_grow_to_too_many_json_values(
    db: None, own: WebProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = own.record(metadata={"a": [0] * 100})
    monkeypatch.setattr("trajectories.domain.json_values.MAX_VALUES", 200)
    for changes, name in (({"b": [0] * 200}, "patch"), ({"b": [0] * 150}, "record")):
        with pytest.raises(TooLarge, match=f"A {name} must not have more than 200 JSON values"):
            own.update(first.id, metadata=changes)
    assert own.update(first.id, metadata={"b": [0] * 10}).revision > first.revision


# A whole record that lacks phases.


def post(own: WebProcess, id_: UUID, phases: list[Any], *, replace: bool = False) -> Accepted:
    return ingest.record(own.store, TENANT, orjson.dumps(body(id=str(id_), phases=phases)), replace=replace)


def test_a_record_with_fewer_phases_is_refused_unless_it_is_to_replace(db: None, own: WebProcess) -> None:
    id_ = own.record(phases=TWO_PHASES).id
    with pytest.raises(PhasesDropped) as refused:
        post(own, id_, [])
    assert (refused.value.status, refused.value.param) == (409, "phases")
    assert all(word in refused.value.message for word in ("2 phases", "PATCH", "?replace=1"))
    assert fields_of(own.retrieve(id_))["phases"] == TWO_PHASES
    assert fields_of(post(own, id_, TWO_PHASES[:1], replace=True).record)["phases"] == TWO_PHASES[:1]


def test_a_record_that_lacks_a_phase_id_is_refused(db: None, own: WebProcess) -> None:
    id_ = own.record(phases=TWO_PHASES).id
    with pytest.raises(PhasesDropped, match="'2'"):
        post(own, id_, [*TWO_PHASES[:1], phase(phase_id="3"), phase()])


def test_repeated_revised_and_longer_records_are_accepted(db: None, own: WebProcess) -> None:
    id_ = own.record(phases=TWO_PHASES).id
    revised = [one | {"cost_usd": 1} for one in TWO_PHASES]
    for phases in (TWO_PHASES, revised, [phase(), *revised]):
        assert not post(own, id_, phases).is_new
    assert len(fields_of(own.retrieve(id_))["phases"]) == 3


def test_phases_that_another_process_patched_in_are_not_dropped(db: None, own: WebProcess, beside: WebProcess) -> None:
    id_ = own.record(phases=TWO_PHASES).id
    beside.update(id_, phases=[phase(phase_id="3")])
    with pytest.raises(PhasesDropped):
        post(own, id_, TWO_PHASES)


# Two hosts.

STEPS = st.tuples(
    st.sampled_from(["update", "update", "append", "again", "persist", "redis", "read"]),
    st.booleans(),
    st.integers(0, 2),
)


@settings(max_examples=20, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, min_size=5, max_size=20), order=st.randoms(use_true_random=False))
def test_patches_of_two_hosts_in_any_order_of_arrival_have_one_result_everywhere(
    steps: list[tuple[str, bool, int]],
    order: Any,
    db: None,
    redis_tier: Redis,
    settings: Settings,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Hosts patch one run, hand over any rows in any order, also twice, and do without Redis for a
    while."""
    there = settings.CACHES
    nowhere = there | {"trajectories": there["trajectories"] | {"LOCATION": "redis://127.0.0.1:1/0"}}
    redis_tier.flushdb()
    Trajectory.objects.all().delete()
    persistence.rebuild(get_store())
    directory = tmp_path_factory.mktemp("hosts")
    hosts = [WebProcess(directory / name, **QUICK) for name in ("one", "other")]
    versions = [hosts[0].record(phases=TWO_PHASES)]
    id_ = versions[0].id
    hosts[0].persist()
    for number, (what, is_other, which) in enumerate(steps):
        host = hosts[is_other]
        if what == "update":
            changes: dict[str, Any] = {("project", "source", "policy")[which]: str(number)}
            versions.append(host.update(id_, **changes))
        elif what == "append":
            versions.append(host.update(id_, phases=[phase(phase_id=f"p{which}", steps_taken=number)]))
        elif what == "again":
            versions.append(host.update(id_, tests_passed=True))
        elif what == "persist":
            rows = host.waiting()
            order.shuffle(rows)
            with suppress(RedisError):
                host.persist(rows[: len(rows) - which])
        elif what == "redis":
            settings.CACHES = nowhere if settings.CACHES is there else there
        else:
            assert fields_of(host.retrieve(id_))["phases"][:1] == TWO_PHASES[:1]
    settings.CACHES = there
    persistence.rebuild(get_store())
    for _ in range(2):
        order.shuffle(hosts)
        for host in hosts:
            rows = host.waiting()
            order.shuffle(rows)
            host.persist(rows + rows[:1])
    newest = max(versions, key=lambda version: version.rank)
    found: list[Record | None] = [host.retrieve(id_) for host in hosts]
    found += [archive_reads.find(TENANT, id_), get_store().redis_tier.find(TENANT, id_)]
    assert len({one and answers.whole(one) for one in found}) == 1
    assert {(one.body, one.stamp) for one in found if one} == {(newest.body, newest.stamp)}
