"""``trajectories.record`` records from Django code, as the API does."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from collections import UserDict
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from django.db import transaction
from django.utils.translation import gettext_lazy
from pytest_django import Settings
from redis import Redis

import trajectories
from tests.examples import CAMEL, REFERENCE, body
from tests.processes import PROJECT, wait_until
from tests.test_relay_host import is_relay_here
from trajectories import relay
from trajectories.domain import answers
from trajectories.exceptions import Deleted, InvalidInput, PhasesDropped, RevisionMismatch, TooLarge
from trajectories.storage.store import get_store

TENANT = "alice"


def waiting() -> list[UUID]:
    return [row.record.id for row in get_store().outbox.waiting(0, 100)]


@pytest.mark.parametrize("trajectory", [REFERENCE, orjson.dumps(REFERENCE), CAMEL, UserDict(REFERENCE)])
def test_a_dict_or_json_in_either_dialect_is_durable_and_returned_with_its_id(trajectory: Any) -> None:
    accepted = trajectories.record(TENANT, trajectory)
    assert accepted.is_new
    assert waiting() == [accepted.id]
    shown = orjson.loads(answers.whole(accepted.record))
    assert (shown["id"], shown["recorded_at"][-1]) == (str(accepted.id), "Z")


def test_a_stored_trajectory_is_updated_and_replaced_only_if_asked(db: None) -> None:
    first = trajectories.record(TENANT, body(phases=[{"phase_name": "spec"}])).record
    updated = trajectories.update(TENANT, first.id, {"total_cost_usd": Decimal("0.5")}, if_match={first.revision})
    assert orjson.loads(updated.record.body)["total_cost_usd"] == 0.5
    with pytest.raises(RevisionMismatch):
        trajectories.update(TENANT, first.id, {"project": "p"}, if_match={first.revision})
    with pytest.raises(PhasesDropped):
        trajectories.record(TENANT, body(id=first.id))
    assert not trajectories.record(TENANT, body(id=first.id), replace=True).is_new
    with pytest.raises(InvalidInput, match="tenant must be a slug"):
        trajectories.update("no slug", first.id, {})


def test_a_second_call_for_the_same_id_or_key_is_not_new() -> None:
    id_ = uuid4()
    for _ in range(2):
        first = trajectories.record(TENANT, body(id=id_))
        keyed = trajectories.record(TENANT, body(), idempotency_key="run 7")
    assert (first.id, first.is_new, keyed.is_new) == (id_, False, False)


def test_values_of_django_code_become_json() -> None:
    at = dt.datetime(2026, 11, 27, 8, tzinfo=dt.UTC)
    given = body(total_cost_usd=Decimal("0.25"), source=gettext_lazy("Monday"), started_at=at, id=uuid4())
    shown = orjson.loads(answers.whole(trajectories.record(TENANT, given).record))
    assert (shown["total_cost_usd"], shown["source"], shown["id"]) == (0.25, "Monday", str(given["id"]))
    assert dt.datetime.fromisoformat(shown["started_at"]) == at


@pytest.mark.parametrize("tenant", ["", "no slug", "-first", "a" * 65, "alice\n", "*", None, 7])
def test_a_tenant_that_is_no_slug_is_refused_with_the_value(tenant: Any) -> None:
    with pytest.raises(InvalidInput, match="tenant must be a slug") as refused:
        trajectories.record(tenant, REFERENCE)
    assert (refused.value.param, repr(tenant) in refused.value.message) == ("tenant", True)
    assert waiting() == []


@pytest.mark.parametrize(
    ("trajectory", "said"),
    [
        ({}, "request_summary"),
        (b"{", "JSON"),
        (body(metadata={"when": object()}), "not JSON serializable: object"),
        (body(metadata={7: "a number as key"}), "key"),
        ("{}", "must be a dict or JSON as bytes, got str"),
        ([REFERENCE], "got list"),
    ],
)
def test_a_trajectory_that_cannot_be_stored_is_refused_with_the_reason(trajectory: Any, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        trajectories.record(TENANT, trajectory)
    assert said in f"{refused.value.message} {refused.value.details}"
    assert waiting() == []


def test_limits_and_deletions_of_the_api_apply(settings: Settings) -> None:
    settings.TRAJECTORIES = settings.TRAJECTORIES | {"MAX_RECORD_BYTES": 1_000}
    with pytest.raises(TooLarge):
        trajectories.record(TENANT, body(error="e" * 1_000))
    gone = trajectories.record(TENANT, body())
    get_store().outbox.delete(TENANT, [gone.id])
    with pytest.raises(Deleted):
        trajectories.record(TENANT, body(id=gone.id))


@pytest.mark.django_db(transaction=True)
def test_a_rolled_back_transaction_keeps_the_record_unless_it_is_recorded_on_commit() -> None:
    with transaction.atomic():
        kept = trajectories.record(TENANT, body())
        transaction.on_commit(lambda: trajectories.record(TENANT, body()))
        transaction.set_rollback(True)
    assert waiting() == [kept.id]
    with transaction.atomic():
        transaction.on_commit(lambda: trajectories.record(TENANT, body()))
        assert waiting() == [kept.id]
    assert len(waiting()) == 2


@pytest.mark.usefixtures("outside_tests")
@pytest.mark.django_db(transaction=True)
def test_recording_starts_the_relay_of_the_process_unless_it_is_off(settings: Settings, redis_tier: Redis) -> None:
    trajectories.record(TENANT, body())
    assert not is_relay_here()
    settings.TRAJECTORIES = settings.TRAJECTORIES | {"RELAY_IN_PROCESS": True}
    trajectories.record(TENANT, body())
    try:
        wait_until(is_relay_here, what="the relay works in this process")
    finally:
        relay.stop()


def test_importing_the_package_loads_neither_django_nor_the_app() -> None:
    script = "import sys, trajectories; print(trajectories.record.__name__, *(n for n in sys.modules if 'django' in n))"
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["record"]
