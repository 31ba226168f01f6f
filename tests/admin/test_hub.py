"""The admin action that pushes to the Hub: its page, who may use it, and what it sends to a worker."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from kombu.exceptions import OperationalError

from tests.isolation.admin import APP, staff
from trajectories.models import Tenant
from trajectories.training.hub import Target

pytestmark = pytest.mark.django_db

FILLED = {
    "repository": "org/runs",
    "format": "sft",
    "file": "parquet",
    "split": "train=0.9,test=0.1",
    "license": "",
    "is_public": "",
}


def act(client: Client, *slugs: str, **fields: str) -> Any:
    data: dict[str, Any] = {"action": "push_to_hub", "_selected_action": list(slugs), "index": "0"} | fields
    return client.post(reverse("admin:trajectories_tenant_changelist"), data, follow=True)


@pytest.fixture(autouse=True)
def tenants() -> None:
    for slug in ("alice", "bob"):
        Tenant.objects.create(slug=slug)


def test_the_form_leads_to_a_push_by_a_worker(admin_client: Client) -> None:
    page = act(admin_client, "alice").content.decode()
    assert "Push the runs of alice to the Hub" in page
    with patch("trajectories.admin.hub.enqueue") as enqueue:
        said = act(admin_client, "alice", **FILLED).content.decode()
    given = {"format": "sft", "split": "train=0.9,test=0.1"}
    enqueue.assert_called_once_with("alice", given, Target("org/runs"), file="parquet", actor="user admin")
    assert "A worker pushes to org/runs." in said


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"repository": "runs"}, "Use org/name."),
        ({"split": "train=2"}, "split must have shares above 0"),
        ({"is_public": "on"}, "A public data set needs a license."),
    ],
)
def test_a_wrong_field_is_said_and_nothing_is_pushed(admin_client: Client, fields: dict[str, str], said: str) -> None:
    with patch("trajectories.admin.hub.enqueue") as enqueue:
        page = act(admin_client, "alice", **FILLED | fields).content.decode()
    assert said in page
    enqueue.assert_not_called()


def test_one_tenant_is_pushed_at_a_time(admin_client: Client) -> None:
    assert "Select one tenant" in act(admin_client, "alice", "bob", **FILLED).content.decode()


def test_an_unavailable_broker_is_said(admin_client: Client) -> None:
    with patch("trajectories.admin.hub.enqueue", side_effect=OperationalError):
        assert "The broker is unavailable" in act(admin_client, "alice", **FILLED).content.decode()


@pytest.mark.parametrize(("more", "is_allowed"), [((), False), (("view_trajectory",), True)])
def test_a_push_needs_the_permission_to_see_records(more: tuple[str, ...], is_allowed: bool) -> None:
    codenames = ["view_tenant", "change_tenant", *more]
    found = Permission.objects.filter(content_type__app_label=APP, codename__in=codenames)
    client = staff(tenant="alice", permissions=found)
    with patch("trajectories.admin.hub.enqueue") as enqueue:
        act(client, "alice", **FILLED)
        assert enqueue.called is is_allowed
        act(client, "bob", **FILLED)
    assert enqueue.call_count == is_allowed
