"""Real forks of this process."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.processes import wait_until


def exit_code_of_child(work: Callable[[], object]) -> int:
    """Fork, do ``work`` in the child, and wait for its end; killed and an error if it hangs."""
    pid = _fork(work)
    ended: list[int] = []

    def has_ended() -> bool:
        done, status = os.waitpid(pid, os.WNOHANG)
        ended.extend([status] if done else [])
        return bool(done)

    try:
        wait_until(has_ended, what="the child ends")
    except AssertionError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    return os.waitstatus_to_exitcode(ended[0])


@contextmanager
def forked(work: Callable[[], object]) -> Iterator[int]:
    """A child that does ``work`` for as long as the context lasts; its process id."""
    pid = _fork(work)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _fork(work: Callable[[], object]) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons warn of threads, which is what these tests are about
        pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return pid
