"""Pages of one tenant: export, import, readiness, and deletion by filters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseRedirect, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.http import urlencode

from trajectories.admin import import_file, readiness_lines
from trajectories.admin.filter_form import EncodingForm, ExportForm, FilterForm
from trajectories.admin.scope import runs_address
from trajectories.admin.tenants import actor_of
from trajectories.domain.query import parse_query
from trajectories.domain.text import counted
from trajectories.exceptions import TrajectoriesError
from trajectories.models import AuditEntry, Tenant
from trajectories.services import deletion
from trajectories.storage.store import get_store
from trajectories.training import readiness
from trajectories.training.export import export

SEE, ADD, DELETE = "view_trajectory", "add_trajectory", "delete_trajectory"
_TYPES = {".gz": "application/gzip", ".zst": "application/zstd", ".parquet": "application/vnd.apache.parquet"}


def urls(model_admin: Any) -> list[URLPattern]:
    """Return the addresses of the pages, for ``ModelAdmin.get_urls``."""
    pages = {"export": export_page, "import": import_page, "readiness": readiness_page, "delete-runs": deletion_page}
    return [
        path(
            f"<path:object_id>/{name}/",
            model_admin.admin_site.admin_view(_of(model_admin, page)),
            name=f"trajectories_tenant_{name.replace('-', '_')}",
        )
        for name, page in pages.items()
    ]


def links(model_admin: Any, request: HttpRequest, tenant: Tenant) -> list[tuple[str, str]]:
    """Return names and addresses of the pages that the user of ``request`` may open."""
    needed = {"export": SEE, "readiness": SEE, "import": ADD, "delete_runs": DELETE}
    return [
        (name.replace("_", " ").capitalize(), _address(model_admin, name, tenant))
        for name, permission in needed.items()
        if may(request, permission)
    ]


def _address(model_admin: Any, name: str, tenant: Tenant, given: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return the address of a page of ``tenant``, with these filters in it."""
    address = reverse(f"admin:trajectories_tenant_{name}", args=[tenant.pk], current_app=model_admin.admin_site.name)
    return f"{address}?{urlencode(given)}" if given else address


def may(request: HttpRequest, permission: str) -> bool:
    """Return whether the user of ``request`` has a permission on trajectories."""
    return request.user.has_perm(f"trajectories.{permission}")


Page = Callable[[Any, HttpRequest, Tenant], HttpResponseBase]


def _of(model_admin: Any, page: Page) -> Callable[..., HttpResponseBase]:
    def view(request: HttpRequest, object_id: str) -> HttpResponseBase:
        tenant = model_admin.get_object(request, object_id)
        if tenant is None or not model_admin.has_view_permission(request, tenant):
            raise Http404("There is no such tenant.")
        return page(model_admin, request, tenant)

    return view


def export_page(model_admin: Any, request: HttpRequest, tenant: Tenant) -> HttpResponseBase:
    """Export the runs that match a form, as a file."""
    _expect(request, SEE)
    form = ExportForm(request.POST) if request.method == "POST" else ExportForm(initial=request.GET.dict())
    if form.is_bound and form.is_valid():
        try:
            chunks = export(get_store(), tenant.pk, form.request, encoding=form.encoding, actor=actor_of(request))
        except TrajectoriesError as error:
            form.add_error(None, error.message)
        else:
            return download(chunks, tenant.pk, form)
    return _page(model_admin, request, tenant, "export", f"Export the runs of {tenant.pk}", form=form)


def download(chunks: Iterable[bytes], name: str, form: EncodingForm) -> StreamingHttpResponse:
    """Return an export as a file of this name."""
    type_ = _TYPES.get("." + form.suffix.rpartition(".")[2], "application/x-ndjson")
    response = StreamingHttpResponse(chunks, content_type=type_)
    response["Content-Disposition"] = f'attachment; filename="{name}{form.suffix}"'
    return response


class ImportForm(forms.Form):
    """A file of runs."""

    file = forms.FileField(
        help_text="Choose a file, or drop it here: JSON lines, one JSON object, or an array of them; plain, .gz or .zst."
        f" At most {import_file.MAX_RUNS:,} runs and {import_file.MAX_BYTES // 2**20} MiB unpacked; the SDK's command"
        " imports more."
    )
    replace = forms.BooleanField(
        required=False, help_text="A run may lose phases that the store has. Without this, such a run is refused."
    )


def import_page(model_admin: Any, request: HttpRequest, tenant: Tenant) -> HttpResponseBase:
    """Record the runs of a file, and show what became of each."""
    _expect(request, ADD)
    form, summary = ImportForm(request.POST or None, request.FILES or None), None
    if form.is_bound and form.is_valid():
        file = form.cleaned_data["file"]
        try:
            summary = import_file.record_file(
                get_store(), tenant.pk, file.chunks(), name=file.name, replace=form.cleaned_data["replace"]
            )
        except TrajectoriesError as error:
            form.add_error("file", error.message)
        else:
            AuditEntry.objects.note("import", actor_of(request), {tenant.pk: summary.accepted})
    title = f"Import runs of {tenant.pk}"
    runs = runs_address(model_admin.admin_site.name, tenant.pk)
    return _page(model_admin, request, tenant, "import", title, form=form, summary=summary, runs_address=runs)


def readiness_page(model_admin: Any, request: HttpRequest, tenant: Tenant) -> HttpResponseBase:
    """Say whether the newest runs are worth training on, and what to do where they are not."""
    _expect(request, SEE)
    form, context = FilterForm(request.GET), {}
    if form.is_valid():
        store = get_store()
        try:
            query = parse_query(form.given, store.now_us())
            found = readiness.readiness(store, tenant.pk, query)
            context = {
                "found": found,
                "sentence": readiness_lines.sentence(found),
                "lines": readiness_lines.lines(found["checks"]),
                "warnings": list(readiness_lines.warnings(found["warnings"])),
                "export_address": _address(model_admin, "export", tenant, form.given),
            }
        except TrajectoriesError as error:
            form.add_error(None, error.message)
    title = f"Is the data of {tenant.pk} worth training on?"
    return _page(model_admin, request, tenant, "readiness", title, form=form, **context)


class DeletionForm(FilterForm):
    is_filter_required = True
    token = forms.CharField(required=False, widget=forms.HiddenInput)


def deletion_page(model_admin: Any, request: HttpRequest, tenant: Tenant) -> HttpResponseBase:
    """Count the runs that match a form; delete them once the count is confirmed."""
    _expect(request, DELETE)
    form, found = DeletionForm(request.POST or None, initial=request.GET.dict()), None
    if form.is_bound and form.is_valid():
        try:
            if token := form.cleaned_data["token"]:
                gone = deletion.delete_matching(get_store(), tenant.pk, form.given, token, actor=actor_of(request))
                more = " More match: delete again." if gone.has_more else ""
                messages.success(request, f"{counted(gone.count, 'run')} deleted.{more}")
                return HttpResponseRedirect(request.path)
            found = deletion.matching(get_store(), tenant.pk, form.given)
        except TrajectoriesError as error:
            form.add_error(None, error.message)
    title = f"Delete runs of {tenant.pk}"
    return _page(model_admin, request, tenant, "delete_runs", title, form=form, found=found)


def _expect(request: HttpRequest, permission: str) -> None:
    if not may(request, permission):
        raise PermissionDenied


def _page(
    model_admin: Any, request: HttpRequest, tenant: Tenant, name: str, title: str, **context: Any
) -> TemplateResponse:
    request.current_app = model_admin.admin_site.name  # for the links of the page
    shared = model_admin.admin_site.each_context(request) | {
        "title": title,
        "opts": model_admin.opts,
        "tenant": tenant,
        "media": model_admin.media,
        "pages": links(model_admin, request, tenant),
    }
    return TemplateResponse(request, f"admin/trajectories/tenant/{name}.html", shared | context)
