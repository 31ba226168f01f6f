"""Old records are deleted by ``prune`` and by ``RETENTION_DAYS``."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings
from redis import Redis

from tests.storage.away import archive_away
from tests.storage.hosts import made, new_id
from trajectories import persistence, tasks
from trajectories.domain.record import Record
from trajectories.management.commands.prune import age
from trajectories.models import Tombstone, Trajectory
from trajectories.relay import Relay
from trajectories.storage.store import get_store

DAY_US = 24 * 3600 * 1_000_000
NOW_US = time.time_ns() // 1_000


def days_old(days: int, tenant: str = "alice") -> Record:
    return made(new_id(), NOW_US - days * DAY_US, tenant=tenant)


def left() -> set[Any]:
    return set(Trajectory.objects.values_list("trajectory_id", flat=True))


def test_prune_deletes_older_records_of_one_or_all_tenants_in_every_tier(
    archive_db: str, redis_tier: Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    young, old, of_bob = days_old(1), [days_old(10) for _ in range(5)], days_old(20, "bob")
    persistence.persist(get_store(), [young, *old, of_bob])
    call_command("prune", "--older-than", "5d", "--tenant", "alice", "--batch", "2")
    assert left() == {young.id, of_bob.id}
    assert [get_store().redis_tier.find("alice", one.id) for one in (young, *old)] == [young, *[None] * 5]
    call_command("prune", "--older-than", "5d")
    assert left() == {young.id}
    assert capsys.readouterr().out == "alice: 5 deleted.\nalice: 0 deleted.\nbob: 1 deleted.\n"


def test_a_dry_run_counts_and_deletes_nothing(
    archive_db: str, redis_tier: Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    persistence.persist(get_store(), [days_old(10)])
    call_command("prune", "--older-than", "5d", "--dry-run")
    assert capsys.readouterr().out == "alice: 1 would be deleted.\n"
    assert len(left()) == 1


def test_an_interrupted_prune_resumes(archive_db: str, redis_tier: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    persistence.persist(get_store(), [days_old(10) for _ in range(5)])
    prune, calls = persistence.prune, []

    def ended(*args: Any) -> int:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return prune(*args)

    monkeypatch.setattr(persistence, "prune", ended)
    with pytest.raises(KeyboardInterrupt):
        call_command("prune", "--older-than", "5d", "--batch", "2")
    assert len(left()) == 3
    call_command("prune", "--older-than", "5d", "--batch", "2")
    assert not left()


def test_an_unavailable_archive_and_an_unknown_tenant_are_reported(archive_db: str, redis_tier: Redis) -> None:
    with archive_away(), pytest.raises(CommandError, match="the same command goes on"):
        call_command("prune", "--older-than", "5d")
    with pytest.raises(CommandError, match="no tenant 'nobody'"):
        call_command("prune", "--older-than", "5d", "--tenant", "nobody")


@pytest.mark.parametrize("text", ["5", "d", "-5d", "5 d", "5w", ""])
def test_an_age_has_a_number_and_a_unit(text: str) -> None:
    with pytest.raises(Exception, match="not an age"):
        age(text)


def test_retention_is_by_tenant_with_a_default_for_the_others(
    archive_db: str, redis_tier: Redis, settings: Settings
) -> None:
    settings.TRAJECTORIES |= {"RETENTION_DAYS": {"*": 5, "bob": 30}}
    records = [days_old(10), days_old(1), days_old(10, "bob"), days_old(40, "bob")]
    persistence.persist(get_store(), records)
    store = get_store().identity
    tasks.retain.apply((store,), headers=tasks.signed(tasks.retain, store), throw=True)
    assert left() == {records[1].id, records[2].id}


def test_without_a_retention_nothing_is_pruned_and_a_run_is_bounded(
    archive_db: str, redis_tier: Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    persistence.persist(get_store(), [days_old(1_000) for _ in range(5)])
    assert persistence.retain(get_store(), 1)
    assert len(left()) == 5
    settings.TRAJECTORIES |= {"RETENTION_DAYS": {"*": 5}}
    monkeypatch.setattr(persistence, "PRUNE_BATCH", 2)
    assert not persistence.retain(get_store(), 2)
    assert len(left()) == 1
    assert persistence.retain(get_store(), 2)
    assert not left()


def test_tombstones_go_after_their_time(archive_db: str, redis_tier: Redis) -> None:
    persistence.persist(get_store(), [days_old(10)])
    call_command("prune", "--older-than", "5d")
    call_command("prune", "--older-than", "5d")
    assert Tombstone.objects.count() == 1
    Tombstone.objects.update(stamp=NOW_US - 400 * DAY_US)
    call_command("prune", "--older-than", "5d")
    assert not Tombstone.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_the_relays_of_all_hosts_have_it_done_once_in_a_while(redis_tier: Redis, celery_broker: str) -> None:
    with Redis.from_url(celery_broker) as broker:
        persistence.rebuild(get_store())
        for _ in range(2):
            Relay(get_store()).step()
        assert broker.llen("trajectories") == 1
