"""The outbox: what was acknowledged stays, in order, until the archive has decided; and it never
takes more than it may."""

from __future__ import annotations

import gc
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest

from tests.processes import wait_until
from tests.storage.hosts import TENANT, draft, made, new_id, taken
from tests.storage.outboxes import MEBIBYTE, all_rows, append, at, locked, opened
from trajectories.domain.clock import SECOND_US
from trajectories.domain.record import Record
from trajectories.exceptions import OutboxUnavailable
from trajectories.storage.hot_fill import HIGHEST
from trajectories.storage.outbox import Outbox, Rebound
from trajectories.storage.outbox_file import OutboxFile
from trajectories.storage.outbox_rows import Appended, Draft, Row

ONE_KIB = "x" * 1024


# Stamps.


def test_stamps_go_up_when_the_clock_is_set_back_and_after_all_rows_are_gone(
    path: Path,
) -> None:
    first = append(opened(path, now_us=at(1_000)))
    outbox = opened(path, now_us=at(400))
    second = append(outbox)
    outbox.settle([first.n, second.n])
    outbox.prune(2**62)
    third = append(outbox)
    assert [first.record.stamp, second.record.stamp, third.record.stamp] == [1_000, 1_001, 1_002]
    assert all_rows(opened(path)) == [third]


def test_a_version_is_newer_than_one_from_a_host_with_a_fast_clock(
    path: Path,
) -> None:
    known = made(new_id(), 5_000, recorded_at_us=700)
    row = append(opened(path, now_us=at(1_000)), known.id, known=known, tags=["new"])
    assert (row.record.stamp, row.record.revision, row.record.recorded_at_us) == (5_001, 5_001, 700)


def test_a_version_far_ahead_of_any_clock_does_not_take_later_records_along(path: Path) -> None:
    outbox, known = opened(path, now_us=at(1_000)), made(new_id(), 2**53)
    versions = [append(outbox, known.id, known=known, tags=tags).record.stamp for tags in (["a"], ["b"])]
    assert versions == [2**53 + 1, 2**53 + 2]
    assert [append(outbox).record.recorded_at_us for _ in range(2)] == [1_000, 1_001]


def test_the_same_body_again_is_a_row_whose_stamp_alone_is_newer(path: Path) -> None:
    outbox, id_ = opened(path), new_id()
    first, again = append(outbox, id_).record, append(outbox, id_).record
    assert again.stamp > first.stamp
    assert (again.revision, again.recorded_at_us, again.body) == (first.revision, first.recorded_at_us, first.body)


def test_another_body_and_the_first_one_again_are_revisions_of_one_id(path: Path) -> None:
    outbox, id_ = opened(path), new_id()
    first, other, back = (append(outbox, id_, tags=tags).record for tags in (["a"], ["b"], ["a"]))
    assert [record.revision for record in (first, other, back)] == [first.stamp, other.stamp, back.stamp]
    assert {record.recorded_at_us for record in (first, other, back)} == {first.stamp}


def test_an_id_is_as_old_as_the_oldest_version_that_process_or_outbox_know(path: Path) -> None:
    """The outbox has a newer version, the process one that another host had taken before."""
    outbox, id_ = opened(path), new_id()
    own = append(outbox, id_, tags=["own"]).record
    known = made(id_, own.stamp - 10, tags=["other host"])
    assert append(outbox, id_, known=known, tags=["new"]).record.recorded_at_us == known.recorded_at_us


def test_a_record_is_new_if_neither_outbox_nor_process_knew_it(path: Path) -> None:
    outbox, known = opened(path), made(new_id(), 5)
    fresh = draft(new_id())
    assert [one.is_new for one in taken(outbox.append([fresh, fresh, draft(known.id, known=known)]))] == [
        True,
        False,
        False,
    ]


# Commits.


def test_drafts_of_one_commit_know_the_outcomes_of_each_version_that_their_callers_saw(path: Path) -> None:
    target, first, second = new_id(), new_id(), new_id()

    def outcome(id_: UUID, name: str, known: Record | None) -> Draft:
        said = {"id": str(id_), "name": name, "value": True, "at": "2026-01-01T00:00:00Z", "recorded_at": ""}
        return Draft(TENANT, target, id_.hex, orjson.dumps([said]), known, max_outcomes=2)

    # The hot cache was filled between the two requests, and the row of ``first`` is settled.
    known = made(target, 500).with_outcomes(outcome(first, "merged", None).body)
    drafts = [outcome(second, "a", None), outcome(first, "merged", known), outcome(first, "reverted", known)]
    drafts.append(outcome(new_id(), "b", known))
    new, same, other, more = opened(path).append(drafts)
    assert isinstance(new, Appended)
    assert new.is_new
    assert isinstance(same, Appended)
    assert not same.is_new
    assert isinstance(other, Exception)
    assert isinstance(more, Exception)


def test_marks_of_the_relay_do_not_wait_for_the_disk_and_acknowledged_rows_do(path: Path) -> None:
    outbox = Outbox(str(path), synchronous="FULL", max_bytes=2**30)
    n = append(outbox).n
    outbox.count_sent(1, is_again=False)
    outbox.settle([n])
    outbox.prune(2**62)
    modes = {kind: writer.execute("PRAGMA synchronous").fetchone()[0] for kind, writer in outbox._file._writers.items()}
    normal, full = 1, 2
    assert modes == {(True, True): full, (False, False): normal}
    outbox.delete(TENANT, [new_id()])
    assert outbox._file._writers[False, True].execute("PRAGMA synchronous").fetchone()[0] == full


def test_the_log_is_copied_while_others_write(path: Path) -> None:
    outbox = opened(path)
    append(outbox)
    with locked(path):
        outbox.copy_log()
    with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as db:  # reads no log
        assert db.execute("SELECT count(*) FROM rows").fetchone() == (1,)


def fill(outbox: Outbox) -> list[Row]:
    """Rows of one KiB until it says that it is full."""
    rows: list[Row] = []
    while True:
        drafts = [draft(new_id(), error=ONE_KIB) for _ in range(50)]
        try:
            rows += [appended.row for appended in taken(outbox.append(drafts))]
        except OutboxUnavailable:
            with pytest.raises(OutboxUnavailable) as refusal:
                outbox.append(drafts)
            assert (refusal.value.code, refusal.value.status, refusal.value.retry_after_s) == ("outbox_full", 503, 1)
            return rows


def test_a_full_outbox_refuses_whole_requests_and_keeps_its_rows(path: Path) -> None:
    outbox = opened(path, max_bytes=MEBIBYTE)
    rows = fill(outbox)
    assert 500 < len(rows) < 1_000
    assert all_rows(outbox) == rows
    assert outbox.pruned_n() == 0
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert path.stat().st_size <= MEBIBYTE


@pytest.mark.parametrize("settled", [1, 2])
def test_a_full_outbox_accepts_again_after_deliveries_with_any_clock(path: Path, settled: int) -> None:
    outbox = opened(path, max_bytes=MEBIBYTE)
    rows = fill(outbox)
    gone = rows[:: 1 if settled == 1 else 2]
    outbox.settle([row.n for row in gone])
    outbox = opened(path, max_bytes=MEBIBYTE, now_us=at(1))
    more = fill(outbox)
    assert len(more) >= len(gone) // 2
    left = {row.n for row in all_rows(outbox)}
    assert left == {row.n for row in rows + more} - {row.n for row in gone}
    assert outbox.pruned_n() == max(row.n for row in gone)


def test_every_row_of_a_full_outbox_can_be_settled(path: Path) -> None:
    """Which needs room at first: settled rows are longer, and in an index of their own. Small rows
    leave no gaps."""
    outbox = opened(path, max_bytes=MEBIBYTE)
    rows: list[Row] = []
    for group in (20, 1):  # to the last byte
        with suppress(OutboxUnavailable):
            while True:
                rows += [one.row for one in taken(outbox.append([draft(new_id()) for _ in range(group)]))]
    outbox.settle([row.n for row in rows[1:]], [rows[0].n])
    assert len(rows) > 2_000
    assert outbox.waiting(0, 1) == []
    assert {row.state for row in all_rows(outbox)} == {"confirmed", "quarantined"}


def test_it_refuses_before_the_disk_is_full_and_confirmed_rows_make_room(small_disk: Path) -> None:
    outbox = Outbox(str(small_disk / "outbox"), synchronous="FULL", max_bytes=2**30, disk_reserve_bytes=4 * MEBIBYTE)
    rows = fill(outbox)
    assert shutil.disk_usage(small_disk).free > 3 * MEBIBYTE, "room to settle in"
    assert all_rows(outbox) == rows
    for start in range(0, len(rows), 200):  # as the relay does, a few batches at a time
        outbox.settle([row.n for row in rows[start : start + 200 : 2]])
    more = fill(outbox)
    assert len(more) >= len(rows) // 4
    assert {row.n for row in all_rows(outbox)} == {row.n for row in rows[1::2] + more}


def test_a_full_disk_refuses_writes_serves_reads_and_recovers(small_disk: Path) -> None:
    outbox = Outbox(str(small_disk / "outbox"), synchronous="FULL", max_bytes=2**30, disk_reserve_bytes=0)
    first = append(outbox)
    ballast = small_disk / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4_096))
    assert shutil.disk_usage(small_disk).free == 0
    rows = [first, *fill(outbox)]  # what the log had room for
    assert all_rows(outbox) == rows
    ballast.unlink()
    rows.append(append(outbox))
    assert all_rows(outbox) == rows


# Queries of readers and the relay.


def test_rows_are_numbered_in_the_order_of_commits_and_read_from_behind_a_number(path: Path) -> None:
    outbox = opened(path)
    rows = [append(outbox) for _ in range(5)]
    assert [row.n for row in rows] == [1, 2, 3, 4, 5]
    assert opened(path).rows_after(2, 2) == rows[2:4]
    assert opened(path).last_n() == 5


def test_the_last_number_is_known_when_no_row_is_left(path: Path) -> None:
    outbox = opened(path)
    assert outbox.last_n() == 0
    append(outbox)
    outbox.settle([1])
    outbox.prune(2**62)
    assert (outbox.last_n(), opened(path).last_n()) == (1, 1)


def test_pending_rows_below_a_position_are_read_once_newest_version_first(path: Path) -> None:
    outbox = opened(path)
    old, revised, high = (append(outbox) for _ in range(3))
    newest = append(outbox, revised.record.id, tags=["new"])
    append(outbox, tenant="bob")
    assert list(outbox.waiting_below(TENANT, HIGHEST)) == [high.record, newest.record, old.record]
    assert list(outbox.waiting_below(TENANT, high.record.position)) == [newest.record, old.record]
    assert list(outbox.waiting_below(TENANT, old.record.position)) == []


def test_pending_rows_are_read_over_several_pages(path: Path) -> None:
    outbox = opened(path)
    rows = [one.row for one in taken(outbox.append([draft(new_id()) for _ in range(450)]))]
    assert list(outbox.waiting_below(TENANT, HIGHEST)) == [row.record for row in reversed(rows)]
    assert len(outbox.waiting_versions(TENANT, [row.record.id for row in rows])) == 450
    assert len(outbox.waiting_ids(TENANT)) == 450


def test_an_id_with_an_older_pending_version_stays_listed(path: Path) -> None:
    """The relay confirms batches one by one, so the newer batch may come first."""
    outbox = opened(path)
    older = append(outbox)
    newer = append(outbox, older.record.id, tags=["new"])
    outbox.settle([newer.n])
    assert outbox.waiting_ids(TENANT) == [older.record.id]
    assert list(outbox.waiting_below(TENANT, HIGHEST)) == [older.record]
    assert outbox.waiting_versions(TENANT, [older.record.id]) == {older.record.id: [older.record]}
    assert outbox.versions(TENANT, older.record.id) == [older.record, newer.record]


def test_a_refused_version_is_counted_and_no_longer_listed(path: Path) -> None:
    outbox = opened(path)
    good = append(outbox)
    poison = append(outbox, good.record.id, tags=["poison"])
    outbox.settle([], [poison.n])
    assert outbox.versions(TENANT, good.record.id) == [good.record]
    assert list(outbox.waiting_below(TENANT, HIGHEST)) == [good.record]
    assert opened(path).quarantines() == 1
    again = append(outbox, good.record.id, tags=["a"]).record
    assert again.revision == again.stamp


def test_pending_rows_up_to_a_number_ignore_later_rows_and_other_tenants(
    path: Path,
) -> None:
    outbox = opened(path)
    other, own, later = append(outbox, tenant="bob"), append(outbox), append(outbox)
    assert outbox.has_waiting(TENANT, own.n)
    outbox.settle([own.n])
    assert not outbox.has_waiting(TENANT, own.n)
    assert outbox.has_waiting(TENANT, later.n)
    assert outbox.waiting(0, 10) == [other, later]
    assert outbox.waiting(other.n, 10) == [later]


def test_within_a_snapshot_nothing_moves_and_after_it_everything_is_seen(path: Path) -> None:
    outbox = opened(path)
    first = append(outbox)
    with outbox.snapshot():
        assert outbox.waiting_ids(TENANT) == [first.record.id]
        outbox.settle([first.n])
        append(outbox)
        assert list(outbox.waiting_below(TENANT, HIGHEST)) == [first.record]
        assert outbox.last_n() == first.n
    assert first.record.id not in outbox.waiting_ids(TENANT)
    assert outbox.last_n() == first.n + 1


class ExplainedFile(OutboxFile):
    """Keeps SQLite's plan of every question."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), synchronous="NORMAL", max_bytes=2**30, disk_reserve_bytes=0)
        self.plans: list[str] = []

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        if sql.startswith("SELECT"):
            self.plans += [step[3] for step in super().read("EXPLAIN QUERY PLAN " + sql, values)]
        return super().read(sql, values)


def test_no_question_looks_at_rows_that_it_does_not_ask_for(path: Path) -> None:
    """Confirmed rows stay for minutes, so queries for waiting rows must not read them."""
    outbox, id_ = opened(path), new_id()
    row = append(outbox, id_)
    file = outbox._file = ExplainedFile(path)
    asked: list[Callable[[], Any]] = [
        lambda: outbox.rows_after(0, 10),
        lambda: outbox.waiting(0, 10),
        lambda: outbox.has_waiting(TENANT, row.n),
        lambda: list(outbox.waiting_below(TENANT, HIGHEST)),
        lambda: outbox.waiting_ids(TENANT),
        lambda: outbox.waiting_versions(TENANT, [id_]),
        lambda: outbox.versions(TENANT, id_),
    ]
    found = []
    for ask in asked:
        file.plans.clear()
        assert ask()
        found.append(file.plans[0].replace("COVERING ", ""))
    assert found == [
        "SEARCH rows USING INTEGER PRIMARY KEY (rowid>?)",
        "SEARCH rows USING INDEX rows_waiting (n>?)",
        "SEARCH rows USING INDEX rows_waiting (n<?)",
        "SEARCH rows USING INDEX rows_waiting_by_position (tenant=? AND (recorded_at_us,id)<(?,?))",
        "SEARCH rows USING INDEX rows_waiting_by_position (tenant=?)",
        "SEARCH rows USING INDEX rows_by_id (tenant=? AND id=?)",
        "SEARCH rows USING INDEX rows_by_id (tenant=? AND id=?)",
    ]


# Pruning.


def test_rows_stay_for_a_while_after_they_are_settled_and_as_long_as_they_wait(
    path: Path,
) -> None:
    outbox = opened(path)
    rows = [append(outbox) for _ in range(4)]
    for row, settled_s in ((rows[0], 10), (rows[2], 20)):
        opened(path, now_us=at(settled_s * SECOND_US)).settle([row.n])
    assert outbox.prune(9 * SECOND_US) == 0
    assert outbox.prune(10 * SECOND_US) == 1
    assert [row.n for row in all_rows(outbox)] == [2, 3, 4]
    assert outbox.pruned_n() == 1
    assert outbox.prune(10**15) == 1
    assert [row.n for row in all_rows(outbox)] == [2, 4]
    assert opened(path).pruned_n() == 3


def test_the_file_shrinks_after_its_rows_are_gone(path: Path) -> None:
    outbox = opened(path)
    rows = [one.row for one in taken(outbox.append([draft(new_id(), error=10 * ONE_KIB) for _ in range(600)]))]
    outbox.settle([row.n for row in rows])

    def size() -> int:
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return path.stat().st_size

    assert size() > 6 * MEBIBYTE
    assert outbox.prune(2**62) == 600
    assert outbox.prune(2**62) == 0
    # Little by little, and also in calls that have nothing left to delete.
    wait_until(lambda: outbox.prune(2**62) or size() < MEBIBYTE // 4, what="the file is small")


def test_a_file_that_was_bound_to_another_store_accepts_nothing_of_the_former_one(path: Path) -> None:
    outbox = opened(path)
    outbox.bind("0123456789ab")
    assert len(taken(outbox.append([draft(new_id())], store="0123456789ab"))) == 1
    outbox.bind("ba9876543210", is_forced=True)
    with pytest.raises(Rebound) as refusal:
        outbox.append([draft(new_id())], store="0123456789ab")
    assert (refusal.value.status, refusal.value.code) == (503, "store_mismatch")
    assert outbox.last_n() == 1
    assert len(taken(outbox.append([draft(new_id())], store="ba9876543210"))) == 1
    outbox.close()


def test_an_outbox_that_is_dropped_without_being_closed_keeps_no_file_open(path: Path) -> None:
    append(opened(path))
    gc.collect()
    files = [str(file.resolve()) for file in Path("/proc/self/fd").iterdir()]
    assert not [file for file in files if file.startswith(str(path))]
