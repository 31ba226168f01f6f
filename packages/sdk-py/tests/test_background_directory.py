"""The spool directory of the background queue, shared by processes."""

from __future__ import annotations

import stat
from pathlib import Path
from uuid import uuid4

import pytest
from conftest import MakeQueue, ids, send_all, trajectory

from tests.processes import wait_until
from trajectories_sdk import Config
from trajectories_sdk.spool import Spool
from trajectories_sdk.testing import InMemoryServer

pytestmark = pytest.mark.usefixtures("retry_at_once", "enqueue_waits")


def test_records_of_an_ended_process_are_sent_first(server: InMemoryServer, make_queue: MakeQueue) -> None:
    server.drop_next(times=1_000)
    first = make_queue()
    id_ = first.enqueue(trajectory(error="old"))
    other = first.enqueue(trajectory())
    first.close()
    assert (first.counters.waiting, first.counters.spooled) == (2, 2)
    server.clear()
    second = make_queue()
    second.enqueue(trajectory(id=id_, error="new"))
    send_all(second)
    assert {record.id: record.error for record in server.records} == {id_: "new", other: None}


def test_records_of_a_living_process_are_not_adopted(
    server: InMemoryServer, make_queue: MakeQueue, tmp_path: Path
) -> None:
    first = make_queue(linger_s=600)
    first.enqueue(trajectory())
    second = make_queue()
    own = second.enqueue(trajectory())
    send_all(second)
    assert ids(server) == [own]
    send_all(first)
    assert len(ids(server)) == 2
    assert list(tmp_path.iterdir()) == []


def test_each_server_and_key_has_its_own_spool(tmp_path: Path) -> None:
    configs = [Config(api_key="a"), Config(api_key="b"), Config("https://example.com", "a"), Config()]
    for config in configs:
        Spool.of(config, tmp_path).begin()
    assert len(list(tmp_path.iterdir())) == len(configs)


def test_only_the_user_can_read_spooled_records(make_queue: MakeQueue, tmp_path: Path) -> None:
    directory = tmp_path / "new" / "spool"
    make_queue(directory=directory, linger_s=600).enqueue(trajectory())
    (file,) = directory.iterdir()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_directory_that_others_could_read_is_closed_to_them(make_queue: MakeQueue, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    make_queue(linger_s=600).enqueue(trajectory())
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_where_nothing_can_be_written_records_wait_in_memory(
    server: InMemoryServer, make_queue: MakeQueue, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    queue = make_queue(directory=tmp_path / "file", linger_s=600)
    sent = [queue.enqueue(trajectory()) for _ in range(3)]
    assert (queue.counters.waiting, queue.counters.spooled) == (3, 0)
    assert caplog.text.count("Records are kept in memory only") == 1
    send_all(queue)
    assert ids(server) == sent


def test_in_memory_unsent_records_are_counted_as_dropped(server: InMemoryServer, make_queue: MakeQueue) -> None:
    server.drop_next(times=1_000)
    queue = make_queue(directory=None)
    queue.enqueue(trajectory())
    queue.close(0.05)
    wait_until(lambda: queue.counters.dropped == 1)
    assert queue.counters.waiting == 0


def test_half_a_record_is_no_record(server: InMemoryServer, make_queue: MakeQueue, tmp_path: Path) -> None:
    server.drop_next(times=1_000)
    first = make_queue()
    whole = first.enqueue(trajectory())
    first.close()
    (file,) = tmp_path.iterdir()
    with file.open("ab") as segment:
        segment.write(str(uuid4()).encode() + b' {"request_summary": "Ad')
    server.clear()
    send_all(make_queue())
    assert ids(server) == [whole]


def test_garbage_in_a_spool_file_does_not_block_other_records(
    server: InMemoryServer, make_queue: MakeQueue, tmp_path: Path
) -> None:
    (tmp_path / "00000000000000000000-1-0.v1.records").write_bytes(b"\x00" * 100 + b"\n\n" + b"x" * 50 + b"\n")
    queue = make_queue()
    id_ = queue.enqueue(trajectory())
    send_all(queue)
    assert ids(server) == [id_]
    assert list(tmp_path.iterdir()) == []


def test_an_unreadable_file_in_the_directory_does_not_block_others(
    server: InMemoryServer, make_queue: MakeQueue, tmp_path: Path
) -> None:
    server.drop_next(times=1_000)
    first = make_queue()
    left = first.enqueue(trajectory())
    first.close()
    server.clear()
    for name in ("0", "9"):
        (tmp_path / f"{name}.v1.records").mkdir()
    send_all(make_queue())
    assert ids(server) == [left]
