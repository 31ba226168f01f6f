"""An outbox that several processes write to, that one is killed over, and that a child inherits."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest

from tests.processes import PROJECT, clean_environment, wait_until
from tests.storage.forks import exit_code_of_child
from tests.storage.outboxes import all_rows, append, opened
from trajectories.exceptions import OutboxUnavailable
from trajectories.storage.outbox import Outbox
from trajectories.storage.store import get_store


def appenders(path: Path, number: int, count: int) -> list[subprocess.Popen[str]]:
    return [
        subprocess.Popen(
            [sys.executable, "-m", "tests.storage.appender", str(path), str(count)],
            cwd=PROJECT,
            env=clean_environment(DJANGO_SETTINGS_MODULE="tests.settings"),
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(number)
    ]


def test_processes_that_create_one_file_at_once_lose_nothing_and_agree_on_order(path: Path) -> None:
    processes = appenders(path, 3, 100)
    acknowledged = [UUID(line) for process in processes for line in process.communicate(timeout=60)[0].split()]
    assert [process.returncode for process in processes] == [0, 0, 0]
    rows = all_rows(opened(path))
    assert len(acknowledged) == len(rows) == 300
    assert {row.record.id for row in rows} == set(acknowledged)
    assert [row.record.stamp for row in rows] == sorted({row.record.stamp for row in rows})


def test_a_file_that_many_processes_create_at_once_is_created_once(tmp_path: Path) -> None:
    for attempt in range(50):
        outboxes = [opened(tmp_path / str(attempt)) for _ in range(8)]
        start = threading.Barrier(len(outboxes))

        def make(outbox: Outbox, start: threading.Barrier = start) -> int:
            start.wait(20)
            return outbox.last_n() + append(outbox).n

        with ThreadPoolExecutor(len(outboxes)) as pool:
            list(pool.map(make, outboxes))
        assert outboxes[0].last_n() == 8
        with sqlite3.connect(tmp_path / str(attempt)) as db:
            assert db.execute("PRAGMA auto_vacuum").fetchone() == (2,)


def test_acknowledged_rows_survive_a_kill_of_the_process(path: Path) -> None:
    (process,) = appenders(path, 1, 0)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(30)]
    process.send_signal(signal.SIGKILL)
    lines += process.stdout.readlines()
    process.stdout.close()
    process.wait()
    acknowledged = [UUID(line.strip()) for line in lines if line.endswith("\n")]
    outbox = opened(path)
    ids = [row.record.id for row in all_rows(outbox)]
    # One may have been committed without an answer to its client.
    assert ids[: len(acknowledged)] == acknowledged
    assert len(ids) - len(acknowledged) <= 1
    assert append(outbox).n == len(ids) + 1


def test_a_forked_child_and_its_parent_both_write_and_read(path: Path) -> None:
    before = append(get_store().outbox)
    threading.Thread(target=lambda: append(get_store().outbox)).start()

    def work() -> None:
        assert len(all_rows(get_store().outbox)) == 2
        append(get_store().outbox)

    wait_until(lambda: get_store().outbox.last_n() == 2)
    assert exit_code_of_child(work) == 0
    assert [row.n for row in all_rows(get_store().outbox)] == [1, 2, 3]
    assert append(get_store().outbox).n == 4
    assert before.n == 1


def test_a_fork_while_another_thread_reads_does_not_hang_the_child(path: Path) -> None:
    """The child must neither use nor close objects that the other thread had locked: no thread
    would release them."""
    append(get_store().outbox)
    is_reading, is_over = threading.Event(), threading.Event()

    def interrupt() -> bool:
        # SQLite holds the connection's lock here and no global one, which no thread of a child could release.
        is_reading.set()
        return is_over.wait(60)

    def read_long() -> None:
        file = get_store().outbox._file
        file.read("SELECT 1")
        file._readers[threading.get_ident()].set_progress_handler(interrupt, 1_000)
        with pytest.raises(OutboxUnavailable):  # interrupted
            file.read("WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(x) FROM c")

    thread = threading.Thread(target=read_long)
    thread.start()
    try:
        assert is_reading.wait(20)
        assert exit_code_of_child(lambda: append(get_store().outbox)) == 0
    finally:
        is_over.set()
        thread.join()
    assert get_store().outbox.last_n() == 2


LOCK = (
    "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.lockf(f, fcntl.LOCK_EX, 1, int(sys.argv[2]));"
    " print(flush=True); input()"
)
"""Lock a byte of a file until a line comes."""


@contextmanager
def turn_held(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Hold the lock by which processes take turns, in another process, until that reads a line."""
    command = [sys.executable, "-c", LOCK, f"{path}.lock", "0"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline()
        yield holder
        holder.communicate("\n", timeout=20)


def test_an_append_waits_for_the_turn_of_another_process(path: Path) -> None:
    outbox = opened(path)
    append(outbox)
    with ThreadPoolExecutor(1) as pool:
        with turn_held(path):
            waiting = pool.submit(append, outbox)
            with pytest.raises(TimeoutError):
                waiting.result(0.2)
        assert waiting.result(20).n == 2


def test_a_process_that_has_written_waits_behind_one_that_waits(path: Path) -> None:
    outbox = opened(path)
    append(outbox)
    with ThreadPoolExecutor(1) as pool, turn_held(path):
        waiting = pool.submit(append, outbox)
        wait_until(lambda: not is_next_free(path), what="the append is next")
        assert not waiting.done()
    assert waiting.result(20).n == 2
    assert is_next_free(path)


def is_next_free(path: Path) -> bool:
    """Return whether another process could be the next one to write."""
    script = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'a'), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 1)"
    return not subprocess.run([sys.executable, "-c", script, f"{path}.lock"], stderr=subprocess.DEVNULL).returncode


def test_an_append_does_not_wait_forever_for_a_process_that_keeps_its_turn(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = opened(path)
    append(outbox)
    monkeypatch.setattr("trajectories.storage.outbox_file._TIMEOUT_S", 0.1)
    with turn_held(path):
        assert append(outbox).n == 2
