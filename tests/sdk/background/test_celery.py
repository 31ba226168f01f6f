"""The background queue in a real Celery worker; it sends only on flush or exit."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.processes import Process, wait_until
from tests.sdk.background.celery_app import app, run
from tests.sdk.background.conftest import Store
from trajectory_site import redis_url

MakeWorker = Callable[..., Process]
TASKS = 6


@pytest.fixture
def worker(store: Store, environment: dict[str, str], tmp_path: Path) -> Iterator[MakeWorker]:
    """A worker of ``tests.sdk.background.celery_app``, ready; ended with the test."""
    url = redis_url.with_database(store.site.redis.url, redis_url.database(store.site.redis.url) + 2)
    app.conf.update(broker_url=url)
    made: list[Process] = []

    def start(*options: str) -> Process:
        arguments = [sys.executable, "-m", "celery", "--app", "tests.sdk.background.celery_app", "worker"]
        arguments += ["--loglevel", "INFO", "--without-gossip", "--without-mingle", *options]
        made.append(Process(arguments, environment | {"SDK_BROKER_URL": url}, tmp_path / "sdk_worker.log"))
        made[-1].wait_for(lambda: " ready." in made[-1].output, "the worker is ready")
        return made[-1]

    yield start
    for process in made:
        process.kill()
    app.close()


def give_tasks(store: Store) -> None:
    for _ in range(TASKS):
        run.delay(store.project)


def has_done_all(worker: Process) -> bool:
    return worker.output.count("succeeded in") == TASKS


def test_a_child_at_its_task_limit_sends_its_pending_records(store: Store, worker: MakeWorker) -> None:
    worker("--concurrency", "1", "--max-tasks-per-child", "2")
    give_tasks(store)
    wait_until(lambda: len(store.arrived()) == TASKS, what="all records arrive")


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_stopping_worker_sends_its_pending_records(store: Store, worker: MakeWorker, pool: str) -> None:
    process = worker("--concurrency", "1", "--pool", pool)
    give_tasks(store)
    process.wait_for(lambda: has_done_all(process), "all tasks are done")
    assert store.arrived() == []
    process.stop()
    assert len(store.arrived()) == len(set(store.arrived())) == TASKS
