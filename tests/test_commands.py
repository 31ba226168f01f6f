"""Management commands, in this process, or in their own where exit codes and signals matter."""

from __future__ import annotations

import signal
import socket
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import NamedTuple

import orjson
import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from pytest_django import Settings

from tests.examples import REFERENCE
from tests.processes import PROJECT, Process, Site
from trajectories.api.authentication import KeyCache, caller_of
from trajectories.exceptions import AuthenticationFailure
from trajectories.models import ApiKey, Tenant
from trajectories.relay import host_lock
from trajectories.services import ingest
from trajectories.storage.store import get_store


class Said(NamedTuple):
    """The output of a command."""

    out: str
    err: str


def call(*arguments: str) -> Said:
    out, err = StringIO(), StringIO()
    call_command(*arguments, stdout=out, stderr=err)
    return Said(out.getvalue(), err.getvalue())


# --- create_api_key


@pytest.mark.django_db
def test_standard_output_is_the_key_and_nothing_else() -> None:
    said = call("create_api_key", "alice", "--scopes", "record,read", "--name", "ci")
    caller = caller_of(said.out.removesuffix("\n"))
    assert (caller.tenant, sorted(caller.scopes)) == ("alice", ["read", "record"])
    assert ApiKey.objects.get().name == "ci"
    assert ApiKey.objects.get().prefix in said.err


@pytest.mark.django_db
def test_a_tenant_is_made_where_there_is_none_and_that_is_said() -> None:
    assert "Tenant alice created." in call("create_api_key", "alice", "--scopes", "read").err
    assert "created" not in call("create_api_key", "alice", "--scopes", "read").err
    assert Tenant.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["no {braces}", "--scopes", "read"], "cannot be the name of a tenant"),
        (["a" * 65, "--scopes", "read"], "cannot be the name of a tenant"),
        (["alice", "--scopes", "read,write"], "not write"),
        (["alice", "--scopes", ","], "not none"),
        (["alice"], "--scopes"),
        (["alice", "--scopes", "read", "--expires-at", "2020-01-01"], "expired already"),
        (["alice", "--scopes", "read", "--expires-at", "tomorrow"], "no date or time"),
        (["alice", "--scopes", "read", "--expires-at", "2030-02-30"], "'2030-02-30'|day is out of range"),
        (["alice", "--scopes", "read", "--expires-in-days", "-1"], "expired already"),
        (["alice", "--scopes", "read", "--expires-in-days", "1e9"], "not within the calendar"),
        (["alice", "--scopes", "read", "--expires-in-days", "nan"], "not within the calendar"),
        (["alice", "--scopes", "read", "--expires-in-days", "1", "--expires-at", "2030-01-01"], "not allowed with"),
    ],
)
def test_an_invalid_key_creates_neither_key_nor_tenant(arguments: list[str], why: str) -> None:
    with pytest.raises(CommandError, match=why):
        call("create_api_key", *arguments)
    assert not Tenant.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2100-01-02", datetime(2100, 1, 1, 15, tzinfo=UTC)),
        ("2100-01-02T03:04:05", datetime(2100, 1, 1, 18, 4, 5, tzinfo=UTC)),
        ("2100-01-02T03:04:05Z", datetime(2100, 1, 2, 3, 4, 5, tzinfo=UTC)),
    ],
)
def test_a_time_without_an_offset_is_one_of_the_projects_zone(given: str, expected: datetime) -> None:
    with timezone.override("Asia/Tokyo"):
        call("create_api_key", "alice", "--scopes", "read", "--expires-at", given)
    assert ApiKey.objects.get().expires_at == expected


@pytest.mark.django_db
@pytest.mark.parametrize("use_tz", [True, False])
def test_days_count_from_now_on(use_tz: bool, settings: Settings) -> None:
    settings.USE_TZ = use_tz
    before = timezone.now()
    call("create_api_key", "alice", "--scopes", "read", "--expires-in-days", "0.5")
    expires_at = ApiKey.objects.get().expires_at
    assert expires_at
    assert before + timedelta(hours=12) <= expires_at <= timezone.now() + timedelta(hours=12)


# --- revoke_api_key


@pytest.mark.django_db
def test_a_revoked_key_is_refused_and_no_longer_remembered_by_this_host() -> None:
    text = call("create_api_key", "alice", "--scopes", "read").out.strip()
    prefix = text.partition(".")[0]
    caller_of(text)
    assert get_store().outbox.remembered_key(prefix, 0)
    assert f"API key {prefix} of tenant alice is revoked" in call("revoke_api_key", prefix).out
    assert get_store().outbox.remembered_key(prefix, 0) is None
    get_store().part(KeyCache).clear()
    with pytest.raises(AuthenticationFailure, match="revoked"):
        caller_of(text)
    assert "was revoked before" in call("revoke_api_key", text).out


@pytest.mark.django_db
def test_a_key_that_is_not_there_cannot_be_revoked() -> None:
    with pytest.raises(CommandError, match="There is no API key 'nobodys'"):
        call("revoke_api_key", "nobodys.key")


# --- relay


@pytest.mark.django_db
def test_an_empty_outbox_is_drained() -> None:
    assert "has every record" in call("relay", "--drain").err


@pytest.mark.django_db
def test_draining_ends_at_its_timeout_if_no_worker_takes_the_records() -> None:
    ingest.record(get_store(), "alice", orjson.dumps(REFERENCE))
    with pytest.raises(CommandError, match=r"After 0\.1 seconds the archive still lacks"):
        call("relay", "--drain", "--timeout", "0.1")


def test_draining_waits_for_a_relay_that_already_runs() -> None:
    with host_lock(get_store()):
        assert "Another process of this host is the relay" in (said := call("relay", "--drain").err)
        assert "has every record" in said
        ingest.record(get_store(), "alice", orjson.dumps(REFERENCE))
        with pytest.raises(CommandError, match="still lacks"):
            call("relay", "--drain", "--timeout", "0")


def test_a_second_relay_says_that_there_is_one() -> None:
    with host_lock(get_store()), pytest.raises(CommandError, match="RELAY_IN_PROCESS is off") as raised:
        call("relay")
    assert raised.value.returncode == 3


def test_a_timeout_without_drain_is_an_error() -> None:
    with pytest.raises(CommandError, match="belongs to --drain"):
        call("relay", "--timeout", "3")


@pytest.mark.django_db
def test_sigterm_is_handled_as_before_once_the_command_has_ended() -> None:
    before = signal.getsignal(signal.SIGTERM)
    call("relay", "--drain")
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.fixture
def start_relay(site: Site) -> Iterator[Callable[..., Process]]:
    """Starts ``manage.py relay`` for the site."""
    with ExitStack() as ended:

        def start(**environment: str) -> Process:
            arguments = [sys.executable, str(PROJECT / "manage.py"), "relay"]
            log = site.data_dir / f"relay{len(environment)}.log"
            relay = Process(arguments, site.environment | environment, log)
            ended.callback(relay.kill)
            return relay

        yield start


def archived_count(site: Site) -> int:
    with sqlite3.connect(site.data_dir / "db.sqlite3") as db:
        return int(db.execute("SELECT count(*) FROM trajectories_trajectory").fetchone()[0])


def test_the_relay_of_a_process_of_its_own_brings_records_to_the_archive(site: Site) -> None:
    web = site.web(TRAJECTORIES_RELAY_IN_PROCESS="false")
    site.worker()
    lines = b"\n".join(orjson.dumps(REFERENCE) for _ in range(250))
    web.http.post("/v1/agent/trajectories", content=lines, headers={"Content-Type": "application/x-ndjson"})
    assert archived_count(site) == 0
    site.manage("relay", "--drain", "--timeout", "60")
    assert archived_count(site) == 250


@pytest.fixture
def mute_server() -> Iterator[str]:
    """The address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"


def test_sigterm_ends_the_relay_even_while_a_server_does_not_answer(
    start_relay: Callable[..., Process], mute_server: str
) -> None:
    relay = start_relay(CELERY_BROKER_URL=mute_server, REDIS_URL=mute_server, REDIS_TIMEOUT_S="600")
    relay.wait_for(lambda: "This is the relay of" in relay.output, "it is the relay")
    second = start_relay()
    assert second.wait() == 3
    assert "Another process of this host is the relay" in second.output
    relay.signal_group(signal.SIGTERM)
    assert relay.wait() == 0
    assert "The relay is stopped." in relay.output
    assert "Traceback" not in relay.output
