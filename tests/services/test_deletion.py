"""A deleted record never appears again, whatever holds an old copy and however late it arrives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from tests.storage.away import archive_away
from tests.storage.hosts import QUICK, TENANT, WebProcess, draft, new_id, taken
from tests.strategies import examples
from trajectories import persistence
from trajectories.exceptions import Deleted, DeletionIncomplete, NotFound
from trajectories.models import Quarantined, Tombstone, Trajectory
from trajectories.storage import archive_reads
from trajectories.storage.archive_writes import quarantine
from trajectories.storage.store import get_store


def held_by_archive() -> set[UUID]:
    return set(Trajectory.objects.values_list("trajectory_id", flat=True))


def test_a_deleted_record_leaves_every_tier_and_every_process(
    archive_db: str, redis_tier: Redis, own: WebProcess, beside: WebProcess, other_host: WebProcess
) -> None:
    persistence.rebuild(get_store())
    kept, gone = own.record(), own.record()
    own.persist()
    everybody = own, beside, other_host
    assert [process.ids() for process in everybody] == [[gone.id, kept.id]] * 3
    removed = own.delete(gone.id)
    assert (removed.outbox, removed.redis, removed.archive, removed.quarantine) == (1, 1, 1, 0)
    assert [process.ids() for process in everybody] == [[kept.id]] * 3
    assert [process.stats()["count"] for process in everybody] == [1] * 3
    for process in everybody:
        with pytest.raises(NotFound):
            process.retrieve(gone.id)
    assert held_by_archive() == {kept.id}
    assert get_store().redis_tier.find(TENANT, gone.id) is None


def test_pending_rows_are_erased_and_never_archived(archive_db: str, redis_tier: Redis, own: WebProcess) -> None:
    persistence.rebuild(get_store())
    gone = own.record()
    under_way = own.waiting()
    assert own.delete(gone.id).outbox == 1
    assert own.ids() == []
    own.persist(under_way)  # a worker that had it already
    own.persist()
    assert held_by_archive() == set()
    assert own.outbox.counts().deleted == 1
    assert own.outbox.counts().waiting == 0


@pytest.mark.parametrize("later_by", [-1, 0, 10**12])
def test_a_late_copy_is_refused_with_any_stamp(
    archive_db: str, redis_tier: Redis, own: WebProcess, later_by: int
) -> None:
    persistence.rebuild(get_store())
    gone = own.record()
    own.persist()
    own.delete(gone.id)
    persistence.persist(get_store(), [replace(gone, stamp=gone.stamp + later_by)])
    assert held_by_archive() == set()
    assert get_store().redis_tier.find(TENANT, gone.id) is None
    assert own.ids() == []


def test_every_process_of_the_host_refuses_an_id_with_a_tombstone(
    archive_db: str, redis_tier: Redis, own: WebProcess, beside: WebProcess
) -> None:
    gone = own.record()
    own.persist()
    own.delete(gone.id)
    own.persist()
    own.outbox.prune(2**62)
    for process in (own, beside):
        with pytest.raises(Deleted):
            process.record(id=str(gone.id))
    fresh = draft(new_id())
    refused, *others = own.outbox.append([draft(gone.id), fresh])
    assert isinstance(refused, Deleted)
    assert [one.row.record.id for one in taken(others)] == [fresh.id]


def test_another_host_drops_its_copy_and_refuses_the_id_once_the_archive_says_deleted(
    archive_db: str, redis_tier: Redis, own: WebProcess, other_host: WebProcess
) -> None:
    persistence.rebuild(get_store())
    gone = own.record()
    own.persist()
    own.delete(gone.id)
    own.persist()
    late = other_host.record(id=str(gone.id))
    assert other_host.ids() == [late.id]
    other_host.persist()
    assert other_host.ids() == []
    assert other_host.outbox.counts().deleted == 1
    with pytest.raises(Deleted):
        other_host.record(id=str(gone.id))
    other_host.persist()
    assert not other_host.waiting()
    assert own.ids() == []


def test_a_host_that_hears_of_a_deletion_by_the_feed_forgets_its_rows(
    archive_db: str, redis_tier: Redis, own: WebProcess, other_host: WebProcess
) -> None:
    persistence.rebuild(get_store())
    gone = other_host.record()
    other_host.persist()
    assert own.ids() == other_host.ids() == [gone.id]
    own.delete(gone.id)
    assert other_host.outbox.versions(TENANT, gone.id) == [gone]
    assert other_host.ids() == []
    assert not [one for one in other_host.outbox.versions(TENANT, gone.id) if not one.is_tombstone]


def test_a_deletion_while_the_archive_is_away_says_so_and_is_completed_by_the_relay(
    archive_db: str, redis_tier: Redis, own: WebProcess, other_host: WebProcess
) -> None:
    persistence.rebuild(get_store())
    gone = own.record()
    own.persist()
    assert other_host.ids() == [gone.id]
    with archive_away(), pytest.raises(DeletionIncomplete, match="the archive"):
        own.delete(gone.id)
    own.restart()
    assert own.ids() == []
    assert own.stats()["count"] == 0
    own.persist()
    assert held_by_archive() == set()
    assert other_host.ids() == []


def test_repeating_completes_a_deletion_and_finds_nothing_more(
    archive_db: str, redis_tier: Redis, own: WebProcess
) -> None:
    persistence.rebuild(get_store())
    gone = own.record()
    own.persist()
    with archive_away(), pytest.raises(DeletionIncomplete):
        own.delete(gone.id)
    removed = own.delete(gone.id)
    assert (removed.outbox, removed.redis, removed.archive) == (0, 0, 1)
    removed = own.delete(gone.id)
    assert (removed.outbox, removed.redis, removed.archive) == (0, 0, 0)
    assert Tombstone.objects.count() == 1


def test_an_unknown_id_is_404_and_leaves_no_tombstone(archive_db: str, redis_tier: Redis, own: WebProcess) -> None:
    own.record(tenant="bob", id=str(theirs := new_id()))
    own.persist()
    for id_ in (new_id(), theirs):
        with pytest.raises(NotFound):
            own.delete(id_)
    assert not own.waiting()
    assert own.ids(tenant="bob") == [theirs]


def test_a_quarantined_version_is_deleted_with_the_others(archive_db: str, redis_tier: Redis, own: WebProcess) -> None:
    gone = own.record()
    own.persist()
    quarantine(replace(gone, stamp=gone.stamp + 1), "refused")
    assert own.delete(gone.id).quarantine == 1
    assert not Quarantined.objects.exists()


def test_a_rebuilt_redis_has_the_deletions(archive_db: str, redis_tier: Redis, own: WebProcess) -> None:
    persistence.rebuild(get_store())
    gone = own.record()
    own.persist()
    own.delete(gone.id)
    redis_tier.flushdb()
    persistence.rebuild(get_store())
    get_store().redis_tier.merge([gone], from_authority=False)
    assert get_store().redis_tier.find(TENANT, gone.id) is None


def test_a_process_does_not_carry_a_deleted_record_over_a_wipe_of_redis(
    archive_db: str, redis_tier: Redis, own: WebProcess, other_host: WebProcess
) -> None:
    persistence.rebuild(get_store())
    gone = own.record()
    own.persist()
    assert other_host.ids() == [gone.id]
    own.delete(gone.id)
    redis_tier.flushdb()
    persistence.rebuild(get_store())
    assert other_host.ids() == []


def test_an_export_resumes_behind_a_deleted_id(archive_db: str, redis_tier: Redis, own: WebProcess) -> None:
    records = [own.record() for _ in range(3)]
    own.persist()
    place = archive_reads.seq_of(TENANT, records[1].id)
    own.delete(records[1].id)
    assert archive_reads.seq_of(TENANT, records[1].id) == place


def test_nothing_of_a_deleted_record_stays_in_the_file_of_the_outbox(
    redis_tier: Redis, db: None, own: WebProcess
) -> None:
    marker = "ax7marker"
    gone = own.record(request_summary=marker, error=marker * 1_000)
    path = Path(own.conf.outbox_path)

    def files() -> bytes:
        return b"".join(Path(f"{path}{end}").read_bytes() for end in ("", "-wal"))

    assert marker.encode() in files()
    own.delete(gone.id)
    own.outbox.prune(0)
    assert marker.encode() not in files()


def test_tombstones_are_forgotten_when_no_old_copy_can_be_left(
    archive_db: str, redis_tier: Redis, own: WebProcess
) -> None:
    gone = own.record()
    own.persist()
    own.delete(gone.id)
    own.persist()
    assert own.outbox.forget_tombstones(0) == archive_reads.forget_tombstones(0, 10) == 0
    assert own.outbox.forget_tombstones(2**62) == archive_reads.forget_tombstones(2**62, 10) == 1
    assert own.record(id=str(gone.id)).id == gone.id


steps = st.lists(
    st.tuples(st.sampled_from(["record", "delete", "persist", "again", "read"]), st.integers(0, 2), st.booleans()),
    max_size=25,
)


@settings(
    max_examples=examples(40), deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=steps)
def test_in_any_order_of_events_deleted_ids_are_nowhere_and_all_others_everywhere(
    steps: list[Any], archive_db: str, redis_tier: Redis, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Two hosts record, delete, hand over, hand over again and read, three ids among them."""
    redis_tier.flushdb()
    Trajectory.objects.all().delete()
    Tombstone.objects.all().delete()
    persistence.rebuild(get_store())
    directory = tmp_path_factory.mktemp("hosts")
    hosts = [WebProcess(directory / name, **QUICK) for name in ("one", "other")]
    ids = [new_id() for _ in range(3)]
    deleted: set[UUID] = set()
    sent: list[Any] = []
    for what, which, is_other in steps:
        apply_step(what, ids[which], hosts[is_other], deleted, sent)
    for _ in range(3):
        for host in hosts:
            host.ids()  # it deletes what the feed reports, and hands that over in its turn
            host.persist()
    alive = held_by_archive()
    assert not alive & deleted
    for host in hosts:
        assert set(host.ids()) == alive
        assert not host.waiting()
    assert {id_ for id_ in ids if get_store().redis_tier.find(TENANT, id_)} == alive


def apply_step(what: str, id_: UUID, host: WebProcess, deleted: set[UUID], sent: list[Any]) -> None:
    if what == "record":
        try:
            host.record(id=str(id_), tags=[str(len(sent))])
        except Deleted:
            assert id_ in deleted
    elif what == "delete":
        try:
            host.delete(id_)
        except NotFound:
            return
        deleted.add(id_)
    elif what == "persist":
        rows = host.waiting()
        sent.append([row.record for row in rows])
        host.persist(rows)
    elif what == "again" and sent:
        persistence.persist(get_store(), sent[-1])
    elif what == "read":
        assert not deleted & set(host.ids()) or not host.list().is_complete or host.waiting()
