"""The background queue: delivery, outages, limits and its thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from conftest import MakeQueue, ids, send_all, trajectory
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.processes import wait_until
from tests.storage.forks import exit_code_of_child
from trajectories_sdk import BackgroundQueue, Client, background
from trajectories_sdk.spool import MAX_SEGMENT_RECORDS
from trajectories_sdk.testing import InMemoryServer

pytestmark = pytest.mark.usefixtures("retry_at_once", "enqueue_waits")


class HangingServer(httpx2.BaseTransport):
    """A server that responds only when the test allows it."""

    def __init__(self, server: InMemoryServer) -> None:
        self._server = server
        self.has_request = threading.Event()
        self.may_answer = threading.Event()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.has_request.set()
        assert self.may_answer.wait(120)
        return self._server.handle_request(request)


# --- Sending


def test_records_arrive_in_one_request(server: InMemoryServer, queue: BackgroundQueue) -> None:
    sent = [queue.enqueue(trajectory()) for _ in range(20)]
    send_all(queue)
    assert ids(server) == sent
    assert len(server.requests) == 1
    assert (queue.counters.sent, queue.counters.waiting, queue.counters.spooled) == (20, 0, 0)


def test_records_arrive_without_a_flush(server: InMemoryServer, make_queue: MakeQueue) -> None:
    queue = make_queue(linger_s=0.01)
    id_ = queue.enqueue(trajectory())
    wait_until(lambda: queue.counters.sent)
    assert ids(server) == [id_]


def test_more_than_a_segment_holds_arrives_in_order(server: InMemoryServer, queue: BackgroundQueue) -> None:
    sent = [queue.enqueue(trajectory()) for _ in range(2 * MAX_SEGMENT_RECORDS + 1)]
    send_all(queue)
    assert ids(server) == sent


def test_versions_of_an_id_that_wait_are_sent_as_the_newest(server: InMemoryServer, queue: BackgroundQueue) -> None:
    id_ = uuid4()
    for number in range(5):
        queue.enqueue(trajectory(id=id_, error=str(number)))
    assert queue.counters.waiting == 1
    send_all(queue)
    assert (server.records[0].error, queue.counters.sent) == ("4", 1)


def test_a_version_is_sent_while_an_older_one_is_in_flight(server: InMemoryServer, make_queue: MakeQueue) -> None:
    held = HangingServer(server)
    queue = make_queue(transport=held, linger_s=0)
    id_ = queue.enqueue(trajectory(error="old"))
    assert held.has_request.wait(120)
    queue.enqueue(trajectory(id=id_, error="new"))
    held.may_answer.set()
    send_all(queue)
    assert [record.error for record in server.records] == ["new"]


def test_a_refused_record_holds_up_no_other_and_is_not_sent_again(
    server: InMemoryServer, queue: BackgroundQueue, caplog: pytest.LogCaptureFixture
) -> None:
    deleted = queue.enqueue(trajectory())
    send_all(queue)
    server.client().trajectories.delete(deleted)
    seen = len(server.requests)
    good = [queue.enqueue(trajectory()), queue.enqueue(trajectory(id=deleted)), queue.enqueue(trajectory())]
    del good[1]
    send_all(queue)
    send_all(queue)
    assert ids(server) == good
    assert len(server.requests) == seen + 1
    assert (queue.counters.sent, queue.counters.refused) == (3, 1)
    assert caplog.text.count("The server refused 1 records") == 1


@pytest.mark.parametrize("bad", [7, None, [trajectory()], object()])
def test_an_invalid_record_is_refused_without_an_exception(
    server: InMemoryServer, queue: BackgroundQueue, bad: Any
) -> None:
    queue.enqueue(bad)
    good = queue.enqueue(trajectory())
    send_all(queue)
    assert ids(server) == [good]
    assert queue.counters.refused == 1


def test_a_record_is_kept_as_it_was_when_it_was_enqueued(server: InMemoryServer, queue: BackgroundQueue) -> None:
    record = trajectory(tags=["a"])
    queue.enqueue(record)
    record["tags"].append("b")
    send_all(queue)
    assert server.records[0].tags == ["a"]


# --- Outages


def test_records_enqueued_during_an_outage_arrive_later_and_once(
    server: InMemoryServer, queue: BackgroundQueue, caplog: pytest.LogCaptureFixture
) -> None:
    server.drop_next(times=2)
    server.fail_next(503)
    sent = [queue.enqueue(trajectory()) for _ in range(10)]
    send_all(queue)
    assert ids(server) == sent
    assert queue.counters.sent == 10
    assert caplog.text.count("Records wait because") == 1


def test_an_answer_that_is_lost_makes_no_record_twice(server: InMemoryServer, make_queue: MakeQueue) -> None:
    class Deaf(httpx2.BaseTransport):
        has_lost = False

        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            answer = server.handle_request(request)
            if not self.has_lost:
                self.has_lost = True
                raise httpx2.ReadError("cut")
            return answer

    queue = make_queue(transport=Deaf())
    sent = [queue.enqueue(trajectory()) for _ in range(3)]
    send_all(queue)
    assert ids(server) == sent
    assert [record.revision for record in server.records] == [
        int(record.recorded_at.timestamp() * 1e6 + 0.5) for record in server.records
    ]


@pytest.mark.parametrize(("status", "code"), [(503, "unavailable"), (429, "not_read"), (403, "quota_exceeded")])
def test_lines_that_the_server_could_not_store_or_did_not_read_or_has_no_room_for_are_sent_again_alone(
    make_queue: MakeQueue, status: int, code: str
) -> None:
    seen: list[list[bytes]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        lines = request.read().splitlines()
        seen.append(lines)
        error = {"type": "server_error", "code": code, "message": "Not now"}
        results: list[dict[str, object]] = [{"line": number, "status": 201} for number, _ in enumerate(lines, 1)]
        if len(seen) == 1:
            results[1] = {"line": 2, "status": status, "error": error}
        return httpx2.Response(200, json={"accepted": 0, "refused": 0, "results": results})

    queue = make_queue(transport=httpx2.MockTransport(answer))
    for _ in range(3):
        queue.enqueue(trajectory())
    send_all(queue)
    assert seen[1] == [seen[0][1]]
    assert (queue.counters.sent, queue.counters.refused) == (3, 0)


def test_a_flush_tells_that_the_server_is_away(server: InMemoryServer, queue: BackgroundQueue) -> None:
    server.drop_next(times=1_000)
    queue.enqueue(trajectory())
    assert not queue.flush(0.05)
    assert queue.counters.waiting == 1
    server.clear()
    send_all(queue)


def test_a_flush_returns_at_once_when_the_server_asks_for_a_long_wait(
    server: InMemoryServer, queue: BackgroundQueue
) -> None:
    server.fail_next(429, retry_after_s=3_000)
    queue.enqueue(trajectory())
    assert not queue.flush(600)
    assert not queue.flush(600)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_bad_key_or_address_costs_no_record_and_is_not_hammered_on(
    server: InMemoryServer, make_queue: MakeQueue, status: int
) -> None:
    server.fail_next(status)
    queue = make_queue()
    id_ = queue.enqueue(trajectory())
    assert not queue.flush(60)
    queue.close()
    assert len(server.requests) == 1
    assert (queue.counters.refused, queue.counters.spooled) == (0, 1)
    send_all(make_queue())
    assert ids(server) == [id_]


def test_enqueue_does_not_wait_for_a_hanging_server(server: InMemoryServer, make_queue: MakeQueue) -> None:
    held = HangingServer(server)
    queue = make_queue(transport=held, linger_s=0)
    sent = [queue.enqueue(trajectory())]
    assert held.has_request.wait(120)
    sent += [queue.enqueue(trajectory()) for _ in range(1_000)]
    assert queue.counters.waiting == 1_001
    queue.close(0.05)  # bounded, though the request is not over
    held.may_answer.set()
    send_all(queue)
    assert ids(server) == sent


def test_at_the_end_of_the_process_one_failed_attempt_is_enough(server: InMemoryServer, queue: BackgroundQueue) -> None:
    server.drop_next(times=1_000)
    queue.enqueue(trajectory())
    queue.flush_at_exit(600)
    assert len(server.requests) == 1
    assert queue.counters.spooled == 1


# --- Limits


def test_a_full_queue_drops_and_counts_new_records(
    server: InMemoryServer, make_queue: MakeQueue, caplog: pytest.LogCaptureFixture
) -> None:
    queue = make_queue(max_records=3, linger_s=600)
    sent = [queue.enqueue(trajectory()) for _ in range(5)]
    assert (queue.counters.waiting, queue.counters.dropped) == (3, 2)
    assert caplog.text.count("The queue is full") == 1
    send_all(queue)
    sent[3:] = [queue.enqueue(trajectory())]
    send_all(queue)
    assert ids(server) == sent


def test_a_full_queue_accepts_a_newer_version_of_a_pending_record(
    server: InMemoryServer, make_queue: MakeQueue
) -> None:
    queue = make_queue(max_records=1, linger_s=600)
    id_ = queue.enqueue(trajectory(error="old"))
    queue.enqueue(trajectory(id=id_, error="new"))
    send_all(queue)
    assert (server.records[0].error, queue.counters.dropped) == ("new", 0)


def test_the_queue_is_bounded_by_bytes_and_all_of_its_directory_counts(
    server: InMemoryServer, make_queue: MakeQueue
) -> None:
    server.drop_next(times=1_000)
    first = make_queue(max_bytes=4_000, linger_s=0)
    first.enqueue(trajectory(error="x" * 3_000))
    second = make_queue(max_bytes=4_000, linger_s=0)
    send_all(second)  # looks into the directory
    second.enqueue(trajectory())
    second.enqueue(trajectory(error="x" * 3_000))
    assert (second.counters.waiting, second.counters.dropped) == (1, 1)
    server.clear()
    send_all(first)
    send_all(second)
    second.enqueue(trajectory(error="x" * 3_000))
    assert second.counters.dropped == 1


# --- The thread


def test_an_idle_queue_has_no_thread_and_starts_again(server: InMemoryServer, make_queue: MakeQueue) -> None:
    queue = make_queue(linger_s=0, idle_s=0.01)
    queue.enqueue(trajectory())
    wait_until(lambda: queue.counters.sent == 1 and queue._thread is None)
    queue.enqueue(trajectory())
    wait_until(lambda: queue.counters.sent == 2 and queue._thread is None)
    assert len(ids(server)) == 2


def test_a_closed_queue_reopens_for_later_records(server: InMemoryServer, queue: BackgroundQueue) -> None:
    queue.enqueue(trajectory())
    queue.close()
    queue.close()
    queue.enqueue(trajectory())
    send_all(queue)
    assert len(ids(server)) == 2


def test_closing_the_client_sends_pending_records(server: InMemoryServer, tmp_path: Path) -> None:
    with server.client(spool_dir=tmp_path) as client:
        client.trajectories.enqueue(trajectory())
    assert len(ids(server)) == 1


def test_a_client_with_other_options_has_the_same_queue(server: InMemoryServer) -> None:
    client = server.client()
    assert client.with_options(timeout_s=1).queue is client.queue


def at_once(*work: Callable[[], object]) -> None:
    """Do ``work`` in a thread each, and wait for their ends."""
    threads = [threading.Thread(target=one) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("max_wait_s", [0, background.MAX_WAIT_S])
def test_records_of_many_threads_all_arrive(
    server: InMemoryServer, queue: BackgroundQueue, monkeypatch: pytest.MonkeyPatch, max_wait_s: float
) -> None:
    monkeypatch.setattr(background, "MAX_WAIT_S", max_wait_s)
    sent: list[UUID] = []
    at_once(*[lambda: sent.extend([queue.enqueue(trajectory()) for _ in range(300)])] * 4)
    send_all(queue)
    assert sorted(ids(server)) == sorted(sent)
    assert (queue.counters.sent, queue.counters.waiting, queue.counters.dropped) == (1_200, 0, 0)


def test_versions_stay_in_order_when_threads_do_not_wait_for_each_other(
    server: InMemoryServer, queue: BackgroundQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "MAX_WAIT_S", 0)

    def record() -> None:
        id_ = uuid4()
        for number in range(100):
            queue.enqueue(trajectory(id=id_, error=str(number)))

    at_once(*[record] * 4)
    send_all(queue)
    assert [record.error for record in server.records] == ["99"] * 4


def test_a_child_begins_empty_and_leaves_the_parents_records_to_it(
    server: InMemoryServer, make_queue: MakeQueue, tmp_path: Path
) -> None:
    queue = make_queue(linger_s=600)
    of_parent = queue.enqueue(trajectory(error="of the parent"))

    def child() -> None:
        server.drop_next(times=1_000)
        assert queue.counters.waiting == 0
        queue.enqueue(trajectory(error="of the child"))
        assert not queue.flush(0.05)
        assert queue.counters.waiting == 1  # none of the parent's is taken over
        os._exit(0)

    assert exit_code_of_child(child) == 0
    assert queue.counters.waiting == 1
    send_all(queue)
    assert of_parent in ids(server)
    assert sorted(str(record.error) for record in server.records) == ["of the child", "of the parent"]
    assert list(tmp_path.iterdir()) == []


def test_a_child_of_a_fork_in_the_middle_of_everything_is_not_stuck(
    server: InMemoryServer, make_queue: MakeQueue
) -> None:
    queue = make_queue(linger_s=600)
    with queue._lock:  # as if another thread were enqueuing

        def child() -> None:
            queue.enqueue(trajectory())
            send_all(queue)
            os._exit(0)

        assert exit_code_of_child(child) == 0


# --- Always

_STEPS = st.one_of(
    st.tuples(st.just("enqueue"), st.integers(0, 3)),
    st.tuples(st.just("fail"), st.sampled_from([0, 503])),
    st.tuples(st.just("flush"), st.just(0)),
    st.tuples(st.just("restart"), st.just(0)),
)


@settings(deadline=None, max_examples=50)
@given(steps=st.lists(_STEPS, max_size=12))
def test_the_last_version_of_each_id_always_arrives(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    directory = tmp_path_factory.mktemp("spool")
    names = [uuid4() for _ in range(4)]
    newest: dict[UUID, str] = {}
    with InMemoryServer() as server:

        def opened() -> Client:
            return server.client(spool_dir=directory)

        client = opened()
        for number, (step, value) in enumerate(steps):
            if step == "enqueue":
                newest[names[value]] = str(number)
                client.trajectories.enqueue(trajectory(id=names[value], error=str(number)))
            elif step == "fail":
                server.fail_next(value) if value else server.drop_next()
            elif step == "flush":
                client.queue.flush(0.001)
            else:
                client.close()
                client = opened()
        send_all(client.queue)
        client.close()
        assert {record.id: record.error for record in server.records} == newest
