"""Records of callers that did not get the lock of the background queue: they wait in memory."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast
from uuid import uuid4

import pytest
from conftest import MakeQueue, ids, send_all, trajectory

from tests.processes import wait_until
from tests.storage.forks import exit_code_of_child
from trajectories_sdk import BackgroundQueue, background
from trajectories_sdk.spool import FileSegment, Line
from trajectories_sdk.testing import InMemoryServer

pytestmark = pytest.mark.usefixtures("retry_at_once", "enqueue_waits")


@contextmanager
def held(queue: BackgroundQueue) -> Iterator[None]:
    """Another thread has the lock of the queue, and callers do not wait for it."""
    with pytest.MonkeyPatch.context() as patch, queue._lock:
        patch.setattr(background, "MAX_WAIT_S", 0)
        yield


@contextmanager
def no_new_threads() -> Iterator[None]:
    """The process may have no more threads."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        yield


def test_records_of_callers_without_the_lock_are_stored_though_none_comes_later(
    server: InMemoryServer, make_queue: MakeQueue
) -> None:
    queue = make_queue(linger_s=600)
    with held(queue):
        sent = [queue.enqueue(trajectory()) for _ in range(5)]
        queue.enqueue(cast("Any", None))
    wait_until(lambda: queue.counters.spooled == 5 and queue.counters.refused == 1)
    assert (queue.counters.waiting, queue.counters.dropped) == (5, 0)
    send_all(queue)
    assert ids(server) == sent


def test_a_record_waits_in_memory_while_another_is_written_to_a_hanging_disk(
    server: InMemoryServer, make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_writing, may_write = threading.Event(), threading.Event()
    append = FileSegment.append

    def hang(segment: FileSegment, line: Line) -> None:
        is_writing.set()
        assert may_write.wait(120)
        append(segment, line)

    queue = make_queue(linger_s=600)
    sent = [queue.enqueue(trajectory())]
    monkeypatch.setattr(FileSegment, "append", hang)
    stuck = threading.Thread(target=lambda: sent.append(queue.enqueue(trajectory())))
    stuck.start()
    assert is_writing.wait(120)
    monkeypatch.setattr(background, "MAX_WAIT_S", 0.001)
    later = [queue.enqueue(trajectory()) for _ in range(3)]
    assert not queue.flush(0.001)
    queue.close(0.001)
    may_write.set()
    stuck.join()
    wait_until(lambda: queue.counters.spooled == 5)
    send_all(queue)
    assert ids(server) == sent + later


def test_a_deferred_version_is_stored_before_a_later_one(server: InMemoryServer, queue: BackgroundQueue) -> None:
    id_ = uuid4()
    with no_new_threads():
        with held(queue):
            queue.enqueue(trajectory(id=id_, error="1"))
            queue.enqueue(trajectory(id=id_, error="2"))
        assert (queue.counters.waiting, queue.counters.spooled) == (1, 0)
        queue.enqueue(trajectory(id=id_, error="3"))
        assert (queue.counters.waiting, queue.counters.spooled) == (1, 1)
        with held(queue):
            queue.enqueue(trajectory(id=id_, error="4"))
        assert queue.counters.waiting == 1
    send_all(queue)
    assert [record.error for record in server.records] == ["4"]


def test_a_caller_whose_time_is_over_does_not_write_what_others_deferred(
    server: InMemoryServer, make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = make_queue(linger_s=600)
    with no_new_threads():
        with held(queue):
            sent = [queue.enqueue(trajectory())]
        with monkeypatch.context() as patch:
            patch.setattr(background, "MAX_WAIT_S", 0)
            sent.append(queue.enqueue(trajectory()))
        assert (queue.counters.waiting, queue.counters.spooled) == (2, 0)
    sent.append(queue.enqueue(trajectory()))
    wait_until(lambda: queue.counters.spooled == 3)
    send_all(queue)
    assert ids(server) == sent


@pytest.mark.parametrize("end", ["flush", "close", "flush_at_exit"])
def test_the_end_sends_records_that_no_thread_has_stored(
    server: InMemoryServer, queue: BackgroundQueue, end: str
) -> None:
    with no_new_threads(), held(queue):
        id_ = queue.enqueue(trajectory())
    getattr(queue, end)(30)
    assert ids(server) == [id_]


@pytest.mark.parametrize("limit", [{"max_records": 2}, {"max_bytes": 300}])
def test_records_above_the_limits_of_memory_are_dropped_and_counted(
    server: InMemoryServer, make_queue: MakeQueue, caplog: pytest.LogCaptureFixture, limit: dict[str, int]
) -> None:
    queue = make_queue(linger_s=600, **limit)
    with held(queue):
        sent = [queue.enqueue(trajectory()) for _ in range(4)]
    wait_until(lambda: queue.counters.spooled == 2)
    assert (queue.counters.waiting, queue.counters.dropped) == (2, 2)
    assert caplog.text.count("New records are dropped") == 1
    send_all(queue)
    with held(queue):
        sent[2:] = [queue.enqueue(trajectory())]
    wait_until(lambda: queue.counters.spooled == 1)
    send_all(queue)
    assert ids(server) == sent


def test_a_child_leaves_deferred_records_to_its_parent(server: InMemoryServer, make_queue: MakeQueue) -> None:
    queue = make_queue(linger_s=600)
    with held(queue):
        id_ = queue.enqueue(trajectory())

        def child() -> None:
            assert queue.counters.waiting == 0
            send_all(queue)
            os._exit(0 if ids(server) == [] else 1)

        assert exit_code_of_child(child) == 0
    send_all(queue)
    assert ids(server) == [id_]
