"""Replays of quarantined records, and batches that a killed worker left between archive and Redis."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import cast
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.db import connections
from django.test import Client
from pytest_django import Settings
from redis import Redis

from tests import baker_recipes
from tests.admin.rows import address, page
from tests.routing import ArchiveRouter
from tests.storage.away import archive_away
from tests.storage.hosts import QUICK, TENANT, WebProcess, made, new_id
from trajectories import persistence
from trajectories.domain import answers
from trajectories.domain.clock import SECOND_US
from trajectories.domain.record import Record
from trajectories.models import Quarantined
from trajectories.relay import Relay
from trajectories.storage import archive_reads
from trajectories.storage.archive_errors import ArchiveError
from trajectories.storage.archive_writes import mirror
from trajectories.storage.redis_tier import RETAINING
from trajectories.storage.store import Store, get_store

NOW_US = int(time.time()) * SECOND_US


@contextmanager
def archive_refusing(project: str) -> Iterator[None]:
    """Make the database refuse every trajectory of this project."""
    connection = connections[ArchiveRouter.alias]
    if connection.vendor == "sqlite":
        refuse = (
            "CREATE TRIGGER refusal BEFORE INSERT ON trajectories_trajectory "
            f"WHEN NEW.project = '{project}' BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )
        take = "DROP TRIGGER refusal"
    else:
        table = "ALTER TABLE trajectories_trajectory"
        refuse = f"{table} ADD CONSTRAINT refusal CHECK (project <> '{project}')"
        take = f"{table} DROP CONSTRAINT refusal"
    with connection.cursor() as cursor:
        cursor.execute(refuse)
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(take)


def refused_once(process: WebProcess) -> Record:
    """A record that was refused while the archive would not take it."""
    with archive_refusing("odd"):
        one = process.record(project="odd")
        process.persist()
    assert (process.waiting(), process.listed()) == ([], [])
    return one


@pytest.mark.usefixtures("archive_db")
def test_a_replayed_record_is_in_every_tier_and_process_again(redis_tier: Redis, tmp_path: Path) -> None:
    own, elsewhere = WebProcess(tmp_path / "own", **QUICK), WebProcess(tmp_path / "other", **QUICK)
    one = refused_once(own)
    assert elsewhere.listed() == []
    assert persistence.replay(get_store(), Quarantined.objects.get().pk)
    assert not Quarantined.objects.exists()
    assert get_store().redis_tier.find(TENANT, one.id) == one
    for process in (own, elsewhere, WebProcess(tmp_path / "own", **QUICK)):
        assert process.listed() == [answers.item(one)]
        assert process.retrieve(one.id) == one
        assert process.stats()["count"] == 1


@pytest.mark.usefixtures("archive_db", "redis_tier")
def test_a_repeated_refusal_stores_the_new_reason_and_attempt_count(tmp_path: Path) -> None:
    refused_once(WebProcess(tmp_path / "own"))
    row = Quarantined.objects.get()
    Quarantined.objects.update(error="an old reason")
    with archive_refusing("odd"):
        assert not persistence.replay(get_store(), row.pk)
    row.refresh_from_db()
    assert row.attempts == 2
    assert "refus" in row.error


@pytest.mark.usefixtures("archive_db", "redis_tier")
def test_a_replay_does_not_bring_an_older_version_over_a_newer_one(tmp_path: Path) -> None:
    own = WebProcess(tmp_path / "own", **QUICK)
    one = refused_once(own)
    newer = own.record(id=str(one.id), project="even")
    own.persist()
    assert persistence.replay(get_store(), Quarantined.objects.get().pk)
    assert [record.body for record in archive_reads.stored(TENANT, [one.id])] == [newer.body]
    assert get_store().redis_tier.find(TENANT, one.id) == archive_reads.stored(TENANT, [one.id])[0]
    assert own.ids() == [one.id]


@pytest.mark.usefixtures("archive_db", "redis_tier")
def test_a_replay_that_cannot_reach_the_archive_leaves_the_record_in_quarantine(tmp_path: Path) -> None:
    refused_once(WebProcess(tmp_path / "own"))
    pk = Quarantined.objects.get().pk
    with archive_away(), pytest.raises(ArchiveError):
        persistence.replay(get_store(), pk)
    assert Quarantined.objects.get().attempts == 1
    assert persistence.replay(get_store(), pk)
    assert persistence.replay(get_store(), pk), "somebody else has done it meanwhile"


# By hand.


@pytest.mark.django_db(transaction=True)
def test_the_command_replays_its_selection_and_lists_further_refusals(redis_tier: Redis, tmp_path: Path) -> None:
    own = WebProcess(tmp_path / "own")
    refused_once(own)
    with archive_refusing("odd"):
        other = own.record(project="odd")
        own.persist()
        with pytest.raises(CommandError) as stopped:
            call_command("replay_quarantine", stdout=StringIO())
        assert stopped.value.returncode == 3
    call_command("replay_quarantine", "--tenant", "bob", stdout=StringIO())
    call_command("replay_quarantine", "--id", str(uuid4()), stdout=StringIO())
    assert Quarantined.objects.count() == 2
    call_command("replay_quarantine", "--id", str(other.id), stdout=StringIO())
    assert Quarantined.objects.count() == 1
    said = StringIO()
    call_command("replay_quarantine", "--tenant", TENANT, stdout=said)
    assert said.getvalue() == "1 replayed, 0 still refused.\n"
    assert not Quarantined.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_the_admin_replays_for_staff_with_the_change_permission(
    redis_tier: Redis, tmp_path: Path, client: Client
) -> None:
    refused_once(WebProcess(tmp_path / "own"))
    staff = baker_recipes.staff_of(TENANT)
    staff.user_permissions.add(Permission.objects.get(codename="view_quarantined"))
    client.force_login(staff)
    chosen = {"action": "replay", "_selected_action": [str(Quarantined.objects.get().pk)]}
    client.post(address("quarantined"), chosen)
    assert Quarantined.objects.exists()
    assert "Replay" not in page(client, address("quarantined"))
    staff.user_permissions.add(Permission.objects.get(codename="change_quarantined"))
    with archive_refusing("odd"):
        answer = client.post(address("quarantined"), chosen, follow=True)
    assert "It still refuses 1" in answer.content.decode()
    answer = client.post(address("quarantined"), chosen, follow=True)
    assert "The archive has taken 1 now." in answer.content.decode()
    assert not Quarantined.objects.exists()


# Batches that were left.


def test_corrections_by_the_archive_reach_redis_although_the_worker_was_killed_first(
    archive_db: str, redis_tier: Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.TRAJECTORIES |= {"SETTLE_AFTER_S": 0}
    old = made(new_id(), NOW_US)
    mirror([old])
    again = made(old.id, NOW_US + 1, tags=["new"])

    def mirror_and_die(store: Store, records: Sequence[Record]) -> list[Record]:
        mirror(records)
        raise SystemExit

    with monkeypatch.context() as dying:
        dying.setattr(persistence, "_mirror_or_quarantine", mirror_and_die)
        with pytest.raises(SystemExit):
            persistence.persist(get_store(), [again])
    held = get_store().redis_tier.find(TENANT, again.id)
    assert held
    assert held.recorded_at_us == NOW_US + 1, "the archive knows that it is older"
    assert persistence.settle(get_store()) == 1
    assert get_store().redis_tier.find(TENANT, again.id) == archive_reads.stored(TENANT, [again.id])[0]
    assert persistence.settle(get_store()) == 0


@pytest.mark.usefixtures("archive_db", "redis_tier")
def test_a_completed_batch_is_not_repeated(settings: Settings) -> None:
    settings.TRAJECTORIES |= {"SETTLE_AFTER_S": 0}
    persistence.persist(get_store(), [made(new_id(), NOW_US)])
    assert persistence.settle(get_store()) == 0


@pytest.mark.usefixtures("archive_db", "redis_tier")
def test_a_batch_is_left_alone_as_long_as_its_worker_may_be_at_it() -> None:
    with archive_away(), pytest.raises(ArchiveError):
        persistence.persist(get_store(), [made(new_id(), NOW_US)])
    assert persistence.settle(get_store()) == 0
    assert get_store().redis_tier.open_batches(0, 10) != {}


@pytest.mark.django_db(transaction=True)
def test_the_relay_starts_one_task_for_unfinished_batches(
    redis_tier: Redis, celery_broker: str, settings: Settings
) -> None:
    settings.TRAJECTORIES |= {"SETTLE_AFTER_S": 60.0}
    persistence.rebuild(get_store())
    assert get_store().redis_tier.claim(RETAINING, 600)  # which is another task
    get_store().redis_tier.open_batch([(TENANT, new_id())])
    with Redis.from_url(celery_broker) as broker:
        Relay(get_store()).step()
        assert broker.llen("trajectories") == 0
        (key,) = redis_tier.keys("*open")
        (member,) = cast(list[bytes], redis_tier.zrange(key, 0, 0))
        redis_tier.zadd(key, {member: 0})
        for _ in range(3):
            Relay(get_store()).step()
        assert broker.llen("trajectories") == 1
