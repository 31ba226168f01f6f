"""Callers that write to the outbox at the same time share one commit."""

from __future__ import annotations

import signal
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest

from tests.processes import wait_until
from tests.storage.hosts import draft, new_id, taken
from tests.storage.outboxes import MEBIBYTE, all_rows, append, locked, opened
from trajectories.exceptions import OutboxUnavailable
from trajectories.storage.outbox import Outbox
from trajectories.storage.outbox_file import OutboxFile
from trajectories.storage.outbox_rows import Appended


class CountedFile(OutboxFile):
    """Counts the commits of records."""

    commits = 0

    @contextmanager
    def transaction(self, *, is_limited: bool = False, is_durable: bool = True) -> Iterator[sqlite3.Connection]:
        self.commits += is_limited
        with super().transaction(is_limited=is_limited, is_durable=is_durable) as db:
            yield db


def test_threads_that_wait_for_the_disk_share_one_commit_and_each_gets_its_own_rows(path: Path) -> None:
    outbox = opened(path)
    append(outbox)
    file = outbox._file = CountedFile(str(path), synchronous="NORMAL", max_bytes=2**30, disk_reserve_bytes=0)
    groups = [[draft(new_id()) for _ in range(size)] for size in range(1, 9)]
    with ThreadPoolExecutor(len(groups)) as pool:
        with locked(path):
            first = pool.submit(outbox.append, groups[0])
            wait_until(lambda: file.commits == 1, what="the first waits for the file")
            others = [pool.submit(outbox.append, group) for group in groups[1:]]
            wait_until(lambda: outbox._appends.waiting() == len(others), what="the others wait for the first")
        results = [future.result() for future in (first, *others)]
    assert file.commits == 2
    for group, result in zip(groups, map(taken, results), strict=True):
        assert [appended.row.record.id for appended in result] == [one.id for one in group]
        assert [appended.row.n - result[0].row.n for appended in result] == list(range(len(group)))
    rows = all_rows(outbox)
    assert len(rows) == 1 + sum(map(len, groups))
    assert [row.record.stamp for row in rows] == sorted({row.record.stamp for row in rows})


class HeldFile(OutboxFile):
    """Holds each commit until it is let through."""

    def __init__(self, path: Path, commits: int) -> None:
        super().__init__(str(path), synchronous="NORMAL", max_bytes=2**30, disk_reserve_bytes=0)
        self.begun, self.gates = 0, [threading.Event() for _ in range(commits)]

    @contextmanager
    def transaction(self, *, is_limited: bool = False, is_durable: bool = True) -> Iterator[sqlite3.Connection]:
        gate = self.gates[self.begun]
        self.begun += 1
        assert gate.wait(20)
        with super().transaction(is_limited=is_limited, is_durable=is_durable) as db:
            yield db


def are_waiting(outbox: Outbox, callers: int) -> bool:
    return outbox._appends.waiting() == callers


class Interrupted(BaseException):
    """What a signal raises, such as Ctrl-C."""


@contextmanager
def interrupted_in(seconds: float) -> Iterator[None]:
    """Raise in this thread, the main one, after ``seconds``."""

    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_an_interrupted_caller_that_waits_leaves_the_turn_to_others(path: Path) -> None:
    outbox = opened(path)
    append(outbox)
    file = outbox._file = HeldFile(path, 3)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(outbox.append, [draft(new_id())])
        wait_until(lambda: file.begun == 1, what="a commit has begun")
        with pytest.raises(Interrupted), interrupted_in(0.1):
            outbox.append([draft(new_id())])
        for gate in file.gates:
            gate.set()
        assert len(taken(first.result(20))) == 1
        assert len(taken(pool.submit(outbox.append, [draft(new_id())]).result(20))) == 1
    assert len(all_rows(outbox)) == 3


def test_an_interrupted_commit_accepts_nothing_and_lets_the_next_one_commit(path: Path) -> None:
    outbox = opened(path)
    append(outbox)
    file = outbox._file = HeldFile(path, 3)
    file.gates[0].set()
    assert len(taken(outbox.append([draft(new_id())]))) == 1
    with ThreadPoolExecutor(1) as pool:
        waiting: list[Future[list[Appended | Exception]]] = []

        def wait_for_this_thread() -> None:
            wait_until(lambda: file.begun == 2, what="a commit has begun")
            waiting.append(other.submit(outbox.append, [draft(new_id())]))

        with ThreadPoolExecutor(1) as other:
            begun = pool.submit(wait_for_this_thread)
            with pytest.raises(Interrupted), interrupted_in(0.3):
                outbox.append([draft(new_id())])
            begun.result(20)
            file.gates[2].set()
            assert len(taken(waiting[0].result(20))) == 1
    assert len(all_rows(outbox)) == 3


def test_callers_of_an_interrupted_commit_are_refused(path: Path) -> None:
    outbox = opened(path)
    append(outbox)
    file = outbox._file = HeldFile(path, 3)
    with ThreadPoolExecutor(1) as pool:
        # The main thread commits for itself and for another one, which has queued before it.
        outbox._appends._is_committing = True
        other = pool.submit(outbox.append, [draft(new_id())])
        wait_until(partial(are_waiting, outbox, 1), what="it waits")
        outbox._appends._is_committing = False
        with pytest.raises(Interrupted), interrupted_in(0.1):
            outbox.append([draft(new_id())])
        with pytest.raises(OutboxUnavailable, match="interrupted"):
            other.result(20)
    file.gates[1].set()
    assert len(taken(outbox.append([draft(new_id())]))) == 1
    assert len(all_rows(outbox)) == 2


def test_a_caller_whose_rows_are_committed_does_not_wait_for_the_next_commit(path: Path) -> None:
    outbox = opened(path)
    append(outbox)
    file = outbox._file = HeldFile(path, 3)
    with ThreadPoolExecutor(7) as pool:
        groups: list[list[Future[list[Appended | Exception]]]] = []
        for size, gate in ((1, None), (4, 0), (2, 1)):
            groups.append([pool.submit(outbox.append, [draft(new_id())]) for _ in range(size)])
            if gate is not None:
                wait_until(partial(are_waiting, outbox, size), what="they wait together")
                file.gates[gate].set()
            wait_until(lambda: file.begun == len(groups), what="a commit has begun")
        for future in groups[0] + groups[1]:  # while the third commit waits
            assert len(taken(future.result(20))) == 1
        assert not any(future.done() for future in groups[2])
        file.gates[2].set()
    assert len(all_rows(outbox)) == 8


def test_an_unexpected_error_of_a_commit_reaches_all_its_callers_and_later_ones_go_on(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = opened(path)
    append(outbox)
    with ThreadPoolExecutor(3) as pool, monkeypatch.context() as patch:
        patch.setattr("trajectories.storage.outbox_rows.insert_all", Mock(side_effect=RuntimeError("a defect")))
        with locked(path):
            futures = [pool.submit(outbox.append, [draft(new_id())]) for _ in range(3)]
            wait_until(lambda: outbox._appends.waiting() >= 2, what="two wait together")
        assert [str(future.exception(20)) for future in futures] == ["a defect"] * 3
    append(outbox)
    assert len(all_rows(outbox)) == 2


def test_a_failed_commit_fails_for_its_callers_only(path: Path) -> None:
    outbox = opened(path, max_bytes=MEBIBYTE)
    append(outbox)
    too_much = [draft(new_id(), error="x" * MEBIBYTE)]
    with ThreadPoolExecutor(3) as pool:
        with locked(path):
            futures = [pool.submit(outbox.append, too_much) for _ in range(3)]
            wait_until(lambda: outbox._appends.waiting() >= 2, what="two wait together")
        errors = [future.exception() for future in futures]
    assert [type(error) for error in errors] == [OutboxUnavailable] * 3
    assert len({id(error) for error in errors}) == 3
    append(outbox)
    assert len(all_rows(outbox)) == 2


# The size limit.
