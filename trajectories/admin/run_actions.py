"""Actions on selected runs: export them as a file, and delete them after a preview."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse

from trajectories.admin import formatting
from trajectories.admin.compare_runs import redirect_to_comparison
from trajectories.admin.filter_form import EncodingForm
from trajectories.admin.tenant_pages import DELETE, SEE, download, may
from trajectories.admin.tenants import actor_of
from trajectories.domain.text import counted
from trajectories.exceptions import DeletionIncomplete, TrajectoriesError
from trajectories.models import AuditEntry, Phase, Quarantined, Trajectory
from trajectories.services import deletion
from trajectories.services.exports import Page
from trajectories.storage.archive_writes import record_of
from trajectories.storage.store import get_store
from trajectories.training.export import export_selected


class RunActions:
    """Actions of the list of runs, for a ``ModelAdmin``."""

    actions: Any = ("compare", "export_runs", "delete_runs")

    def has_export_permission(self, request: HttpRequest) -> bool:
        return may(request, SEE)

    def has_runs_delete_permission(self, request: HttpRequest) -> bool:
        return may(request, DELETE)

    @admin.action(description="Compare selected runs", permissions=["view"])
    def compare(self, request: HttpRequest, queryset: QuerySet[Trajectory]) -> HttpResponseBase | None:
        return redirect_to_comparison(self, request, queryset)

    @admin.action(description="Export selected runs as a file", permissions=["export"])
    def export_runs(self, request: HttpRequest, queryset: QuerySet[Trajectory]) -> HttpResponseBase | None:
        return export_runs(self, request, queryset)

    @admin.action(description="Delete selected runs", permissions=["runs_delete"])
    def delete_runs(self, request: HttpRequest, queryset: QuerySet[Trajectory]) -> HttpResponseBase | None:
        return delete_runs(self, request, queryset)


MOST = 10_000
"""Runs that one action takes; the pages of a tenant take any number, by filters."""
_LISTED = 50
_PAGE = 100


def export_runs(model_admin: Any, request: HttpRequest, rows: QuerySet[Trajectory]) -> HttpResponseBase | None:
    """Return a form for the format; once it is filled in, the file."""
    if (chosen := _chosen(model_admin, request, rows)) is None:
        return None
    (tenant, *others), pks = sorted({tenant for tenant, _ in chosen.values()}), list(chosen)
    if others:
        model_admin.message_user(request, "Select runs of one tenant: a file has the runs of one.", messages.ERROR)
        return None
    form = EncodingForm(request.POST if "format" in request.POST else None)
    if form.is_bound and form.is_valid():
        try:
            pages = _pages(pks, tenant, actor_of(request))
            chunks = export_selected(get_store(), tenant, form.request, pages, encoding=form.encoding)
        except TrajectoriesError as error:
            form.add_error(None, error.message)
        else:
            return download(chunks, tenant, form)
    return _page(model_admin, request, "export_runs", f"Export {counted(len(pks), 'run')}", form=form, pks=pks)


def _pages(pks: Sequence[int], tenant: str, actor: str) -> Generator[Page, None, None]:
    count = 0
    try:
        for at in range(0, len(pks), _PAGE):
            rows = Trajectory.objects.filter(pk__in=pks[at : at + _PAGE]).order_by("seq")
            page = Page([record_of(row) for row in rows])
            count += page.count
            yield page
    finally:
        AuditEntry.objects.note("export", actor, {tenant: count})


def delete_runs(model_admin: Any, request: HttpRequest, rows: QuerySet[Trajectory]) -> HttpResponseBase | None:
    """Return a preview of the deletion; once it is confirmed, delete and return to the list."""
    if (chosen := _chosen(model_admin, request, rows)) is None:
        return None
    if request.POST.get("post") == "yes":
        _delete(model_admin, request, chosen)
        return None
    context = {"preview": _preview(chosen), "listed": _listed(list(chosen)[:_LISTED]), "pks": list(chosen)}
    return _page(model_admin, request, "delete_runs", f"Delete {counted(len(chosen), 'run')}?", **context)


def _delete(model_admin: Any, request: HttpRequest, chosen: dict[int, tuple[str, UUID]]) -> None:
    by_tenant: dict[str, list[UUID]] = {}
    for tenant, id_ in chosen.values():
        by_tenant.setdefault(tenant, []).append(id_)
    for tenant, ids in by_tenant.items():
        try:
            deletion.delete_selected(get_store(), tenant, ids, actor=actor_of(request))
        except DeletionIncomplete as error:
            model_admin.message_user(request, error.message, messages.WARNING)
        except TrajectoriesError as error:
            model_admin.message_user(request, error.message, messages.ERROR)
            return
    model_admin.message_user(request, f"{counted(len(chosen), 'run')} deleted.", messages.SUCCESS)


def _preview(chosen: dict[int, tuple[str, UUID]]) -> list[tuple[str, int]]:
    """Return what a deletion removes, with its number."""
    store, ids = get_store(), [id_ for _, id_ in chosen.values()]
    tenants = Counter(tenant for tenant, _ in chosen.values())
    waiting = sum(len(store.outbox.versions(tenant, id_)) for tenant, id_ in chosen.values())
    quarantined = Quarantined.objects.filter(tenant__in=list(tenants), trajectory_id__in=ids).count()
    return [
        *((f"runs of {tenant} in the archive", count) for tenant, count in sorted(tenants.items())),
        ("their phases", Phase.objects.filter(trajectory__in=list(chosen)).count()),
        ("quarantined versions", quarantined),
        ("versions in the outbox of this host", waiting),
    ]


def _listed(pks: Sequence[int]) -> list[tuple[UUID, str]]:
    rows = Trajectory.objects.filter(pk__in=pks).order_by("seq")
    return [(row.trajectory_id, formatting.summary(row.canonical.decode())) for row in rows.iterator(chunk_size=10)]


def _chosen(model_admin: Any, request: HttpRequest, rows: QuerySet[Trajectory]) -> dict[int, tuple[str, UUID]] | None:
    """Return tenant and id of the selected rows by primary key, in export order; None if there are
    none, or too many."""
    found = rows.order_by("seq").values_list("pk", "tenant_id", "trajectory_id")[: MOST + 1]
    chosen = {pk: (tenant, id_) for pk, tenant, id_ in found}
    if len(chosen) > MOST:
        text = f"At most {MOST:,} runs at a time. The page of a tenant takes all that match filters."
        model_admin.message_user(request, text, messages.ERROR)
        return None
    return chosen or None  # none is left if others deleted them


def _page(model_admin: Any, request: HttpRequest, name: str, title: str, **context: Any) -> HttpResponseBase:
    request.current_app = model_admin.admin_site.name
    shared = model_admin.admin_site.each_context(request) | {
        "title": title,
        "opts": model_admin.opts,
        "media": model_admin.media,
        "action": name,
    }
    return TemplateResponse(request, f"admin/trajectories/trajectory/{name}.html", shared | context)
