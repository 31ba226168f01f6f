"""``trajectories.testing``: what the host's test run (tests/host_tests) does not show."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any

import orjson
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.test import override_settings
from pytest_django import Settings

from tests.api.client import PATH, client_of, issue
from tests.examples import body
from tests.test_persistence import poisoned, record
from trajectories import testing
from trajectories.models import Quarantined
from trajectories.services import ingest
from trajectories.storage.outbox_rows import Draft
from trajectories.storage.redis_tier import RedisTier
from trajectories.storage.store import get_store
from trajectories.testing import IsolatedStore, isolated_store

pytestmark = pytest.mark.django_db


def take(**fields: Any) -> None:
    ingest.record(get_store(), "north", orjson.dumps(body(**fields)))


def test_every_command_of_the_redis_tier_is_answered_without_redis() -> None:
    def commands(of: type) -> set[str]:
        return {name for name, it in vars(of).items() if isinstance(it, FunctionType) and not name.startswith("_")}

    assert commands(testing._NoRedis) == commands(RedisTier)


@pytest.fixture
def without_settings_of_the_test() -> Iterator[None]:
    """Undo for Django's signal what the fixture of every test here has set."""
    changed = partial(setting_changed.send, sender=None, setting="TRAJECTORIES", value=None)
    changed(enter=False)
    yield
    changed(enter=True)


@pytest.mark.usefixtures("without_settings_of_the_test")
def test_a_store_of_the_projects_settings_is_refused_unless_the_test_has_set_them(tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"would use the outbox .*trajectories_store"):
        get_store()
    with override_settings(TRAJECTORIES={"OUTBOX_PATH": str(tmp_path / "outbox.sqlite3")}):
        assert get_store().outbox.waiting(0, 1) == []
    with isolated_store() as store:
        assert get_store() is store
    with pytest.raises(ImproperlyConfigured):
        get_store()


def test_a_block_has_a_store_of_its_own_and_leaves_nothing(trajectories_store: IsolatedStore) -> None:
    take()
    with isolated_store() as other:
        assert other.outbox.waiting(0, 10) == []
        directory = Path(other.conf.outbox_path).parent
        take()
        assert len(other.outbox.waiting(0, 10)) == 1
    assert not directory.exists()
    assert len(get_store().outbox.waiting(0, 10)) == 1


def test_a_store_applies_to_every_thread(trajectories_store: IsolatedStore) -> None:
    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    assert len(trajectories_store.outbox.waiting(0, 10)) == 1


def test_a_refused_record_is_quarantined_and_not_counted(trajectories_store: IsolatedStore) -> None:
    take()
    bad = poisoned(record(1))
    trajectories_store.outbox.append([Draft(bad.tenant, bad.id, bad.digest, bad.body, None)])
    assert (trajectories_store.deliver(), Quarantined.objects.count()) == (1, 1)


def test_limits_are_counted_without_redis(trajectories_store: IsolatedStore, settings: Settings) -> None:
    client = client_of(issue()[1])
    settings.TRAJECTORIES = {"RATE_LIMITS": {"requests_per_minute": 1}}
    assert [client.get(PATH).status_code for _ in range(2)] == [200, 429]
