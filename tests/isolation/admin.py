"""The admin's part of the matrix: which views and parameters there are, as the admin site says, and
what to send."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import uuid4

from django.contrib.admin import ModelAdmin
from django.contrib.admin import site as admin_site
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db.models import ForeignKey, Model
from django.test import Client, RequestFactory
from django.urls import URLPattern, URLResolver, reverse

from tests import baker_recipes
from tests.admin.rows import archived, quarantined
from tests.examples import body, phase
from trajectories.domain.clock import now_us
from trajectories.domain.query import encode_cursor
from trajectories.domain.record import LOWEST_ID, Position
from trajectories.models import AuditEntry, Phase, Tenant
from trajectories.workspace import Annotation, SavedView

APP = "trajectories"

# Views that every model of an admin site has.
MODEL_VIEWS = {"changelist", "add", "history", "delete", "change", ""}  # "" leads to change
# Views that one model has beside those.
OWN_VIEWS: dict[str, set[str]] = {
    "tenant": {"export", "import", "readiness", "delete_runs", "trajectories_health"},
    "trajectory": {"overview", "compare", "compare_runs", "evaluate", "live", "annotate"},
}

# Those of them that name no row, and why they reveal no tenant.
_NAMED_IN_TESTS = "tests/admin/test_overview.py, test_compare.py and test_evaluation.py name the other tenant"
ROWLESS_VIEWS = {
    "trajectories_health": "for users who see every tenant",
    "live": "the rows of the list; tests/admin/test_run_list.py names the other tenant",
} | dict.fromkeys(("overview", "compare", "compare_runs", "evaluate"), _NAMED_IN_TESTS)
WITH_ROW = ("history", "delete", "change", "")

# Views of the admin site, and why they reveal no tenant; None where the matrix covers them.
SITE_VIEWS: dict[str, str | None] = {
    "index": "models, what the user did, and the overview of a tenant that the user may see",
    "login": "before anybody is known",
    "logout": "of the session",
    "password_change": "of the user",
    "password_change_done": "of the user",
    "autocomplete": None,
    "jsi18n": "words",
    "view_on_site": None,
    "app_list": "models",
    "": "what nothing else has matched",
}

# Values of changelist filters that would find the row of the other tenant.
FILTERS = {
    ("tenant", "q"): "bob",
    ("apikey", "q"): "{row.prefix}",
    ("apikey", "state"): "good",
    ("apikey", "tenant"): "bob",
    ("trajectory", "q"): "{row.trajectory_id}",
    ("trajectory", "days"): "1",
    ("trajectory", "tenant"): "bob",
    ("trajectory", "project"): "project-of-bob",
    ("trajectory", "source"): "source-of-bob",
    ("trajectory", "request_type"): "type-of-bob",
    ("trajectory", "policy"): "policy-of-bob",
    ("trajectory", "outcome"): "partial",
    ("trajectory", "phase"): "phase-of-bob",
    ("trajectory", "model"): "model-of-bob",
    ("trajectory", "selection_method"): "method-of-bob",
    ("trajectory", "agent"): "agent-of-bob",
    ("trajectory", "tool"): "tool-of-bob",
    ("trajectory", "credited"): "partial",
    ("trajectory", "fit"): "failed",
    ("trajectory", "build_passed"): "false",
    ("trajectory", "tests_passed"): "false",
    ("trajectory", "tag"): "tag-of-bob",
    ("trajectory", "since"): "1d",
    ("trajectory", "until"): "2999-01-01",
    ("trajectory", "started_since"): "2026-01-01",
    ("trajectory", "started_until"): "2999-01-01",
    ("trajectory", "min_cost_usd"): "1",
    ("trajectory", "max_cost_usd"): "9",
    ("trajectory", "min_duration_ms"): "1",
    ("trajectory", "max_duration_ms"): "9",
    ("savedview", "q"): "of-bob",
    ("phase", "q"): "{row.trajectory.trajectory_id}",
    ("phase", "outcome"): "partial",
    ("quarantined", "q"): "{row.trajectory_id}",
    ("quarantined", "tenant"): "bob",
    ("auditentry", "q"): "{row.target}",
    ("auditentry", "action"): "export",
    ("auditentry", "tenant"): "bob",
}

# Fields that an action sends beside the rows.
ACTIONS: dict[tuple[str, str], dict[str, str]] = {
    ("apikey", "revoke"): {},
    ("trajectory", "compare"): {},
    ("quarantined", "replay"): {},
    ("tenant", "push_to_hub"): {},
    ("trajectory", "export_runs"): {"format": "jsonl", "file": "jsonl", "compression": "none"},
    ("trajectory", "delete_runs"): {"post": "yes"},
}

# Form fields that name the other tenant.
FIELDS = {("apikey", "tenant"): {"tenant": "bob", "name": "theirs", "scopes": ["read"]}}


class Case(NamedTuple):
    model: str
    view: str
    parameter: str


def rows_of(tenant: str) -> dict[str, Model]:
    """A row of every model, of this tenant."""
    owner, _ = Tenant.objects.get_or_create(slug=tenant)
    is_bob = tenant == "bob"
    ran = phase(
        phase_name=f"phase-of-{tenant}",
        outcome="partial" if is_bob else "success",
        model=f"model-of-{tenant}",
        model_selection_method=f"method-of-{tenant}",
        agent=f"agent-of-{tenant}",
        tools_used=[f"tool-of-{tenant}"],
        fit="failed" if is_bob else "good_fit",
    )
    given = body(
        request_summary=f"of-{tenant}",
        **{name: f"{name}-of-{tenant}" for name in ("project", "source", "policy")},
        request_type=f"type-of-{tenant}",
        outcome="partial" if is_bob else "success",
        tags=[f"tag-of-{tenant}"],
        **dict.fromkeys(("build_passed", "tests_passed"), not is_bob),
        started_at="2026-01-05T12:00:00Z",
        total_cost_usd=5,
        total_duration_ms=5,
        phases=[ran],
    )
    trajectory = archived(given, tenant=tenant, at_us=now_us())
    Annotation.objects.create(
        tenant=owner, trajectory_id=trajectory.trajectory_id, note=f"note-of-{tenant}", author="olga"
    )
    return {
        "tenant": owner,
        "apikey": baker_recipes.api_key.make(tenant=owner, name=f"of-{tenant}", scopes="read"),
        "trajectory": trajectory,
        "phase": Phase.objects.select_related("trajectory").get(trajectory=trajectory),
        "quarantined": quarantined(given, f"error-of-{tenant}", tenant=tenant),
        "auditentry": _audited(tenant),
        "savedview": SavedView.objects.create(
            name=f"view-of-{tenant}",
            querystring=f"tenant={tenant}",
            owner=f"owner-of-{tenant}",
            tenant=tenant,
            is_shared=True,
        ),
    }


def _audited(tenant: str) -> AuditEntry:
    AuditEntry.objects.note("export" if tenant == "bob" else "delete", f"key of-{tenant}", {tenant: 1}, str(uuid4()))
    return AuditEntry.objects.get(tenant=tenant, actor=f"key of-{tenant}")


def staff(*, tenant: str, permissions: Any) -> Client:
    """A client of somebody of the staff who is bound to this tenant."""
    user = baker_recipes.staff_of(tenant, username=f"staff-of-{tenant}")
    user.user_permissions.set(permissions)
    client = Client()
    client.force_login(user)
    return client


def models() -> dict[str, ModelAdmin[Any]]:
    """The admins of this app by the name of their model."""
    return {
        model._meta.model_name or "": model_admin
        for model, model_admin in admin_site._registry.items()
        if model._meta.app_label == APP
    }


def site_views() -> set[str]:
    return {str(pattern.name or "") for pattern in admin_site.get_urls() if isinstance(pattern, URLPattern)}


def model_views(model_admin: ModelAdmin[Any]) -> set[str]:
    """Names of the views of an admin, without those of app and model in them."""
    prefix = f"{APP}_{model_admin.opts.model_name}_"
    return {_name(pattern).removeprefix(prefix) for pattern in model_admin.get_urls()}


def _name(pattern: URLPattern | URLResolver) -> str:
    return str(getattr(pattern, "name", None) or "")


def cases() -> list[Case]:
    """Each thing that a request to an admin of the app can name."""
    found = [Case(name, "view_on_site", "object_id") for name in models()]
    for name, model_admin in models().items():
        found += [Case(name, view, "object_id") for view in model_views(model_admin) if takes_row(model_admin, view)]
        found += [Case(name, "changelist", f"filter {parameter}") for parameter in _filters(model_admin)]
        found += [Case(name, "live", "after")] if "live" in model_views(model_admin) else []
        found += [Case(name, "changelist", f"action {action}") for action in _actions(model_admin)]
        found += [Case(name, "changelist", parameter) for parameter in ("p", "o", "all", "_to_field", "tenant__slug")]
        found += [Case(name, view, f"field {field}") for view in ("add", "change") for field in _relations(model_admin)]
        found += [Case(name, "autocomplete", field) for field in model_admin.autocomplete_fields]
    return sorted(found)


def takes_row(model_admin: ModelAdmin[Any], view: str) -> bool:
    prefix = f"{APP}_{model_admin.opts.model_name}_"
    routes = {_name(pattern).removeprefix(prefix): str(pattern.pattern) for pattern in model_admin.get_urls()}
    return "object_id" in routes[view]


def _filters(model_admin: ModelAdmin[Any]) -> Iterator[str]:
    if model_admin.search_fields:
        yield "q"
    for given in model_admin.list_filter:
        yield str(getattr(given, "parameter_name", given))


def _actions(model_admin: ModelAdmin[Any]) -> list[str]:
    request = RequestFactory().get("/")
    request.user = User(is_active=True, is_staff=True, is_superuser=True)
    return sorted(model_admin.get_actions(request))


def _relations(model_admin: ModelAdmin[Any]) -> list[str]:
    fields = model_admin.opts.get_fields()
    # The archive is read-only in the admin; the views with a row show that.
    return sorted(
        f.name for f in fields if isinstance(f, ForeignKey) and (model_admin.opts.model_name, f.name) in FIELDS
    )


def typed(case: Case, row: Model) -> str:
    """Return the text that a person types to send ``case``; the answer repeats it."""
    kind, _, name = case.parameter.partition(" ")
    return FILTERS[case.model, name].format(row=row) if kind == "filter" else ""


def send(client: Client, case: Case, row: Model) -> Any:
    """The request of ``case`` that names ``row``; the answer at the end of its redirects."""
    kind, _, name = case.parameter.partition(" ")
    if kind == "object_id":
        return _with_row(client, case, row)
    if case.view == "autocomplete":
        asked = {"app_label": APP, "model_name": case.model, "field_name": case.parameter, "term": "bob"}
        return client.get(reverse("admin:autocomplete"), asked)
    if case.view == "live":
        after = encode_cursor(Position(0, LOWEST_ID))
        return client.get(reverse(f"admin:{APP}_{case.model}_live"), {"after": after, "project": "project-of-bob"})
    address = reverse(f"admin:{APP}_{case.model}_changelist")
    if kind == "filter":
        return client.get(address, {name: typed(case, row)}, follow=True)
    if kind == "action":
        data = {"action": name, "_selected_action": [str(row.pk)], "index": "0"} | ACTIONS[case.model, name]
        return client.post(address, data, follow=True)
    if kind == "field":
        address = _address(case.model, case.view, None if case.view == "add" else row)
        return client.post(address, FIELDS[case.model, name], follow=True)
    return client.get(
        address, {case.parameter: {"p": "1", "o": "-1", "all": ""}.get(case.parameter, "bob")}, follow=True
    )


def _with_row(client: Client, case: Case, row: Model) -> Any:
    if case.view == "view_on_site":
        kind = ContentType.objects.get_for_model(row)
        return client.get(reverse("admin:view_on_site", args=[kind.pk, row.pk]))
    address = _address(case.model, case.view, row)
    if case.view == "delete":
        return client.post(address, {"post": "yes"}, follow=True)
    if case.view == "annotate":
        return client.post(address, {"note": "seen"}, follow=True)
    return client.get(address, follow=True)


def _address(model: str, view: str, row: Model | None) -> str:
    if row is not None and not view:
        return f"{reverse(f'admin:{APP}_{model}_changelist')}{row.pk}/"
    return reverse(f"admin:{APP}_{model}_{view}", args=[] if row is None else [row.pk])
