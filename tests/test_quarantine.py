"""A record that the archive refuses goes into quarantine, and holds up nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from tests.storage.hosts import TENANT, WebProcess, draft, taken
from tests.test_persistence import everywhere, persisting, poisoned, record
from trajectories import persistence
from trajectories.models import Quarantined
from trajectories.storage.archive_delivery import Version, delivery_status
from trajectories.storage.store import get_store


def test_a_refused_record_is_quarantined_alone_and_the_rest_of_its_batch_is_archived(
    archive_db: str, redis_tier: Redis
) -> None:
    good = [record(stamp) for stamp in range(7)]
    poison = poisoned(record(9))
    persistence.persist(get_store(), [*good[:3], poison, *good[3:]])
    assert everywhere() == good
    assert get_store().redis_tier.find(TENANT, poison.id) is None
    (kept,) = Quarantined.objects.all()
    assert (kept.trajectory_id, kept.stamp, bytes(kept.body)) == (poison.id, poison.stamp, poison.body)
    assert kept.error
    versions = [Version.of(one) for one in [*good, poison]]
    assert delivery_status(versions) == (set(versions[:-1]), set(versions[-1:]), set(), set())


def test_repeated_poison_is_quarantined_once_and_a_later_good_version_is_accepted(
    archive_db: str, redis_tier: Redis
) -> None:
    poison = poisoned(record(1))
    for _ in range(2):
        persistence.persist(get_store(), [poison])
    assert Quarantined.objects.count() == 1
    good = record(2, id_=poison.id)
    persistence.persist(get_store(), [good])
    assert everywhere() == [good]


def test_the_version_before_a_poisoned_one_remains_in_every_process_and_cache_size(
    archive_db: str, redis_tier: Redis, tmp_path: Path
) -> None:
    quick: dict[str, Any] = {"feed_poll_s": 0.0, "archive_retry_s": 0.0}
    own, elsewhere = WebProcess(tmp_path / "own", **quick), WebProcess(tmp_path / "other", **quick)
    good = [own.record(tags=[str(number)]) for number in range(3)]
    own.persist()
    shown = own.listed()
    assert elsewhere.listed() == shown
    bad = poisoned(good[1])
    row = taken(own.outbox.append([draft(good[1].id, known=good[1])._replace(body=bad.body, digest=bad.digest)]))[0].row
    assert own.retrieve(good[1].id).body == bad.body
    own.persist([row])
    assert own.waiting() == []
    fresh = WebProcess(tmp_path / "own", **quick), WebProcess(tmp_path / "own", hot_max_records=1, **quick)
    for process in (own, elsewhere, *fresh):
        assert process.listed() == shown
        assert process.stats()["count"] == 3
        assert process.retrieve(good[1].id) == good[1]


def test_poison_that_could_not_be_withdrawn_is_not_settled_so_that_it_comes_again(
    archive_db: str, redis_tier: Redis
) -> None:
    poison = poisoned(record())
    try:
        with persisting([poison], archive_db) as worker:
            redis_tier.config_set("min-replicas-to-write", "1")
        assert isinstance(worker.exception(20), RedisError)
    finally:
        redis_tier.config_set("min-replicas-to-write", "0")
    version = Version.of(poison)
    assert delivery_status([version]) == (set(), set(), set(), set())
    persistence.persist(get_store(), [poison])
    assert delivery_status([version]) == (set(), {version}, set(), set())
    assert get_store().redis_tier.find(TENANT, poison.id) is None
