"""Which store an outbox, a Redis key and a message belong to."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from redis import Redis

from tests.storage.away import archive_away
from tests.storage.hosts import QUICK, TENANT, WebProcess, deliver
from trajectories import persistence, tasks
from trajectories.conf import read_settings
from trajectories.domain.query import Query
from trajectories.exceptions import ArchiveUnavailable, StoreMismatch
from trajectories.models import StoreIdentity, Trajectory
from trajectories.relay import Relay
from trajectories.storage import archive_reads
from trajectories.storage.outbox import Outbox
from trajectories.storage.redis_tier import base_prefix
from trajectories.storage.store import IdentityUnknown, Store, get_store, using

pytestmark = pytest.mark.django_db


def replace_database() -> str:
    """Make the archive that of a new, empty store."""
    StoreIdentity.objects.all().delete()
    Trajectory.objects.all().delete()
    return archive_reads.identity()


def test_the_identity_is_made_once_and_every_process_reads_the_same(own: WebProcess, other_host: WebProcess) -> None:
    assert len(own.store.identity) == 12
    assert own.store.identity == other_host.store.identity == archive_reads.identity()


def test_every_redis_key_begins_with_the_identity(own: WebProcess, redis_tier: Redis) -> None:
    own.record()
    own.persist()
    persistence.rebuild(own.store)
    prefix = f"{base_prefix(own.conf)}{own.store.identity}:".encode()
    keys: list[bytes] = redis_tier.keys()  # type: ignore[assignment]
    assert keys
    assert all(key.startswith(prefix) for key in keys)


def test_a_new_database_behind_an_old_redis_does_not_get_its_records(own: WebProcess, redis_tier: Redis) -> None:
    persistence.rebuild(own.store)
    own.record()
    own.persist()
    assert own.list().is_complete
    before = own.store.identity

    assert replace_database() != before
    own.store.verify()
    assert own.listed() == []
    persistence.rebuild(own.store)
    page = own.list()
    assert (page.records, page.is_complete) == ([], True)


def test_other_processes_of_the_host_follow_it_to_the_new_database(
    own: WebProcess, beside: WebProcess, redis_tier: Redis
) -> None:
    own.record()
    own.persist()
    assert len(beside.listed()) == 1
    replace_database()
    own.store.verify()
    assert beside.listed() == []
    assert beside.store.identity == own.store.identity


def test_waiting_records_of_one_store_do_not_go_to_another(own: WebProcess, beside: WebProcess) -> None:
    waiting = own.record()
    before, other = own.store.identity, replace_database()
    both = rf"belongs to the store {before}, and the database to the store {other}"
    with pytest.raises(StoreMismatch, match=both):
        own.store.verify()
    with pytest.raises(StoreMismatch, match=both):
        beside.record()
    with pytest.raises(StoreMismatch, match=both):
        beside.list()
    assert before in beside.store.write_problem()
    assert [row.record for row in own.waiting()] == [waiting]


def test_a_record_for_one_of_two_sites_with_one_outbox_file_does_not_go_to_the_other(own: WebProcess) -> None:
    other_site = Outbox(str(own.conf.outbox_path), synchronous="NORMAL", max_bytes=2**30)
    other_site.bind("b" * 12)
    own.record()
    with pytest.raises(StoreMismatch):
        other_site.bind("b" * 12)  # as its relay does before it sends
    other_site.close()


@pytest.mark.django_db(transaction=True)
def test_a_changed_binding_that_cannot_be_checked_refuses_the_record(own: WebProcess) -> None:
    own.outbox.bind("b" * 12)
    with archive_away(), pytest.raises(ArchiveUnavailable):
        own.record()
    assert own.waiting() == []


def test_the_right_database_again_ends_the_refusal(own: WebProcess, beside: WebProcess) -> None:
    own.record()
    before = own.store.identity
    replace_database()
    with pytest.raises(StoreMismatch):
        own.store.verify()
    StoreIdentity.objects.update(identity=before)
    own.store.verify()
    beside.record()
    assert len(beside.listed()) == 2


def test_a_relay_sends_nothing_of_another_store(own: WebProcess, caplog: pytest.LogCaptureFixture) -> None:
    own.record()
    other = replace_database()
    relay = Relay(own.store)
    assert relay.step() is False
    assert relay.is_failing
    assert other in caplog.text
    assert own.outbox.counts().sent == 0


def test_an_outbox_can_be_adopted_with_the_records_that_wait_in_it(
    own: WebProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    record = own.record()
    other = replace_database()
    with pytest.raises(StoreMismatch):
        own.store.verify()
    with using(own.store):
        call_command("store_identity", "--adopt-outbox")
    assert capsys.readouterr().out.strip() == other
    own.store.verify()
    assert [row.record for row in own.waiting()] == [record]


def test_an_outbox_without_waiting_records_is_emptied_for_a_new_database(own: WebProcess, redis_tier: Redis) -> None:
    record = own.record()
    own.persist()
    own.delete(record.id)
    own.persist()
    replace_database()
    own.store.verify()
    assert own.outbox.rows_after(0, 10) == []
    assert not own.outbox.is_deleted(TENANT, record.id)


def test_a_copy_of_a_database_gets_an_identity_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    before = archive_reads.identity()
    call_command("store_identity", "--new")
    assert capsys.readouterr().out.strip() == archive_reads.identity() != before


def test_the_command_takes_one_change_at_a_time() -> None:
    with pytest.raises(CommandError, match="not allowed with"):
        call_command("store_identity", "--new", "--adopt-outbox")


@pytest.mark.parametrize("sender", ["0123456789ab", None], ids=["another store", "an earlier release"])
@pytest.mark.usefixtures("redis_tier")
def test_a_worker_refuses_a_message_of_another_store(
    own: WebProcess, sender: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    message = tasks.message_of([own.record()], is_compressing=False)
    with using(own.store):
        deliver(message, sender)
    assert not Trajectory.objects.exists()
    said = f"A worker of the store {own.store.identity} got a message of {f'the store {sender}' if sender else ''}"
    assert said in caplog.text
    with using(own.store):
        deliver(message, own.store.identity)
    assert Trajectory.objects.exists()


@pytest.mark.usefixtures("redis_tier")
def test_a_worker_follows_a_database_that_was_replaced(own: WebProcess) -> None:
    message = tasks.message_of([own.record()], is_compressing=False)
    other = replace_database()
    with using(own.store):
        deliver(message, other)
    assert Trajectory.objects.count() == 1
    assert own.store.identity == other


def test_a_queue_name_contains_the_identity_where_it_says_so(tmp_path: Path) -> None:
    named = WebProcess(tmp_path / "one", **QUICK, queue="runs-{store}").store
    assert named.queue == f"runs-{named.identity}"
    assert WebProcess(tmp_path / "two", **QUICK, queue="runs").store.queue == "runs"
    assert WebProcess(tmp_path / "three", **QUICK).store.queue is None


@pytest.mark.django_db(transaction=True)
def test_without_the_archive_the_outbox_names_the_store(own: WebProcess) -> None:
    with archive_away():
        assert Store(own.conf).identity == own.store.identity


@pytest.mark.django_db(transaction=True)
def test_a_new_host_needs_the_archive_once(tmp_path: Path) -> None:
    with archive_away(), pytest.raises(IdentityUnknown):
        assert WebProcess.new(tmp_path / "new").redis_tier


# Keys of releases before store identities.


@pytest.mark.usefixtures("redis_tier")
def test_while_an_earlier_release_writes_redis_is_not_trusted(own: WebProcess, redis_tier: Redis) -> None:
    persistence.rebuild(own.store)
    assert own.list().is_complete
    base = base_prefix(read_settings())
    redis_tier.set(f"{base}epoch", "some:server")
    redis_tier.hset(f"{base}{{{TENANT}}}:record:1", "body", "{}")
    assert not own.list().is_complete
    assert not own.store.redis_tier.is_trusted()

    persistence.rebuild(own.store)
    assert own.list().is_complete
    assert redis_tier.keys(f"{base}epoch") == redis_tier.keys(f"{base}{{*") == []


def test_an_outbox_of_an_earlier_release_is_bound_with_its_waiting_records(own: WebProcess) -> None:
    record = own.record()
    with own.outbox._file.transaction() as db:
        db.execute("DELETE FROM bindings")
    own.restart()
    own.store.verify()
    assert own.outbox.binding() == (archive_reads.identity(), None)
    assert own.list(Query()).records == [record]


def test_the_store_of_this_process_is_bound_when_it_first_reads() -> None:
    store = get_store()
    assert store.outbox.binding().store is None
    assert not store.hot_cache.snapshot(TENANT).held
    assert store.outbox.binding().store == store.identity
