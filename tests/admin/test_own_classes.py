"""A host project replaces our admin classes, or registers them on a site of its own."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin import AdminSite
from django.http import HttpRequest
from django.test import Client
from django.urls import path
from pytest_django import Settings

from tests.admin.rows import archived
from tests.admin.sample import archive_sample
from tests.examples import REFERENCE
from trajectories.admin import ApiKeyAdmin, PhaseAdmin, TenantAdmin, TrajectoryAdmin
from trajectories.models import ApiKey, Phase, Tenant, Trajectory

pytestmark = pytest.mark.django_db


class OnlyNames(TenantAdmin):
    """The admin classes of a host project: another list, and no tenants made by hand."""

    list_display = ("slug", "records")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


def use_urls(settings: Settings, *sites: tuple[str, AdminSite]) -> None:
    urls: Any = ModuleType("urls_of_a_host")
    urls.urlpatterns = [path(prefix, site.urls) for prefix, site in sites]
    settings.ROOT_URLCONF = urls


@pytest.fixture
def own_admin(settings: Settings) -> Iterator[None]:
    admin.site.unregister(Tenant)
    admin.site.register(Tenant, OnlyNames)
    use_urls(settings, ("admin/", admin.site))
    yield
    admin.site.unregister(Tenant)
    admin.site.register(Tenant, TenantAdmin)


@pytest.fixture
def ops(settings: Settings) -> AdminSite:
    """A second admin site with our classes, beside Django's; it does not have trajectories."""
    site = AdminSite(name="ops")
    for model, model_admin in ((Tenant, TenantAdmin), (ApiKey, ApiKeyAdmin), (Phase, PhaseAdmin)):
        site.register(model, model_admin)
    use_urls(settings, ("admin/", admin.site), ("ops/", site))
    return site


def test_runs_open_on_a_site_that_has_no_saved_views(admin_client: Client, ops: AdminSite, settings: Settings) -> None:
    ops.register(Trajectory, TrajectoryAdmin)
    use_urls(settings, ("admin/", admin.site), ("ops/", ops))
    row = archived(REFERENCE)
    for address in ("/ops/trajectories/trajectory/?live=1", f"/ops/trajectories/trajectory/{row.pk}/change/"):
        answer = admin_client.get(address)
        assert answer.status_code == 200
        assert "/admin/trajectories" not in answer.content.decode()


@pytest.mark.usefixtures("own_admin")
def test_a_subclass_that_is_registered_in_place_of_ours_is_used(admin_client: Client) -> None:
    archived(REFERENCE)
    page = admin_client.get("/admin/trajectories/tenant/").content.decode()
    assert "column-slug" in page
    assert "column-good_keys" not in page
    assert admin_client.get("/admin/trajectories/tenant/add/").status_code == 403


def test_links_stay_on_the_site_that_shows_them(admin_client: Client, ops: AdminSite) -> None:
    archived(REFERENCE)
    page = admin_client.get("/ops/trajectories/tenant/").content.decode()
    assert 'href="/ops/trajectories/apikey/?tenant=alice"' in page
    given = {"tenant": "alice", "name": "ci", "scopes": ["record"]}
    issued = admin_client.post("/ops/trajectories/apikey/add/", given).content.decode()
    assert 'href="/ops/trajectories/apikey/"' in issued
    assert "/admin/trajectories" not in page + issued


def test_models_outside_the_admin_site_are_text_and_no_link(admin_client: Client, ops: AdminSite) -> None:
    row = archived(REFERENCE)
    tenants, phases = (admin_client.get(f"/ops/trajectories/{model}/") for model in ("tenant", "phase"))
    assert (tenants.status_code, phases.status_code) == (200, 200)
    assert str(row.trajectory_id)[:8] in phases.content.decode()
    assert "trajectories/trajectory/" not in tenants.content.decode() + phases.content.decode()


def test_the_pages_of_figures_stay_on_the_site_that_shows_them(admin_client: Client, settings: Settings) -> None:
    site = AdminSite(name="ops")
    site.register(Trajectory, TrajectoryAdmin)
    use_urls(settings, ("admin/", admin.site), ("ops/", site))
    runs = archive_sample(12)
    several = "&".join(f"run={row.pk}" for row in runs[:2])
    for page in (
        "",
        "trajectory/overview/",
        "trajectory/compare/?b_policy=router@2",
        f"trajectory/compare/runs/?{several}",
    ):
        shown = admin_client.get(f"/ops/trajectories/{page}").content.decode()
        assert 'href="/ops/trajectories/trajectory/' in shown, page
        assert '"/admin/' not in shown, page
