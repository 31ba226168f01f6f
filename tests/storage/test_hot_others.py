"""The hot cache and what other hosts have persisted: it follows their feed, and a fill misses
nothing on its way to the archive."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis import Redis

from tests.storage.away import archive_away
from tests.storage.hosts import QUICK, TENANT, WebProcess, made, new_id
from tests.storage.test_hot import ids
from trajectories import persistence
from trajectories.domain import answers
from trajectories.domain.clock import now_us
from trajectories.domain.query import parse_query
from trajectories.domain.record import tombstone
from trajectories.exceptions import ArchiveUnavailable
from trajectories.storage.archive_errors import ArchiveError
from trajectories.storage.archive_writes import mirror
from trajectories.storage.redis_tier import FeedMark, RedisTier
from trajectories.storage.store import get_store

# Following other hosts.


def test_records_that_another_host_persisted_are_in_the_next_read(
    archive_db: str, redis_tier: Redis, own: WebProcess, other_host: WebProcess
) -> None:
    persistence.rebuild(get_store())
    assert own.ids() == []
    record = other_host.record()
    assert own.ids() == []
    other_host.persist()
    assert own.listed() == [answers.item(record)]
    revised = other_host.record(id=str(record.id), tags=["revised"])
    other_host.persist()
    assert own.listed() == [answers.item(revised)]
    assert own.list().tiers == ["hot", "redis"]
    assert own.list().is_complete


def test_the_answer_is_not_called_complete_until_a_wiped_redis_was_rebuilt(
    archive_db: str, redis_tier: Redis, own: WebProcess, other_host: WebProcess
) -> None:
    persistence.rebuild(get_store())
    record = other_host.record()
    with archive_away(), pytest.raises(ArchiveError):
        other_host.persist()
    assert (own.ids(), own.list().is_complete) == ([record.id], True)
    redis_tier.flushdb()
    # Nobody but the other host has it now. Whoever had seen it goes on showing it; who comes now cannot know.
    assert (own.ids(), own.list().is_complete) == ([record.id], False)
    assert own.window()["complete"] is False
    own.restart()
    assert (own.ids(), own.list().is_complete) == ([], False)
    other_host.persist()
    persistence.rebuild(get_store())
    assert (own.ids(), own.list().is_complete) == ([record.id], True)


def test_the_feed_is_asked_no_more_often_than_the_setting_says(
    archive_db: str, redis_tier: Redis, tmp_path: Path, other_host: WebProcess
) -> None:
    persistence.rebuild(get_store())
    seldom = WebProcess(tmp_path / "own", **QUICK | {"feed_poll_s": 3_600.0})
    assert seldom.ids() == []
    other_host.record()
    other_host.persist()
    assert seldom.ids() == []
    assert seldom.list().is_complete


def test_a_new_epoch_causes_a_refill(archive_db: str, redis_tier: Redis, own: WebProcess) -> None:
    assert own.ids() == []
    record = made(new_id(), 5)
    mirror([record])  # in the archive, without a word in the feed
    assert own.ids() == []
    persistence.rebuild(get_store())
    assert own.ids() == [record.id]


def test_a_fill_reads_from_the_archive_the_records_that_redis_lacks(
    archive_db: str, redis_tier: Redis, tmp_path: Path, other_host: WebProcess
) -> None:
    records = [other_host.record(tags=[str(number)]) for number in range(6)]
    other_host.persist()
    persistence.rebuild(get_store())
    redis_tier.delete(*redis_tier.keys(f"*{records[2].id}"))
    for size in (2, 4, 10):
        process = WebProcess(tmp_path / f"own{size}", hot_max_records=size, **QUICK)
        assert process.ids() == ids(*records)
        assert process.hot.size[0] == min(size, 6)


@pytest.mark.parametrize("is_archived", [True, False])
def test_below_a_withdrawn_version_a_fill_shows_records_in_flight(
    archive_db: str, redis_tier: Redis, own: WebProcess, other_host: WebProcess, is_archived: bool
) -> None:
    persistence.rebuild(get_store())
    on_its_way, replaced = other_host.record(), other_host.record()
    get_store().redis_tier.merge([on_its_way], from_authority=False)
    if is_archived:
        other_host.persist(other_host.waiting()[1:])
    poison = other_host.record(id=str(replaced.id), tags=["poison"])
    get_store().redis_tier.merge([poison], from_authority=False)
    get_store().redis_tier.withdraw(poison, has_older=is_archived)
    assert own.ids() == (ids(replaced, on_its_way) if is_archived else [on_its_way.id])


@pytest.mark.parametrize("size", [3, 4, 6])
def test_an_old_record_with_a_withdrawn_version_does_not_lower_the_floor(
    archive_db: str, redis_tier: Redis, tmp_path: Path, other_host: WebProcess, size: int
) -> None:
    old = made(new_id(), 1)  # so old that Redis has it no more
    mirror([old])
    persistence.rebuild(get_store())
    records = [other_host.record() for _ in range(5)]
    other_host.persist()
    poison = other_host.record(id=str(old.id), tags=["poison"])
    get_store().redis_tier.merge([poison], from_authority=False)
    get_store().redis_tier.withdraw(poison, has_older=True)
    small = WebProcess(tmp_path / "own", hot_max_records=size, **QUICK)
    assert small.ids() == ids(old, *records)
    assert small.stats()["count"] == 6


def test_records_in_flight_are_listed_after_a_fill_without_the_archive(
    archive_db: str, redis_tier: Redis, own: WebProcess, other_host: WebProcess
) -> None:
    persistence.rebuild(get_store())
    on_its_way, archived = other_host.record(), other_host.record()
    get_store().redis_tier.merge([on_its_way], from_authority=False)
    other_host.persist(other_host.waiting()[1:])
    redis_tier.delete(*redis_tier.keys(f"*{archived.id}"))
    with archive_away(), pytest.raises(ArchiveUnavailable):
        own.list()
    page = own.list()
    assert (sorted(page.records, key=lambda one: one.stamp), page.is_complete) == ([on_its_way, archived], True)


def test_an_untrusted_redis_is_not_filled_from(archive_db: str, redis_tier: Redis, own: WebProcess) -> None:
    records = [made(new_id(), stamp) for stamp in (1, 2)]
    mirror(records)
    get_store().redis_tier.merge(records[1:], from_authority=True)
    assert not get_store().redis_tier.is_trusted()
    assert own.ids() == ids(*records)


def test_a_record_that_the_archive_places_below_the_floor_stays_listed(
    archive_db: str, redis_tier: Redis, tmp_path: Path, other_host: WebProcess
) -> None:
    """A host that has forgotten an id takes it for new; Redis says how old it is before the archive
    has the new version."""
    old = other_host.record(tags=["old"])
    newer = [other_host.record() for _ in range(3)]
    other_host.persist()
    small = WebProcess(tmp_path / "own", hot_max_records=2, **QUICK)
    small.list()
    again = small.record(id=str(old.id), tags=["again"])
    get_store().redis_tier.merge([again], from_authority=False)
    assert small.ids() == ids(old, *newer)
    assert small.stats()["count"] == 4
    assert small.retrieve(old.id).body == again.body
    assert small.ids(parse_query({"tag": "old"}, now_us=0)) == []
    small.persist()
    assert small.ids(parse_query({"tag": "again"}, now_us=0)) == [old.id]


def test_below_the_floor_too_an_id_has_its_place_where_the_archive_knows_it_from(
    archive_db: str, tmp_path: Path
) -> None:
    old, between = made(new_id(), 1, tags=["old"]), made(new_id(), 2)
    mirror([old, between])
    small = WebProcess(tmp_path / "own", hot_max_records=2, **QUICK)
    own = small.record()
    again = small.record(id=str(old.id), tags=["again"])
    newer = [small.record() for _ in range(3)]
    assert small.ids() == ids(old, between, own, *newer)
    assert small.stats()["count"] == 6
    assert small.ids(parse_query({"tag": "old"}, now_us=0)) == []
    assert small.retrieve(old.id).body == again.body


def test_an_id_keeps_the_position_that_this_host_knows(
    archive_db: str, redis_tier: Redis, tmp_path: Path, other_host: WebProcess
) -> None:
    small = WebProcess(tmp_path / "own", hot_max_records=2, **QUICK)
    first = small.record()
    newer = [small.record() for _ in range(3)]
    small.list()
    theirs = other_host.record(id=str(first.id), tags=["theirs"])
    other_host.persist()
    for _ in range(2):  # as it follows, and as it fills
        assert small.ids() == ids(first, *newer)
        assert small.stats()["count"] == 4
        assert small.retrieve(first.id).body == theirs.body
        small.restart()


# A fill while something is between Redis and the archive.


def test_an_old_record_that_is_being_deleted_does_not_stay(
    archive_db: str, redis_tier: Redis, own: WebProcess, other_host: WebProcess
) -> None:
    old = made(new_id(), 1)  # so old that Redis has it no more
    mirror([old])
    persistence.rebuild(get_store())
    grave = tombstone(TENANT, old.id, now_us())
    get_store().redis_tier.delete([grave])
    assert own.ids() == []
    persistence.persist(get_store(), [grave])
    assert own.ids() == other_host.ids() == []


def test_an_old_record_that_is_being_revised_is_shown_as_it_will_be(
    archive_db: str, redis_tier: Redis, own: WebProcess, other_host: WebProcess
) -> None:
    old = made(new_id(), 1)
    mirror([old])
    persistence.rebuild(get_store())
    assert other_host.ids() == [old.id]
    revised = other_host.record(id=str(old.id), tags=["revised"])
    get_store().redis_tier.merge([revised], from_authority=False)
    assert own.list().records == [revised]
    other_host.persist()
    assert own.list().records == [revised]


def test_records_below_a_fill_are_listed_once_they_are_archived(
    archive_db: str, redis_tier: Redis, tmp_path: Path, other_host: WebProcess
) -> None:
    old = made(new_id(), 1)
    mirror([old])
    persistence.rebuild(get_store())
    on_its_way, newest = other_host.record(), other_host.record()
    poison = other_host.record(id=str(old.id), tags=["poison"])
    get_store().redis_tier.merge([on_its_way, newest, poison], from_authority=False)
    get_store().redis_tier.withdraw(poison, has_older=True)
    small = WebProcess(tmp_path / "own", hot_max_records=2, **QUICK)
    assert small.ids() == ids(old, newest)
    other_host.persist(other_host.waiting()[:2])
    assert small.ids() == ids(old, on_its_way, newest)


def test_a_redis_that_is_wiped_in_the_middle_of_a_fill_hides_nothing(
    archive_db: str, redis_tier: Redis, tmp_path: Path, other_host: WebProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [other_host.record() for _ in range(3)]
    other_host.persist()
    persistence.rebuild(get_store())
    process = WebProcess(tmp_path / "own", **QUICK | {"archive_retry_s": 60.0})
    mark = RedisTier.mark

    def wiped_after(it: RedisTier, tenant: str) -> FeedMark:
        monkeypatch.undo()
        found = mark(it, tenant)
        redis_tier.flushdb()
        return found

    monkeypatch.setattr(RedisTier, "mark", wiped_after)
    page = process.list()
    assert ([one.id for one in page.records], page.is_complete) == (ids(*records), False)
