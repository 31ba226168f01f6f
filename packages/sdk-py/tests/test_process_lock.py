"""Locks in a forked child."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from conftest import flushed_record

from tests.storage.forks import exit_code_of_child
from trajectories_sdk import Client, environment
from trajectories_sdk.adjustments import Adjustments
from trajectories_sdk.models import RecordWarning
from trajectories_sdk.process_lock import ProcessLock
from trajectories_sdk.resuming import InterruptedRuns
from trajectories_sdk.warning_log import WarningLog

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
ID = UUID(int=1)


class Holder:
    """A thread that holds a lock."""

    def __init__(self, lock: ProcessLock) -> None:
        self._lock, self._has, self._ends = lock, threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._hold)

    def __enter__(self) -> None:
        self._thread.start()
        assert self._has.wait(60)

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join(60)

    def _hold(self) -> None:
        with self._lock:
            self._has.set()
            self._ends.wait(60)


def warn(log: WarningLog) -> None:
    log.note(ID, [RecordWarning(code="total_cost_usd", message="differs", path="total_cost_usd")])


@pytest.mark.parametrize(
    ("owner", "work"),
    [
        (Adjustments(), lambda owner: owner.kept({"request_summary": "x", "phases": [], "metadata": {"a": object()}})),
        (WarningLog(), warn),
        (InterruptedRuns(), lambda owner: owner.find(ID)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_child_does_not_wait_for_a_thread_of_its_parent(owner: Any, work: Callable[[Any], object]) -> None:
    with Holder(owner._lock):
        assert exit_code_of_child(lambda: work(owner)) == 0
    work(owner)


@pytest.mark.parametrize("name", ["_lock", "_order"])
def test_a_child_goes_on_with_a_run_that_a_thread_of_its_parent_records(client: Client, name: str) -> None:
    run = client.trajectories.run("Add auth")

    def child() -> None:
        with run, run.phase("spec"):
            pass
        assert flushed_record(client, run).phases[0].phase_name == "spec"

    with Holder(getattr(run, name)):
        assert exit_code_of_child(child) == 0


def test_a_child_opens_a_client_while_a_thread_of_its_parent_names_a_variable() -> None:
    with Holder(environment._Warned.lock):
        assert exit_code_of_child(environment.reset_warnings) == 0


def test_a_reentrant_lock_stays_one_in_a_child() -> None:
    lock = ProcessLock(is_reentrant=True)

    def child() -> None:
        with lock, lock:
            pass

    with Holder(lock):
        assert exit_code_of_child(child) == 0


def test_a_lock_ends_with_its_owner() -> None:
    lock = weakref.ref(ProcessLock())
    gc.collect()
    assert lock() is None
