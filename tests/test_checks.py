"""System checks report each wrong setting, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connection, connections
from django.test import override_settings
from pytest_django import Settings as DjangoSettings
from redis import Redis

from tests.processes import clean_environment, run_python
from trajectories import checks, tasks
from trajectories.conf import Settings
from trajectories.storage import redis_tier
from trajectories.storage.store import get_store
from trajectory_site.celery import app

TIER = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}
not_callable = 3


def tenant_of(request: object) -> str:
    return "alice"


def found(**kwargs: Any) -> list[CheckMessage]:
    return run_checks(tags=["trajectories"], **kwargs)


def found_with(given: Any) -> list[CheckMessage]:
    with override_settings(TRAJECTORIES=given):
        return found()


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of mounts to be written; the directory beside it is on the disk /."""
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/sda / ext4 rw 0 0\n")
    monkeypatch.setattr(checks, "MOUNTS", mounts)
    return mounts


def mount(mounts: Path, kind: str, point: Path) -> None:
    escaped = str(point).replace(" ", r"\040")
    with mounts.open("a") as file:
        file.write(f"server:/x {escaped} {kind} rw 0 0\n")


def test_good_settings_have_nothing_to_be_said(mounted: Path, trajectories_settings: dict[str, Any]) -> None:
    more: dict[str, Any] = {"TENANT_FROM_REQUEST": "tests.test_checks.tenant_of", "PHASE_ALIASES": {"qa": "test"}}
    more |= {"RATE_LIMITS": {"requests_per_minute": 1, "bytes_per_minute": 16 * 1024**2}, "TRUSTED_PROXIES": 0}
    more |= {"RETENTION_DAYS": {"*": 365, "acme": 1}}
    assert found_with(trajectories_settings | more) == []


def test_the_default_of_each_setting_may_be_given(mounted: Path, trajectories_settings: dict[str, Any]) -> None:
    defaults = {field.name.upper(): getattr(Settings(), field.name) for field in fields(Settings)}
    assert found_with(defaults | trajectories_settings) == []
    assert found_with(trajectories_settings | {"CREDIT_RULE": "phase_outcome"}) == []


@pytest.mark.parametrize("given", ["outbox.sqlite3", None, ["OUTBOX_PATH"]])
def test_settings_that_are_no_dict_are_an_error(given: Any) -> None:
    assert [message.id for message in found_with(given)] == ["trajectories.E001"]


@pytest.mark.parametrize(
    ("more", "id_", "said"),
    [
        ({"REDIS_TTL": 3}, "E002", "Did you mean 'REDIS_TTL_S'?"),
        ({"COLOUR": 3}, "E002", "The settings are OUTBOX_PATH, "),
        ({3: 3}, "E002", "no setting '3'"),
        ({"BATCH_MAX_RECORDS": "100"}, "E003", "must have the type int, got '100'"),
        ({"OUTBOX_PATH": 3}, "E003", "must have the type str, got 3"),
        ({"OUTBOX_SYNCHRONOUS": "OFF"}, "E003", "FULL"),
        ({"CREDIT_RULE": "FULL"}, "E003", "phase_outcome"),
        ({"BATCH_MAX_RECORDS": 0}, "E004", "at least 1"),
        ({"REDIS_TTL_S": -1}, "E004", "at least 1"),
        ({"KEY_CACHE_S": -0.5}, "E004", "at least 0"),
        ({"KEY_CACHE_S": float("nan")}, "E004", "nan"),
        ({"EXPORT_WAIT_S": float("inf")}, "E004", "inf"),
        ({"RESEND_AFTER_S": 0}, "E004", "without end"),
        ({"RESEND_MAX_S": 1}, "E004", "at least RESEND_AFTER_S"),
        ({"MAX_REQUEST_BYTES": 1}, "E004", "at least MAX_RECORD_BYTES"),
        ({"OUTBOX_PATH": ""}, "E005", "on a volume"),
        ({"OUTBOX_PATH": "var/outbox.sqlite3"}, "E006", "BASE_DIR"),
        ({"CACHE_ALIAS": "nowhere"}, "E009", "CACHES["),
        ({"CACHE_ALIAS": "default"}, "E010", "LocMemCache"),
        ({"TENANT_FROM_REQUEST": "tests.nowhere.tenant_of"}, "E011", "tests.nowhere"),
        ({"TENANT_FROM_REQUEST": "tests.test_checks.nothing"}, "E011", "nothing"),
        ({"TENANT_FROM_REQUEST": "tests.test_checks.not_callable"}, "E011", "cannot be called"),
        ({"PHASE_ALIASES": {"QA": "test"}}, "E012", "'qa'"),
        ({"PHASE_ALIASES": {"qa": "Test"}}, "E012", "'test'"),
        ({"METRICS_ACCESS": "guessed"}, "E013", "16"),
        ({"RATE_LIMITS": {"requests_per_minut": 6}}, "E020", "Did you mean 'requests_per_minute'?"),
        ({"RATE_LIMITS": {"COLOUR": 6}}, "E020", "The limits are requests_per_minute and bytes_per_minute"),
        ({"RATE_LIMITS": {"requests_per_minute": 0}}, "E021", "at least 1"),
        ({"RATE_LIMITS": {"bytes_per_minute": 16 * 1024**2 - 1}}, "E021", "MAX_REQUEST_BYTES"),
        ({"RATE_LIMITS": {"requests_per_minute": "6"}}, "E003", "Mapping[str, int]"),
        ({"RETENTION_DAYS": {"*": 0}}, "E022", "Leave a tenant out"),
        ({"RETENTION_DAYS": {"no slug": 30}}, "E023", "the slug of a tenant"),
        ({"READINESS": {"run": 6}}, "E028", "Did you mean 'runs'?"),
        ({"READINESS": {"COLOUR": 6}}, "E028", "runs, projects"),
        ({"READINESS": {"runs": "6"}}, "E003", "Mapping[str, float]"),
        ({"READINESS": {"runs": -1}}, "E029", "at least 0"),
        ({"READINESS": {"cost": 1.5}}, "E029", "between 0 and 1"),
        ({"KEY_FAILURES_PER_MINUTE": 0}, "E004", "at least 1"),
        ({"TRUSTED_PROXIES": -1}, "E004", "at least 0"),
    ],
)
def test_each_wrong_setting_is_an_error_with_a_hint(
    more: dict[Any, Any], id_: str, said: str, mounted: Path, trajectories_settings: dict[str, Any]
) -> None:
    messages = found_with(trajectories_settings | more)
    assert [message.id for message in messages] == [f"trajectories.{id_}"]
    assert messages[0].is_serious()
    assert messages[0].hint
    assert said in f"{messages[0].msg} {messages[0].hint}"


def test_all_that_is_wrong_is_said_at_once(mounted: Path, trajectories_settings: dict[str, Any]) -> None:
    wrong = {"OUTBOX_PATH": "", "CACHE_ALIAS": "nowhere", "BATCH_MAX_RECORDS": 0}
    ids = [message.id for message in found_with(trajectories_settings | wrong)]
    assert sorted(map(str, ids)) == ["trajectories.E004", "trajectories.E005", "trajectories.E009"]


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "9p", "fuse.sshfs"])
def test_an_outbox_on_a_network_file_system_is_an_error(
    kind: str, mounted: Path, tmp_path: Path, trajectories_settings: dict[str, Any]
) -> None:
    share = tmp_path / "a share"
    mount(mounted, kind, share)
    there = trajectories_settings | {"OUTBOX_PATH": str(share / "not made yet" / "outbox.sqlite3")}
    assert [message.id for message in found_with(there)] == ["trajectories.E007"]
    beside = trajectories_settings | {"OUTBOX_PATH": f"{share}-not/outbox.sqlite3"}
    assert found_with(beside) == []


def test_a_disk_inside_a_share_is_a_disk(mounted: Path, tmp_path: Path, trajectories_settings: dict[str, Any]) -> None:
    mount(mounted, "ext4", tmp_path / "share" / "disk")
    mount(mounted, "nfs", tmp_path / "share")
    there = trajectories_settings | {"OUTBOX_PATH": str(tmp_path / "share" / "disk" / "outbox.sqlite3")}
    assert found_with(there) == []


def test_the_later_of_two_mounts_at_one_path_counts(
    mounted: Path, tmp_path: Path, trajectories_settings: dict[str, Any]
) -> None:
    mount(mounted, "nfs", tmp_path)
    mount(mounted, "ext4", tmp_path)
    assert found_with(trajectories_settings) == []


def test_an_outbox_in_memory_is_a_warning(mounted: Path, tmp_path: Path, trajectories_settings: dict[str, Any]) -> None:
    mount(mounted, "tmpfs", tmp_path)
    messages = found_with(trajectories_settings)
    assert [message.id for message in messages] == ["trajectories.W001"]
    assert not messages[0].is_serious()


def test_a_system_that_tells_no_mounts_is_no_error(
    mounted: Path, tmp_path: Path, trajectories_settings: dict[str, Any]
) -> None:
    mounted.unlink()
    assert found_with(trajectories_settings) == []


def test_an_outbox_that_cannot_be_written_is_an_error(
    mounted: Path, tmp_path: Path, trajectories_settings: dict[str, Any]
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    for path in ("file/outbox.sqlite3", "directory", "a" * 5_000):
        there = trajectories_settings | {"OUTBOX_PATH": str(tmp_path / path)}
        assert [message.id for message in found_with(there)] == ["trajectories.E008"]


def test_a_cache_in_the_same_redis_database_is_a_warning(
    mounted: Path, settings: DjangoSettings, trajectories_settings: dict[str, Any]
) -> None:
    settings.CACHES = {"default": TIER, "trajectories": TIER, "other": TIER | {"LOCATION": "redis://127.0.0.1:1/1"}}
    messages = found()
    assert [message.id for message in messages] == ["trajectories.W002"]
    assert "'default'" in messages[0].msg


@pytest.mark.parametrize("backend", ["django.core.cache.backends.redis.RedisCache", "nowhere.Cache", ""])
def test_a_tier_of_another_backend_is_an_error(backend: str, mounted: Path, settings: DjangoSettings) -> None:
    settings.CACHES = {"default": {}, "trajectories": {"BACKEND": backend, "LOCATION": "redis://127.0.0.1:1/0"}}
    assert [message.id for message in found()] == ["trajectories.E010"]


@pytest.mark.parametrize("vendor", ["mysql", "oracle"])
def test_a_database_that_is_not_supported_is_an_error_before_migrate_begins(
    monkeypatch: pytest.MonkeyPatch, mounted: Path, vendor: str
) -> None:
    """No access to the database is allowed in this test, so nothing has asked it or begun."""
    monkeypatch.setattr(connection, "vendor", vendor)
    monkeypatch.setitem(connections.settings["default"], "ENGINE", f"django.db.backends.{vendor}")
    said = rf"'default'\] has the engine 'django.db.backends.{vendor}'\. The archive supports PostgreSQL and SQLite"
    with pytest.raises(SystemCheckError, match=said):
        call_command("migrate", skip_checks=False, verbosity=0)
    assert [message.id for message in found()] == ["trajectories.E024"]


class NotToPostgres:
    def allow_migrate(self, db: str, *_: object, **__: object) -> bool:
        return db != "postgres"


def test_a_database_that_does_not_get_the_archive_may_be_of_any_kind(
    monkeypatch: pytest.MonkeyPatch, mounted: Path
) -> None:
    monkeypatch.setattr(connections["postgres"], "vendor", "mysql")
    both = ["default", "postgres"]
    assert found() == found(databases=["default"]) == []
    assert [message.id for message in found(databases=both)] == ["trajectories.E024"]
    with override_settings(DATABASE_ROUTERS=["tests.test_checks.NotToPostgres"]):
        assert found(databases=both) == []


def test_unavailable_servers_are_reported_by_deployment_checks_only(
    mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.conf, "broker_url", "redis://127.0.0.1:1/1")
    assert found() == []
    messages = found(include_deployment_checks=True)
    assert [message.id for message in messages] == ["trajectories.W003", "trajectories.W004"]
    assert not [message for message in messages if message.is_serious()]


@pytest.mark.usefixtures("named_store")
def test_at_deployment_a_broker_that_refuses_writes_is_a_warning(
    mounted: Path, redis_tier: Redis, celery_broker: str
) -> None:
    redis_tier.config_set("maxmemory", "1")
    try:
        (message,) = found(include_deployment_checks=True)
    finally:
        redis_tier.config_set("maxmemory", "0")
    assert message.id == "trajectories.W004"
    assert "maxmemory" in message.msg


@pytest.mark.usefixtures("named_store")
def test_at_deployment_only_a_queue_that_no_worker_consumes_is_a_warning(
    mounted: Path, redis_tier_url: str, consumed_queue: str, trajectories_settings: dict[str, Any]
) -> None:
    assert found(include_deployment_checks=True) == []
    with override_settings(TRAJECTORIES=trajectories_settings | {"QUEUE": "runs"}):
        assert found() == []
        get_store()._become("0123456789ab")  # the settings made it a new one
        (message,) = found(include_deployment_checks=True)
    assert (message.id, message.is_serious()) == ("trajectories.W006", False)
    assert "'runs'" in message.msg
    assert "-Q runs" in str(message.hint)


@pytest.fixture
def routed() -> Iterator[None]:
    """The project's routes send every task to a queue of low priority."""

    def route(routes: dict[str, Any] | None) -> None:
        app.conf.update(task_routes=routes)
        app.amqp.flush_routes()
        vars(app.amqp).pop("router", None)

    route({"*": {"queue": "low"}})
    yield
    route(None)


@pytest.mark.usefixtures("named_store", "routed")
def test_at_deployment_the_queue_of_the_projects_routes_is_asked(
    mounted: Path, redis_tier_url: str, consumed_queue: str
) -> None:
    (message,) = found(include_deployment_checks=True)
    assert message.id == "trajectories.W006"
    assert "'low'" in message.msg
    tasks.send(tasks.probe, "name", queue=None)
    with Redis.from_url(consumed_queue) as broker:
        assert broker.llen("low") == 2, "the probe of the check and this one"


@pytest.mark.usefixtures("named_store")
def test_a_worker_does_not_answer_for_another_store(mounted: Path, redis_tier_url: str, consumed_queue: str) -> None:
    queue, other = tasks.queue_name(None), "000000000000-1"
    tasks.send(tasks.probe, other, queue=queue, expires_s=60)
    assert tasks.is_consumed(queue, 60), "the worker has also handled the message before"
    assert not redis_tier.take_answer(get_store().conf, other)


@pytest.mark.usefixtures("named_store")
def test_at_deployment_a_layer_of_a_container_is_a_warning(
    mounted: Path, redis_tier_url: str, celery_broker: str
) -> None:
    mounted.write_text("overlay / overlay rw 0 0\n")
    assert found() == []
    assert [message.id for message in found(include_deployment_checks=True)] == [
        "trajectories.W006",
        "trajectories.W005",
    ]


def test_servers_are_not_asked_while_the_settings_are_wrong() -> None:
    with override_settings(TRAJECTORIES=3):
        assert [message.id for message in found(include_deployment_checks=True)] == ["trajectories.E001"]


def test_the_site_passes_its_own_checks(mounted: Path) -> None:
    call_command("check", fail_level="WARNING")


def test_a_project_without_a_celery_app_is_warned() -> None:
    script = (
        "import django; from django.conf import settings;"
        "settings.configure(INSTALLED_APPS=['django.contrib.contenttypes', 'django.contrib.auth', 'trajectories'],"
        " CACHES={'trajectories': {'BACKEND': 'django_redis.cache.RedisCache', 'LOCATION': 'redis://127.0.0.1:1/2'}},"
        " TRAJECTORIES={'OUTBOX_PATH': '/nowhere/outbox.sqlite3'}); django.setup();"
        "from django.core.checks import run_checks; print(*(found.id for found in run_checks(tags=['trajectories'])))"
    )
    done = run_python(["-c", script], clean_environment())
    assert "trajectories.W008" in done.stdout.split(), done.stderr
