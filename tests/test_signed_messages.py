"""Only processes with the store's SECRET_KEY can make its workers do something."""

from __future__ import annotations

import inspect
import sys
from typing import Any

import pytest
from pytest_django import Settings
from redis import Redis

from tests.processes import wait_until
from tests.storage.hosts import TENANT, deliver, made, new_id
from trajectories import tasks
from trajectories.models import Trajectory
from trajectories.storage.store import get_store
from trajectories.training.tasks import push_to_hub
from trajectory_site.celery import app

pytestmark = pytest.mark.usefixtures("redis_tier")

app.loader.import_default_modules()
# Tasks that tests define are no part of the site.
TASKS = [
    task
    for name, task in sorted(app.tasks.items())
    if type(task).__module__.partition(".")[0] in ("trajectories", "trajectory_site")
]


def message() -> tasks.Message:
    return tasks.message_of([made(new_id(), 1_700_000_000_000_000, tenant=TENANT)], is_compressing=False)


def forged(kind: str, sent: tasks.Message, store: str, settings: Settings) -> Any:
    """Return the headers that an attacker who reads and writes the broker can make."""
    match kind:
        case "no signature":
            return {}
        case "another key":
            own, settings.SECRET_KEY = settings.SECRET_KEY, "a guess"
            headers = tasks.signed(tasks.persist, sent, store)
            settings.SECRET_KEY = own
            return headers
        case "another message":
            return tasks.signed(tasks.persist, message(), store)
        case "another task":
            return tasks.signed(tasks.retain, sent, store)
        case "another store":
            return tasks.signed(tasks.persist, sent, "0123456789ab")
    return dict.fromkeys(tasks.signed(tasks.persist), 3)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("no signature", "it has no signature"),
        ("another key", "it is signed with another SECRET_KEY"),
        ("another message", "it is signed with another SECRET_KEY"),
        ("another task", "it is signed with another SECRET_KEY"),
        ("another store", "it is signed with another SECRET_KEY"),
        ("a number", "it is signed with another SECRET_KEY"),
    ],
)
def test_a_message_that_the_relay_did_not_sign_is_one_log_line(
    kind: str, said: str, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    sent, store = message(), get_store().identity
    tasks.persist.apply((sent, store), headers=forged(kind, sent, store, settings), throw=True)
    assert not Trajectory.objects.exists()
    (line,) = [record for record in caplog.records if record.name == "trajectories.tasks"]
    assert line.getMessage().startswith(f"A message of trajectories.persist was refused: {said}.")
    assert line.exc_info is None


@pytest.mark.django_db
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_every_task_wants_a_signature(
    task: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = arguments_of(task, get_store().identity)
    monkeypatch.setattr(
        sys.modules[type(task).__module__], "get_store", lambda: pytest.fail("the task went on"), raising=False
    )
    task.apply(arguments, throw=True)
    assert f"A message of {task.name} was refused: it has no signature." in caplog.text


def test_the_tasks_of_the_app_are_all_found() -> None:
    assert {tasks.persist.name, tasks.probe.name, push_to_hub.name} < {task.name for task in TASKS}


def arguments_of(task: Any, store: str) -> list[Any]:
    """Return an argument for each parameter of a task: the store's identity for each text."""
    values = {"Message": message(), "dict": {}, "int": 0}
    kinds = [str(one.annotation).partition("[")[0] for one in inspect.signature(task.run).parameters.values()]
    return [values.get(kind, store) for kind in kinds]


@pytest.mark.django_db
def test_a_signature_of_a_fallback_key_is_accepted_while_the_key_changes(settings: Settings) -> None:
    sent, store = message(), get_store().identity
    headers = tasks.signed(tasks.persist, sent, store)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "the next one"
    tasks.persist.apply((sent, store), headers=headers, throw=True)
    assert Trajectory.objects.count() == 1
    deliver(message(), store)
    assert Trajectory.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_a_worker_refuses_messages_of_other_broker_clients(
    consumed_queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    store, genuine = get_store().identity, message()
    tasks.persist.apply_async((message(), store))
    # Celery's own tasks call another task without a message of its own.
    app.tasks["celery.starmap"].apply_async(
        kwargs={"task": tasks.persist.s().set(immutable=False), "it": [[message(), store]]}
    )
    tasks.send(tasks.persist, genuine, store, queue=None)
    wait_until(Trajectory.objects.exists, what="the signed message is archived")
    assert [str(row.trajectory_id) for row in Trajectory.objects.all()] == [genuine[0][1]]
    assert caplog.text.count("A message of trajectories.persist was refused") == 2
    with Redis.from_url(consumed_queue) as client:
        assert client.keys("*pidbox*") == []  # the worker takes no command of remote control
