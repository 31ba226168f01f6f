"""The background queue when processes end: the server's, and the one that records."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import wait_until
from tests.sdk.background.conftest import MakeProgram, Store, printed_ids
from tests.sdk.background.pipeline import body
from trajectories_sdk import Client, shutdown


@pytest.fixture
def hanging_server() -> Iterator[str]:
    """The URL of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_server_that_is_killed_in_between_gets_all_records_once(store: Store, client: Client) -> None:
    sent = [client.trajectories.enqueue(body(store.project)) for _ in range(600)]
    wait_until(lambda: client.queue.counters.sent)
    store.web.kill()
    sent += [client.trajectories.enqueue(body(store.project)) for _ in range(400)]
    assert not client.queue.flush(0.1)
    assert client.queue.counters.spooled >= 400
    store.start()
    assert client.queue.flush(120)
    assert sorted(store.arrived()) == sorted(sent)
    assert client.queue.counters.dropped == client.queue.counters.refused == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_records_enqueued_by_a_killed_process_arrive_once(
    store: Store, client: Client, program: MakeProgram, number: signal.Signals
) -> None:
    process = program("forever", 100)
    process.wait_for(lambda: len(printed_ids(process)) >= 1_000 and store.arrived(), "it is in the middle of sending")
    process.signal_group(number)
    assert process.wait() == -number
    assert client.queue.flush(120)
    ids = store.arrived()
    assert len(ids) == len(set(ids))
    assert set(ids) >= set(printed_ids(process))
    # It may have been killed between enqueue and print.
    assert len(ids) <= len(printed_ids(process)) + 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_records_enqueued_during_an_outage_outlive_their_process(
    store: Store, client: Client, program: MakeProgram, number: signal.Signals
) -> None:
    store.web.kill()
    process = program("wait", 1_000)
    process.wait_for(lambda: len(printed_ids(process)) == 1_000, "all is kept")
    process.signal_group(number)
    process.wait()
    store.start()
    assert client.queue.flush(120)
    assert sorted(store.arrived()) == sorted(printed_ids(process))


def test_records_in_memory_are_lost_with_a_killed_process(
    store: Store, client: Client, program: MakeProgram, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    store.web.kill()
    process = program("wait", 10, TRAJSTORE_SPOOL_DIR=str(tmp_path / "file"))
    process.wait_for(lambda: len(printed_ids(process)) == 10, "all is kept")
    assert "Records are kept in memory only and are lost if this process is killed" in process.output
    process.signal_group(signal.SIGTERM)
    process.wait()
    store.start()
    assert client.queue.flush(120)
    assert store.arrived() == []


def test_an_ending_process_sends_its_pending_records(store: Store, program: MakeProgram) -> None:
    process = program("exit", 20)
    assert process.wait() == 0
    assert sorted(store.arrived()) == sorted(printed_ids(process))


def test_a_server_that_hangs_does_not_keep_a_process_from_ending(
    client: Client, program: MakeProgram, hanging_server: str, spool_dir: Path
) -> None:
    more = {"TRAJSTORE_BASE_URL": hanging_server, "EXIT_TIMEOUT_S": str(shutdown.EXIT_TIMEOUT_S)}
    process = program("exit", 20, **more)
    assert process.wait(60) == 0  # its requests would wait for an hour
    assert len([path for path in spool_dir.rglob("*") if path.is_file()]) == 1


def test_parent_and_forked_children_each_send_their_own_once(store: Store, program: MakeProgram) -> None:
    process = program("os.fork", 20)
    assert process.wait() == 0, process.output
    assert len(printed_ids(process)) == 60
    assert sorted(store.arrived()) == sorted(printed_ids(process))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_of_multiprocessing_send_pending_records_at_exit(
    store: Store, client: Client, program: MakeProgram, method: str
) -> None:
    process = program(f"multiprocessing.{method}", 20)
    assert process.wait() == 0, process.output
    assert len(printed_ids(process)) == 60
    assert len(store.arrived()) == 40
    assert client.queue.flush(120)
    assert sorted(store.arrived()) == sorted(printed_ids(process))


def test_a_full_disk_costs_no_record_of_a_process_that_lives(store: Store, small_disk: Path) -> None:
    with (
        Client(store.web.url, store.site.api_key, spool_dir=small_disk / "spool") as client,
        (small_disk / "rest").open("wb") as rest,
    ):
        while True:
            try:
                rest.write(b"x" * 65_536)
                rest.flush()
            except OSError:
                break
        sent = [client.trajectories.enqueue(body(store.project, error="x" * 3_000)) for _ in range(50)]
        counters = client.queue.counters
        assert counters.waiting - counters.spooled > 0
        assert client.queue.flush(120)
        assert sorted(store.arrived()) == sorted(sent)
        rest.truncate(0)
