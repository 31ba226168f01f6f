"""Staff bound to a tenant cannot find out in the admin whether another tenant's row exists."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin import site as admin_site
from django.contrib.auth.models import Group, Permission, User
from django.core import serializers
from django.db.models import Model
from django.test import Client, RequestFactory

from tests import baker_recipes
from tests.admin.rows import address, page
from tests.isolation import admin
from trajectories.admin.tenants import tenants_of
from trajectories.models import AuditEntry, Tenant
from trajectories.workspace import Annotation, SavedView

pytestmark = [pytest.mark.abuse, pytest.mark.django_db]

_TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="\w+"')

# A superuser gets the same answer with and without the row, so these cases cannot prove that they
# named it.
_SAME_FOR_ALL = {"delete", "view_on_site", "_to_field", "tenant__slug"}

HEAD = ("surface", "endpoint", "cases")


@pytest.fixture
def theirs() -> dict[str, Model]:
    """A row of every model that is bob's."""
    return admin.rows_of("bob")


@pytest.fixture
def alices_staff() -> Client:
    """Somebody who may do everything in the app, and is bound to alice."""
    admin.rows_of("alice")
    permissions = Permission.objects.filter(content_type__app_label=admin.APP)
    return admin.staff(tenant="alice", permissions=permissions)


def told(answer: Any) -> tuple[int, list[tuple[str, int]], str]:
    """Return everything a browser receives, except tokens that change each time."""
    return answer.status_code, getattr(answer, "redirect_chain", []), _TOKEN.sub("TOKEN", answer.content.decode())


def stored(row: Model) -> str:
    """The row as the database has it."""
    return str(serializers.serialize("json", [type(row)._default_manager.get(pk=row.pk)]))


def forget_bob() -> None:
    Tenant.objects.filter(pk="bob").delete()
    for model in (AuditEntry, SavedView):
        model._default_manager.filter(tenant="bob").delete()  # no foreign key leads to it


@pytest.mark.parametrize("case", admin.cases(), ids="-".join)
def test_data_of_another_tenant_is_answered_like_missing_data(
    case: admin.Case, alices_staff: Client, theirs: dict[str, Model], tabulate: Callable[..., None]
) -> None:
    row = theirs[case.model]
    before = stored(row)
    there = told(admin.send(alices_staff, case, row))
    assert stored(row) == before
    assert not Annotation.objects.filter(note="seen").exists()
    assert not re.search(r"(of|staff)-bob", there[2].replace(admin.typed(case, row) or "\0", ""))
    pk = row.pk
    forget_bob()
    row.pk = pk
    assert told(admin.send(alices_staff, case, row)) == there
    tabulate("isolation", HEAD, "admin", f"{case.model} {case.view or 'short address'}")


_CONTROLLED = [
    case
    for case in admin.cases()
    if _SAME_FOR_ALL.isdisjoint((case.view, case.parameter)) and not case.parameter.startswith("action")
]


@pytest.mark.parametrize("case", _CONTROLLED, ids="-".join)
def test_the_same_request_of_a_superuser_does_find_it(
    case: admin.Case, admin_client: Client, theirs: dict[str, Model]
) -> None:
    """Check that the matrix asks for rows that exist."""
    row = theirs[case.model]
    there, pk = told(admin.send(admin_client, case, row)), row.pk
    forget_bob()
    row.pk = pk
    assert told(admin.send(admin_client, case, row)) != there


def test_every_model_view_and_parameter_is_in_the_matrix(theirs: dict[str, Model]) -> None:
    where = "tests/isolation/admin.py"
    assert set(admin.models()) == set(theirs), f"A model is new or gone: have rows_of in {where} make a row of it."
    for name, model_admin in admin.models().items():
        assert admin.model_views(model_admin) == admin.MODEL_VIEWS | admin.OWN_VIEWS.get(name, set()), (
            f"The admin of {name} has a view of its own: add it to OWN_VIEWS in {where}, and name its row object_id."
        )
        without_row = {view for view in admin.OWN_VIEWS.get(name, set()) if not admin.takes_row(model_admin, view)}
        assert without_row <= set(admin.ROWLESS_VIEWS), f"Say in ROWLESS_VIEWS in {where} why a view reveals no tenant."
    for case in admin.cases():
        kind, _, parameter = case.parameter.partition(" ")
        known = {"filter": set(admin.FILTERS), "action": set(admin.ACTIONS)}.get(kind)
        assert known is None or (case.model, parameter) in known, (
            f"{case} is new: add to {kind.upper()}S in {where} what finds the row of bob."
        )
    forms = {(name, field) for name, model_admin in admin.models().items() for field in _editable(model_admin)}
    assert forms == set(admin.FIELDS), f"A form has got a field that names rows: add it to FIELDS in {where}."


def test_every_view_of_the_admin_site_is_in_the_matrix() -> None:
    assert admin.site_views() == set(admin.SITE_VIEWS), (
        "The admin site has another view: add it to SITE_VIEWS in tests/isolation/admin.py with the reason why it cannot tell"
        " of tenants, or have cases() ask it."
    )


def _editable(model_admin: Any) -> list[str]:
    """Relations that the form for a new row asks for."""
    request = RequestFactory().get("/")
    request.user = User(is_active=True, is_staff=True, is_superuser=True)
    if not model_admin.has_add_permission(request):
        return []
    fields = model_admin.get_form(request).base_fields
    return [name for name, field in fields.items() if hasattr(field, "queryset")]


def test_staff_of_a_tenant_see_its_rows(alices_staff: Client, theirs: dict[str, Model]) -> None:
    for model in admin.models():
        shown = page(alices_staff, address(model))
        assert re.search("alice", shown), model
        assert "bob" not in shown, model


def test_staff_of_no_tenant_see_no_rows_and_staff_of_every_tenant_see_all(theirs: dict[str, Model]) -> None:
    permissions = Permission.objects.filter(content_type__app_label=admin.APP)
    every = admin.staff(tenant="*", permissions=permissions)
    nobodys = admin.staff(tenant="carol", permissions=permissions)
    for model, row in theirs.items():
        assert f"/{row.pk}/change/" in page(every, address(model)), model
        assert f"/{row.pk}/change/" not in page(nobodys, address(model)), model


def test_staff_who_are_bound_to_a_tenant_cannot_create_tenants(alices_staff: Client) -> None:
    assert alices_staff.post(address("tenant", "add/"), {"slug": "bob", "name": ""}).status_code == 403


def test_a_group_binds_by_its_exact_name() -> None:
    user = baker_recipes.staff.make()
    for name in ("tenant:alice", "TENANT:bob", "tenant", "tenants:carol"):
        user.groups.add(Group.objects.create(name=name))
    request = RequestFactory().get("/")
    request.user = user
    assert tenants_of(request) == frozenset({"alice"})


def test_no_other_admin_shows_data_of_the_app() -> None:
    """Another app that registers one of these models would show it without the binding."""
    assert all(hasattr(model_admin, "tenant_path") for model_admin in admin.models().values())
    others = {model._meta.label for model in admin_site._registry if model._meta.app_label != admin.APP}
    assert others == {"auth.User", "auth.Group"}
