"""Rows for the tests of the admin, made by the persist side."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import orjson
from django.test import Client
from model_bakery import baker

from tests import baker_recipes
from tests.examples import REFERENCE, phase
from trajectories.domain import schema
from trajectories.domain.clock import epoch_us
from trajectories.domain.late_outcomes import prepare
from trajectories.domain.record import Record, digest_of
from trajectories.models import Quarantined, Tenant, Trajectory
from trajectories.storage.archive_writes import mirror, quarantine

AT_US = epoch_us(datetime(2026, 1, 5, 23, 58, 46, 123456, UTC))


def text_of(shown: str) -> str:
    """Return the text of a page or a part of it, with a blank for each tag."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", shown)).split())


def record(given: dict[str, Any], *, tenant: str = "alice", at_us: int = AT_US) -> Record:
    text = schema.canonical(schema.parse(orjson.dumps({"id": str(uuid4())} | given)))
    return Record(tenant, UUID(orjson.loads(text)["id"]), at_us, digest_of(text), at_us, at_us, text)


def archived(given: dict[str, Any], *, tenant: str = "alice", at_us: int = AT_US) -> Trajectory:
    made = record(given, tenant=tenant, at_us=at_us)
    mirror([made])
    return Trajectory.objects.get(trajectory_id=made.id)


def with_outcome(row: Trajectory, **given: Any) -> None:
    """Add a late outcome to an archived run."""
    one = prepare(
        orjson.dumps(given), source="ci", now_us=AT_US, trajectory_id=row.trajectory_id, key=None, redact=False
    )
    mirror([Record(row.tenant_id, one.target, AT_US, one.id.hex, AT_US, AT_US, b"[%b]" % one.body)])


def quarantined(given: dict[str, Any], error: str, *, tenant: str = "alice") -> Quarantined:
    made = record(given, tenant=tenant)
    quarantine(made, error)
    return Quarantined.objects.get(trajectory_id=made.id)


def fill(count: int) -> None:
    """``count`` rows of every model and one more tenant; of the phases twice as many."""
    given = REFERENCE | {"phases": [phase(model="m", cost_usd=1), phase(outcome="skipped")], "tags": ["a"]}
    records = [record(given, at_us=AT_US + number) for number in range(count)]
    mirror(records)
    for made in records:
        quarantine(made, "value too long")
    baker_recipes.api_key.make(_quantity=count, tenant=Tenant.objects.get(pk="alice"))
    baker.make(Tenant, count)


def address(model: str, rest: str = "") -> str:
    return f"/admin/trajectories/{model}/{rest}"


def page_of(row: Any, action: str = "change") -> str:
    """Address of the page of a row."""
    return address(row._meta.model_name, f"{row.pk}/{action}/")


def page(client: Client, url: str) -> str:
    """The page; fails where there is none."""
    answer = client.get(url)
    assert answer.status_code == 200, url
    return answer.content.decode()
